"""The interval of one task: what it does as losses are added, at zero flips and under jitter."""

from pathlib import Path

import numpy as np
import pytest

from retainbench.harness.core.schema import Policy
from retainbench.harness.statistics.clusters import PLANNING_ICC, Design
from retainbench.harness.statistics.estimate import Estimate, estimate, estimate_of
from retainbench.harness.statistics.paired import Floats
from retainbench.harness.tasks.items import read_rows

TASKS = sorted((Path(__file__).resolve().parents[2] / "tasks").glob("*/*/items.jsonl"))


def labels(path: Path) -> list[str]:
    return [row.get("cluster") or row["id"] for row in read_rows(path)]


def limits(d: Floats, design: Design) -> tuple[float, float]:
    bounds = estimate_of(d, design, confidence=0.90).bounds
    assert bounds is not None
    return bounds.low, bounds.high


def orders(design: Design, rng: np.random.Generator) -> list[np.ndarray]:
    """Items to lose one after the other: at random, cluster by cluster, one of each cluster."""
    free = rng.permutation(design.items)
    rank = rng.permutation(design.groups)[design.codes]
    whole = np.lexsort((free, rank))
    place = np.empty(design.items)
    for group in range(design.groups):
        members = np.flatnonzero(design.codes == group)
        place[members] = rng.permutation(len(members))
    return [free, whole, np.lexsort((free, place))]


@pytest.mark.parametrize("path", TASKS, ids=lambda path: path.parent.name)
def test_losing_one_more_never_lowers_the_upper_limit(path: Path) -> None:
    """Every number of losses up to 40, then every eleventh, up to nine tenths of the items.

    Beyond, losing whole clusters narrows the spread between them, far past every margin.
    """
    rng = np.random.default_rng(0)
    design = Design(labels(path), PLANNING_ICC)
    counts = [*range(40), *range(40, design.items * 9 // 10, 11)]
    for order in orders(design, rng):
        upper = []
        for lost in counts:
            d = np.zeros(design.items)
            d[order[:lost]] = 1
            upper.append(min(1.0, limits(d, design)[1]))
        assert np.diff(upper).min() >= -1e-12


@pytest.mark.parametrize("name", ["clock", "calendar", "time_zones", "dates"])
def test_losing_one_more_never_helps_where_others_were_gained(name: str) -> None:
    """Three by three up to a drop of a half; beyond, losing a whole cluster narrows the spread."""
    (path,) = [path for path in TASKS if path.parent.name == name]
    rng = np.random.default_rng(1)
    design = Design(labels(path), PLANNING_ICC)
    for gained in (rng.random(design.items) < 0.1, (rng.random(design.groups) < 0.1)[design.codes]):
        for order in orders(design, rng):
            d = np.where(gained, -1.0, 0.0)
            upper = [limits(d, design)[1]]
            left = order[~gained[order]]
            for start in range(0, len(left), 3):
                d[left[start : start + 3]] = 1
                upper.append(limits(d, design)[1])
                if d.mean() > 0.5:
                    break
            assert np.diff(upper).min() >= -1e-12


def test_nothing_jumps_at_the_first_flips_of_calendar() -> None:
    (path,) = [path for path in TASKS if path.parent.name == "calendar"]
    design = Design(labels(path), PLANNING_ICC)
    upper = []
    for lost in range(4):
        d = np.zeros(design.items)
        d[:lost] = 1
        upper.append(limits(d, design)[1])
    # The audit found .125, then .015: an interval an eighth as wide for one item more lost.
    assert all(step < 2 * design.effect / design.items for step in np.diff(upper))


def test_the_printed_interval_decides() -> None:
    base = np.ones(300)
    tuned = base.copy()
    tuned[0] = 0
    found = estimate(base, tuned, confidence=0.90, clusters=np.arange(300) // 4, margin=0.02)
    assert found.bounds is not None
    assert (found.bounds.high <= 0.02) == (found.p_beyond <= 0.05)
    assert found.bounds.high == max(method.bounds.high for method in found.methods)


@pytest.mark.parametrize("clusters", [None, np.arange(120) // 3])
def test_swapping_base_and_candidate_mirrors_the_interval(clusters: Floats | None) -> None:
    rng = np.random.default_rng(2)
    base, tuned = (rng.random((2, 120)) < [[0.8], [0.7]]).astype(float)
    there: Estimate = estimate(base, tuned, confidence=0.90, clusters=clusters)
    back = estimate(tuned, base, confidence=0.90, clusters=clusters)
    assert there.bounds is not None
    assert back.bounds is not None
    assert back.drop == -there.drop
    assert back.bounds == pytest.approx((-there.bounds.high, -there.bounds.low), abs=1e-12)


def test_jitter_on_every_item_is_no_evidence() -> None:
    """STATISTICS 13: n 75, margin 2 points, some items lose .9; no PASS without 149 items."""
    rng = np.random.default_rng(3)
    still, shaken = np.zeros(75), rng.normal(0, 1e-4, 75)
    designs = [Design(np.arange(75), PLANNING_ICC)] * 2
    upper = [limits(d, design)[1] for d, design in zip((still, shaken), designs, strict=True)]
    assert upper[1] == pytest.approx(upper[0], abs=5e-4)
    assert upper[0] == pytest.approx(1 - 0.05 ** (1 / 75), abs=1e-9)


def test_the_policy_plans_for_the_same_correlation() -> None:
    assert Policy().icc == PLANNING_ICC
