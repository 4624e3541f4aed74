"""Claims about demonstrations, DFT and LoRA: C5 to C7, read from facts and lora-ranks."""

from __future__ import annotations

from collections.abc import Mapping

from results.claims import finding
from results.claims.finding import Finding, Sign, Status
from results.claims.published import Published
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.core.text.formatting import points

SKILL, FACTS = "countdown", "new_facts"
RANKS = ("lora-1", "lora-4", "lora-16", "lora-64")
"""The recipes that C7 compares with `full`."""


def dft_on_a_skill(runs: Published) -> Finding:
    """C5: DFT gains more than SFT, each at the best of the same rates."""
    return _best_against_best(runs, SKILL, 1)


def dft_on_facts(runs: Published) -> Finding:
    """C6: DFT gains less than SFT on facts that the base cannot know."""
    return _best_against_best(runs, FACTS, -1)


def _best_against_best(runs: Published, target: str, expected: Sign) -> Finding:
    dft, sft = (_best(runs, name, target) for name in ("dft", "sft"))
    if dft is None or sft is None:
        return finding.missing(runs)
    difference = runs.difference(dft.recipe, sft.recipe, "gain", target)
    if difference is None:
        return finding.missing(runs)
    loser = sft if difference.interval.value > 0 else dft
    edge = _at_edge(runs, loser, target)
    status = finding.by_sign([difference], expected)
    return Finding(
        "undecided" if edge else status,
        [
            f"gain of {dft.recipe} on {target} {points(dft.gain)}, of {sft.recipe} "
            f"{points(sft.gain)}, difference {points(difference.interval)}, "
            f"{finding.seeds_text(runs)}",
            *edge,
        ],
        runs.name,
        f"rates beyond that of {loser.recipe}"
        if edge
        else finding.seeds_to_decide(runs, [difference]),
    )


def _at_edge(runs: Published, row: MethodRow, target: str) -> list[str]:
    """A remark where a method's best rate is the first or last of its grid."""
    rates = {
        one.recipe: float(one.recipe.split("-", 1)[1])
        for one in runs.recipes(row.recipe.split("-", 1)[0], target)
    }
    others = [rate for name, rate in rates.items() if name != row.recipe]
    inside = others and min(others) < rates[row.recipe] < max(others)
    return [] if inside else [f"{row.recipe} is at the edge of its rates"]


def _best(runs: Published, method: str, target: str) -> MethodRow | None:
    rows = [row for row in runs.recipes(method, target) if row.seeds]
    return max(rows, key=lambda row: row.gain.value, default=None)


def learns_and_forgets_less(runs: Published) -> Finding:
    """C7: full training minus LoRA, in gain and in the drop of every axis.

    The claim names no rank, so it is asked of each: all must learn less and forget less, and one
    that does the contrary contradicts.
    """
    gains = {name: runs.difference("full", name, "gain") for name in RANKS}
    drops = {name: runs.drops("full", name) for name in RANKS}
    known = {name: gain for name, gain in gains.items() if gain and drops[name]}
    full = runs.row("full")
    if len(known) < len(RANKS) or full is None:
        return finding.missing(runs)
    looks = len(RANKS)
    learns = {name: finding.by_sign([gain], 1, looks) for name, gain in known.items()}
    forgets = {name: finding.by_sign(list(drops[name].values()), 1, looks) for name in known}
    lines = [
        f"full minus {name}: gain {points(gain.interval)} (learns less: {learns[name]}), drop "
        f"{finding.by_axis(drops[name])} (forgets less: {forgets[name]})"
        for name, gain in known.items()
    ]
    return Finding(
        finding.every(*learns.values(), *forgets.values()),
        [f"full training gains {points(full.gain)}, {finding.seeds_text(runs)}", *lines],
        runs.name,
        finding.seeds_to_decide(runs, [d for name in known for d in drops[name].values()]),
        _in_words(learns, forgets),
    )


def _in_words(learns: Mapping[str, Status], forgets: Mapping[str, Status]) -> str:
    """Which ranks gained and lost less or more than full training."""
    found = [
        ("gained less", [name for name, status in learns.items() if status == "reproduced"]),
        ("gained more", [name for name, status in learns.items() if status == "contradicted"]),
        ("lost less", [name for name, status in forgets.items() if status == "reproduced"]),
        ("lost more", [name for name, status in forgets.items() if status == "contradicted"]),
    ]
    shown = "; ".join(f"{', '.join(names)} {what}" for what, names in found if names)
    return f"Against full training, {shown}: it depends on the rank." if shown else ""
