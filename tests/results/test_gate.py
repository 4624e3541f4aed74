"""The published error rates of the gate: rendered from their rows, right, and reproducible."""

from __future__ import annotations

from pathlib import Path

import pytest

from results.gate.build import RESULTS, Cell, frame, read, simulate, write


def test_the_published_page_is_rendered_from_its_rows(tmp_path: Path) -> None:
    write(read(), tmp_path)
    for name in ("README.md", "releases.csv"):
        assert (tmp_path / name).read_bytes() == (RESULTS / name).read_bytes()


def test_published_false_passes_stay_below_alpha() -> None:
    """Pooled over the cells where a PASS is likeliest to be wrong: one task at the margin."""
    rows = [row for row in read() if row.cell.share == 1 and row.cell.harmed == 1]
    assert sum(row.counts["PASS"] for row in rows) <= 0.05 * sum(row.releases for row in rows)
    assert {row.cell.items for row in rows} == {300, 1000}
    assert min(row.releases for row in rows) >= 200


@pytest.mark.parametrize(("share", "verdict"), [(0.0, "PASS"), (3.0, "REGRESSION")])
def test_clear_cases_are_ruled_rightly_and_equal_seeds_give_equal_rows(
    share: float, verdict: str
) -> None:
    cell = Cell(items=1000, churn=0.04, harmed=1, share=share)
    shape = frame(cell.items)
    row = simulate(cell, shape, releases=3, seed=0)
    assert row.counts == {verdict: 3}
    assert row == simulate(cell, shape, releases=3, seed=0)
