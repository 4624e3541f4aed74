"""What figures show beyond their numbers: names that cover nothing, colours that are seen."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fixtures import report as fixtures
from retainbench.harness.comparison.seed_tables import PairRow
from retainbench.harness.core.changes import Interval
from retainbench.harness.core.paths import TEMPLATES
from retainbench.harness.report.page import charts, matrix
from retainbench.harness.report.page import figures as report_figures
from retainbench.harness.report.page.labels import LETTER, MARK, LabelBox, domain, labelled
from retainbench.harness.report.page.points import Datum
from retainbench.harness.report.table import further
from retainbench.harness.report.table import rows as report_rows

FRAME = LabelBox(0, 0, 270, 270)
POINTS = st.lists(st.tuples(st.floats(0, 270), st.floats(0, 270)), min_size=1, max_size=16)


def place(row: Datum) -> tuple[float, float]:
    x, y = row["x"], row["y"]
    assert isinstance(x, float)
    assert isinstance(y, float)
    return x, y


@settings(deadline=None, max_examples=100)
@given(POINTS)
def test_no_name_covers_a_mark_or_another_name_or_leaves_the_panel(
    points: list[tuple[float, float]],
) -> None:
    rows: list[Datum] = [{"recipe": f"name{n}", "x": x, "y": y} for n, (x, y) in enumerate(points)]
    boxes = []
    for row in labelled(rows, "recipe", place, FRAME, range(len(rows))):
        if row["label"]:
            (x, y), width = place(row), LETTER * len(str(row["label"]))
            x, y = x + float(row["label_x"] or 0), y + float(row["label_y"] or 0)
            left = x - {"left": 0.0, "center": width / 2, "right": width}[str(row["label_side"])]
            boxes.append(LabelBox(left, y - 5.5, left + width, y + 5.5))
    marks = [LabelBox(x - MARK, y - MARK, x + MARK, y + MARK) for x, y in points]
    assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))
    assert not any(box.meets(mark) for box in boxes for mark in marks)
    assert all(box.left >= 0 and box.right <= 270 for box in boxes)


def test_a_mark_that_stands_alone_is_named() -> None:
    rows: list[Datum] = [{"recipe": "crowd", "x": 100.0 + n, "y": 100.0} for n in range(12)] + [
        {"recipe": "alone", "x": 200.0, "y": 200.0}
    ]
    found = labelled(rows, "recipe", place, FRAME, range(len(rows)))
    assert found[-1]["label"] == "alone"
    assert "" in [row["label"] for row in found]


def test_a_name_is_nearest_to_its_own_mark() -> None:
    """Two marks one above the other: the upper one's name is not beside the lower one."""
    rows: list[Datum] = [
        {"recipe": "upper", "x": 130.0, "y": 100.0},
        {"recipe": "lower", "x": 131.0, "y": 112.0},
    ]
    upper, lower = labelled(rows, "recipe", place, FRAME, range(2))
    assert float(upper["label_y"] or 0) < 0 < float(lower["label_y"] or 0)


def test_an_axis_holds_zero_and_every_value() -> None:
    low, high = domain(iter([3.0, 8.0]))
    assert low < 0 < 8 < high


@pytest.mark.parametrize("background", ["#ffffff", "#14191c"])
def test_colours_are_seen_on_paper_and_on_the_dark_page(background: str) -> None:
    """WCAG asks for 3 between a mark and its background."""
    assert background == "#ffffff" or f"--page: {background}" in (
        TEMPLATES / "table.css"
    ).read_text(encoding="utf-8")
    for colour in charts.PALETTE:
        bright, dim = sorted((luminance(colour), luminance(background)), reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 3, colour


def luminance(colour: str) -> float:
    """Relative luminance as in WCAG 2."""
    shares = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in shares)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize(
    "key", ["pareto", "tasks", "trajectory-gain", "trajectory-budget", "drift", "kl"]
)
def test_specifications_are_valid_vega_lite(key: str) -> None:
    cards = fixtures.scorecards(seeds=(0,), failed=())
    figures = report_figures.figures(report_rows.rows(cards), cards)
    figure = next(figure for figure in figures if figure.key == key)
    valid = figure.draw(figure.of("countdown")).to_dict()  # validates, other than spec()
    found = report_figures.spec(figure, "countdown")
    assert {name: found[name] for name in valid if name != "config"} == {
        name: valid[name] for name in valid if name != "config"
    }


def test_a_figure_has_the_same_bytes_whatever_was_drawn_before(tmp_path: Path) -> None:
    cards = [c for c in fixtures.scorecards(seeds=(0,), failed=()) if c.recipe in ("sft", "es")]
    drift = [f for f in report_figures.figures(report_rows.rows(cards), cards) if f.key == "drift"]
    for name in ("first", "second"):
        report_figures.write(drift, ["countdown"], tmp_path / name)
    first, second = (tmp_path / name / "drift.svg" for name in ("first", "second"))
    assert "gradient_0" in first.read_text(encoding="utf-8")
    assert first.read_bytes() == second.read_bytes()


def test_layers_are_numbered_and_many_of_them_stand_in_narrow_cells() -> None:
    cards = [c for c in fixtures.scorecards() if c.target == "countdown" and c.seed == 0]
    deep = []
    for card in cards:
        drift = card.points[-1].drift
        assert drift is not None
        layers = {f"{n:02d}": 1 / 30 for n in range(30)}
        end = card.points[-1].model_copy(
            update={"drift": drift.model_copy(update={"by_layer": layers})}
        )
        deep.append(card.model_copy(update={"points": [end]}))
    figures = {f.key: f for f in report_figures.figures(report_rows.rows(deep), deep)}
    names = [row["name"] for row in figures["drift"].rows if row["place"] == "layer"]
    assert names[:3] == ["0", "1", "2"]
    assert "vconcat" in report_figures.spec(figures["drift"], "countdown")
    assert "hconcat" in report_figures.spec(figures["tasks"], "countdown")


def test_further_measures_leave_out_what_no_row_has() -> None:
    rows = report_rows.rows([c for c in fixtures.scorecards() if c.target == "countdown"])
    grid = further.measures(rows)
    assert "New facts, pp" not in grid.head  # this run has no such target
    assert "Gain per drift" not in grid.head  # nor were its methods compared
    first = dict(zip(grid.head, grid.cells[0], strict=True))
    assert first["Recipe"] == "sft"
    assert first["Numeric worst, pp"].endswith("at 100 %")
    assert first["Unchanged, %"] == "8.0 / 18 / 28"
    both = further.measures(report_rows.rows(fixtures.scorecards()))
    assert "New facts, pp" in both.head
    assert further.matched(rows) is None


def test_a_matrix_of_pairs_shows_each_difference_both_ways_and_what_is_better() -> None:
    gap = Interval(value=-0.18, low=-0.2, high=-0.16, level=0.9, n=400, method="two-way")
    lost = PairRow(
        target="countdown",
        first="calm",
        second="rash",
        measure="numeric",
        difference=gap,
        p=0.001,
        holm_p=0.001,
        equivalent=False,
        margin=0.02,
    )
    there, back = matrix.differences([lost])
    assert (there["recipe"], there["text"], there["better"]) == ("calm", "−18.0*", 18.0)
    assert (back["recipe"], back["low"], back["high"]) == ("rash", 16.0, 20.0)
    assert back["better"] == -18.0
    drawn = matrix.pair_map([there, back]).to_dict()
    assert drawn["concat"][0]["title"] == "numeric drop, pp"
