"""Claims about demonstrations, DFT and LoRA: C5 to C7, read from facts and lora-ranks."""

from __future__ import annotations

from results.claims import finding
from results.claims.finding import Finding, Sign
from results.claims.published import Published
from retainbench.harness.comparison.methods import MethodRow
from retainbench.harness.core.text.formatting import points

SKILL, FACTS = "countdown", "new_facts"
RANKS = ("lora-1", "lora-4", "lora-16", "lora-64", "full")


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
        f"gain of {dft.recipe} minus that of {sft.recipe} on {target} "
        f"{points(difference.interval)}; of dft {points(dft.gain)}, of sft {points(sft.gain)}, "
        f"{finding.seeds_text(runs)}{edge}",
        runs.name,
        f"rates beyond that of {loser.recipe}"
        if edge
        else finding.seeds_to_decide(runs, [difference]),
    )


def _at_edge(runs: Published, row: MethodRow, target: str) -> str:
    """A remark where a method's best rate is the first or last of its grid."""
    rates = {
        one.recipe: float(one.recipe.split("-", 1)[1])
        for one in runs.recipes(row.recipe.split("-", 1)[0], target)
    }
    others = [rate for name, rate in rates.items() if name != row.recipe]
    inside = others and min(others) < rates[row.recipe] < max(others)
    return "" if inside else f"; {row.recipe} is at the edge of its rates"


def _best(runs: Published, method: str, target: str) -> MethodRow | None:
    rows = [row for row in runs.recipes(method, target) if row.seeds]
    return max(rows, key=lambda row: row.gain.value, default=None)


def learns_and_forgets_less(runs: Published) -> Finding:
    """C7: full training minus LoRA of the smallest rank, in gain and in the drop of every axis."""
    if not all(runs.row(name) for name in RANKS):
        return finding.missing(runs)
    small = RANKS[0]
    gain = runs.difference("full", small, "gain")
    drops = runs.drops("full", small)
    if gain is None or not drops:
        return finding.missing(runs)
    learns, forgets = finding.by_sign([gain], 1), finding.by_sign(list(drops.values()), 1)
    along = "; ".join(f"{name} {points(row.gain)}" for name in RANKS if (row := runs.row(name)))
    return Finding(
        finding.every(learns, forgets),
        f"full minus rank 1: gain {points(gain.interval)} (learns less: {learns}), drop "
        f"{finding.by_axis(drops)} (forgets less: {forgets}). Gains: {along}",
        runs.name,
        finding.seeds_to_decide(runs, list(drops.values()) if learns != "undecided" else [gain]),
    )
