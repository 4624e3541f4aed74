"""One page of the claims that this project was made for, and what its own tables say of them.

Reads the published folders next to this one and nothing else; README.md is written from them. The
ranks of C13 need weights and are taken from the run folder once, with `--runs`.

Command: `python -m results.claims.build [--runs runs]`, seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from results.claims import evolution, imitation, policy, questions, rank
from results.claims.finding import Finding
from results.claims.published import Published, read
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.core.text.markdown import grid

RESULTS = Path(__file__).resolve().parent
FOLDERS = (
    "es-forgetting",
    "facts",
    "lora-ranks",
    "frontier",
    "staged",
    "quick",
    "compositions",
    RESULTS.name,
)
Runs = Mapping[str, Published]


class Claim(NamedTuple):
    """A published claim; METHODS 17 has the same list."""

    name: str
    statement: str
    source: str
    caveat: str
    ask: Callable[[Runs], Finding]


CLAIMS = (
    Claim(
        "C1",
        "ES drifts far more than GRPO at the same gain, by a factor above 10",
        "arXiv:2601.20861, 2605.30148",
        "the factor depends on learning rate and population; the papers have 90 to 1,000",
        lambda runs: evolution.drift_at_equal_gain(runs["es-forgetting"]),
    ),
    Claim(
        "C2",
        "The drift of ES is a random walk: it grows with the square root of the updates",
        "arXiv:2601.20861",
        "anchored runs are left out",
        lambda runs: evolution.random_walk(runs["es-forgetting"]),
    ),
    Claim(
        "C3",
        "A larger ES population forgets less",
        "arXiv:2605.30148",
        "equal FLOPs: the larger population makes half as many updates on half the prompts",
        lambda runs: evolution.larger_population(runs["es-forgetting"]),
    ),
    Claim(
        "C4",
        "Decay towards the base lets ES forget less and keeps its gain",
        "arXiv:2605.30148",
        "one strength of the anchor",
        lambda runs: evolution.anchored(runs["es-forgetting"]),
    ),
    Claim(
        "C5",
        "DFT gains more than SFT on reasoning",
        "arXiv:2508.05629",
        "each at the best of three equal rates, chosen on the test items of both",
        lambda runs: imitation.dft_on_a_skill(runs["facts"]),
    ),
    Claim(
        "C6",
        "DFT gains less than SFT on facts that are new",
        "arXiv:2508.05629",
        "as C5",
        lambda runs: imitation.dft_on_facts(runs["facts"]),
    ),
    Claim(
        "C7",
        "LoRA learns less and forgets less than full training",
        "arXiv:2405.09673",
        "one rate for all ranks, another for full training",
        lambda runs: imitation.learns_and_forgets_less(runs["lora-ranks"]),
    ),
    Claim(
        "C8",
        "On-policy data forget less at the same gain",
        "arXiv:2510.18874, 2509.04259",
        "the rate with the smallest drop of each family",
        lambda runs: policy.forgets_less_on_policy(runs["frontier"]),
    ),
    Claim(
        "C9",
        "KL on the new task predicts forgetting",
        "arXiv:2509.04259",
        "cells are resampled, not items",
        lambda runs: policy.kl_predicts(runs["frontier"]),
    ),
    Claim(
        "C10",
        "With ES in the pool, KL on the new task no longer orders methods, KL elsewhere does",
        "arXiv:2605.30148, 2601.20861",
        "cells of two budgets in one pool",
        lambda runs: policy.kl_across_families(runs["frontier"], runs["es-forgetting"]),
    ),
    Claim(
        "C11",
        "SFT brings valid answers, the RL stage brings the score",
        "arXiv:2509.24803",
        "reward counts an invalid answer as 0",
        lambda runs: policy.stages(runs["staged"]),
    ),
    Claim(
        "C12",
        "RL leaves most weights unchanged, but only as bfloat16 shows them",
        "arXiv:2505.11711, 2509.04259",
        "trained in float32, rounded afterwards",
        lambda runs: policy.sparse(runs["frontier"]),
    ),
    Claim(
        "C13",
        "Low-rank ES adds up to updates of full rank",
        "arXiv:2511.16652",
        "numerical rank; the stable rank is lower",
        lambda runs: rank.full_rank(runs[RESULTS.name]),
    ),
    Claim(
        "C14",
        "Averages hide flows: far more items change than the net change shows",
        "arXiv:2510.17776",
        "scored again, the base itself changes no item here",
        lambda runs: policy.flows(runs["frontier"], runs["es-forgetting"], runs["quick"]),
    ),
    Claim(
        "C15",
        "ES is steadier over seeds than GRPO",
        "arXiv:2509.24372",
        "scatter is known to a factor of two from four seeds",
        lambda runs: evolution.steadier(runs["es-forgetting"]),
    ),
    Claim(
        "C16",
        "Retention recovers while training goes on",
        "arXiv:2605.30148",
        "intervals are wider for all points that were looked at; they allow for item errors only",
        lambda runs: evolution.recovers(runs["es-forgetting"]),
    ),
    Claim(
        "Seed",
        "ES can match the reward of RL while its drift erodes other skills",
        "arXiv:2601.20861",
        "drops at the end of equal budgets",
        lambda runs: evolution.forgets_more_than_grpo(runs["es-forgetting"]),
    ),
)


def findings(results: Path) -> list[tuple[Claim, Finding]]:
    """Every claim with what the published folders of `results` say of it."""
    runs = read(results, FOLDERS)
    return [(claim, claim.ask(runs)) for claim in CLAIMS]


def page(results: Path) -> str:
    """README.md."""
    found = findings(results)
    counts = {status: sum(f.status == status for _, f in found) for status in STATUSES}
    lines = [
        "# The claims",
        "",
        "Generated by `python -m results.claims.build` from the rows of the folders that it links; "
        "do not edit. Brackets are 90 % intervals. All was measured on `fruitfly`, a model of "
        "a million parameters: it shows whether a phenomenon exists there and proves nothing about "
        "language models.",
        "",
        "A claim is **reproduced** where the interval excludes the contrary, "
        "**contradicted** where it excludes the claim, and **undecided** in between; what would "
        "decide it is named below.",
        "",
        ", ".join(f"{count} {status}" for status, count in counts.items() if count) + ".",
        "",
        *grid(
            ["", "Claim", "Status", "Measured", "Caveat"],
            [[c.name, c.statement, f.status, f.result, c.caveat] for c, f in found],
            "lllll",
        ),
        "",
        "## Sources",
        "",
        *(f"- {c.name}: {c.source}{_link(f)}" for c, f in found),
        "",
        "## What would decide the rest",
        "",
        *(f"- {c.name}: {f.needs}" for c, f in found if f.status == "undecided" and f.needs),
        "",
        *questions.section(read(results, FOLDERS)),
    ]
    return "\n".join(lines) + "\n"


STATUSES = ("reproduced", "contradicted", "undecided", "not testable here")


def _link(found: Finding) -> str:
    if found.folder in (None, RESULTS.name):
        return ""
    return f"; [{found.folder}](../{found.folder}/README.md)"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m results.claims.build", description=__doc__)
    parser.add_argument("--runs", type=Path, help="folder of run folders, to take ranks from")
    options = parser.parse_args(arguments)
    if options.runs:
        rank.take(options.runs / "es-forgetting", RESULTS)
    write_text(RESULTS / "README.md", page(RESULTS.parent))


if __name__ == "__main__":
    main()
