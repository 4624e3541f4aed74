"""The standardized table: one row per recipe, equal numbers in every format, failures in sight."""

from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from fixtures import report as fixtures
from retainbench.harness.core.axes import DEFAULT as AXES
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import write_jsonl
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.core.text.formatting import points, significant
from retainbench.harness.report import report
from retainbench.harness.report.table import glance, rows
from retainbench.harness.report.table import text as report_text
from retainbench.harness.report.table.columns import Table, table
from retainbench.harness.report.table.estimates import axes, pooling
from retainbench.harness.report.table.evidence import CellVerdict, TableEvidence
from retainbench.harness.report.table.terminal import terminal


@pytest.fixture(scope="module")
def cards() -> list[Scorecard]:
    return fixtures.scorecards()


@pytest.fixture(scope="module")
def shown(cards: list[Scorecard]) -> Table:
    return table(rows.rows(cards))


def test_one_row_per_recipe_in_the_order_of_the_plan(shown: Table) -> None:
    expected = [(t, recipe) for t in ("countdown", "new_facts") for recipe in fixtures.ARMS]
    assert [(row.target, row.recipe) for row in shown.rows] == expected


def test_gain_is_the_mean_over_seeds(cards: list[Scorecard], shown: Table) -> None:
    for row in shown.rows:
        if row.absent:
            continue
        own = [c for c in cards if (c.target, c.recipe) == (row.target, row.recipe)]
        assert row.gain is not None
        values = [card.points[-1].gain.value for card in own]
        assert row.gain.value == pytest.approx(sum(values) / 3, rel=1e-5)
        assert row.seeds == [0, 1, 2]


def test_failed_seed_leaves_no_estimate_but_a_reason(shown: Table) -> None:
    failed = [row for row in shown.rows if row.absent]
    assert [(row.recipe, sorted(row.absent)) for row in failed] == [("dft", ["2"]), ("es", ["1"])]
    for row in failed:
        assert row.gain is None
        assert all(row.axis(axis).drop is None for axis in AXES)
        assert row.missing == {"*": "1 of 3 seeds have no result"}
    assert sum(note.startswith("Failed: ") for note in shown.notes) == 2


def test_seed_without_scorecard_counts_as_absent(cards: list[Scorecard]) -> None:
    gone = [c for c in cards if not (c.recipe == "grpo" and c.seed == 2)]
    found = [row for row in rows.rows(gone) if row.recipe == "grpo"]
    assert [row.absent for row in found] == [{"2": "no scorecard"}] * 2


def test_all_cells_failed_still_renders(cards: list[Scorecard]) -> None:
    dead = [
        c.model_copy(update={"status": "failed", "reason": "out of memory", "points": []})
        for c in cards
    ]
    found = table(rows.rows(dead))
    assert all(row.gain is None for row in found.rows)
    assert "failed (3 seeds)" in report_text.markdown(found)


def test_one_seed_keeps_its_own_interval(cards: list[Scorecard]) -> None:
    single = [c for c in cards if c.seed == 0 and c.points]
    for row in rows.rows(single):
        own = next(c for c in single if (c.target, c.recipe) == (row.target, row.recipe))
        assert row.gain is not None
        assert row.gain.low == pytest.approx(own.points[-1].gain.low, rel=1e-5)


def test_pooled_interval_covers_seed_spread_and_item_error() -> None:
    far = [fixtures.interval(v, 0.02) for v in (0.1, 0.2, 0.3)]
    pooled = pooling.pool(far)
    # s = .1, SE^2 = .01/3 + (.02/1.96)^2, df from Welch-Satterthwaite is close to 2.
    assert pooled.value == pytest.approx(0.2)
    assert pooled.high - pooled.value == pytest.approx(0.24, abs=0.02)
    same = pooling.pool([fixtures.interval(0.1, 0.02)] * 5)
    assert same.high - same.value == pytest.approx(0.02, rel=0.02)


def test_worst_point_is_the_largest_drop_of_the_mean_trajectory(cards: list[Scorecard]) -> None:
    own = [c for c in cards if (c.recipe, c.target) == ("sft", "countdown")]
    worst = axes.worst_point(own, "numeric")
    assert worst is not None
    assert worst[0] == 1.0
    recovered = [
        card.model_copy(
            update={
                "points": [
                    *card.points[:-1],
                    card.points[-1].model_copy(update={"axes": card.points[0].axes}),
                ]
            }
        )
        for card in own
    ]
    again = axes.worst_point(recovered, "numeric")
    assert again is not None
    assert again[0] == 0.75


def numbers(text: str) -> list[float]:
    """All numbers of a text, with real minus signs and escapes undone."""
    plain = text.replace("$-$", "-").replace("−", "-").replace("\\", "")
    return [float(found) for found in re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?", plain)]


def test_every_format_shows_the_same_numbers(shown: Table) -> None:
    markdown = [line for line in report_text.markdown(shown).splitlines() if line[:1] == "|"][2:]
    latex = report_text.latex(shown).split(r"\midrule")[1].split(r"\bottomrule")[0]
    body = [line for line in latex.splitlines() if line]
    document = json.loads(report_text.to_json(shown))
    for row, cells, md, tex in zip(
        document["rows"], document["shown"], markdown, body, strict=True
    ):
        assert numbers(md) == numbers(tex) == numbers(" ".join(cells))
        if row["gain"]:
            assert f"{100 * row['gain']['value']:+.1f}".replace("-", "−") in md
    lines = list(csv.DictReader(io.StringIO(report_text.to_csv(shown.rows))))
    for row, line in zip(document["rows"], lines, strict=True):
        expected = "" if row["gain"] is None else str(row["gain"]["value"])
        assert line["gain"] == expected
        for axis in AXES:
            drop = row["axes"].get(axis, {}).get("drop")
            assert line[f"{axis}_drop_high"] == ("" if drop is None else str(drop["high"]))


def test_terminal_shows_every_cell_and_names_what_does_not_fit(shown: Table) -> None:
    for width in (90, 150, 240):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(terminal(shown, width))
        text = console.export_text()
        assert max(map(len, text.splitlines())) <= width
        hidden = "Not shown on" in text
        assert hidden == (width < 200)
        assert ("Cost" in text.split("Base fruitfly")[0]) != hidden


def test_csv_has_no_sentinels_and_gives_a_reason_for_every_gap(shown: Table) -> None:
    for line in csv.DictReader(io.StringIO(report_text.to_csv(shown.rows))):
        assert None not in line.values()
        for value in line.values():
            assert value.lower() not in ("nan", "inf", "none", "null", "-1")
        assert line["gain"] or line["missing"]


@settings(deadline=None, max_examples=50)
@given(st.text(max_size=60))
def test_no_text_breaks_a_table(text: str) -> None:
    card = fixtures.card("sft", fixtures.ARMS["sft"], "countdown", 0, fixtures.TASKS, False)
    hostile = card.model_copy(update={"target": text, "recipe": text, "method": text})
    found = table(rows.rows([hostile]))
    lines = report_text.markdown(found).splitlines()
    grid = [re.sub(r"\\.", "", line) for line in lines if line.startswith("|")]
    assert len(grid) == 3
    assert len({line.count("|") for line in grid}) == 1
    assert len(list(csv.reader(io.StringIO(report_text.to_csv(found.rows))))) == 2
    assert json.loads(report_text.to_json(found))["rows"][0]["target"] == text


@pytest.mark.parametrize("text", fixtures.HOSTILE)
def test_markdown_neutralises(text: str) -> None:
    card = fixtures.card(text, fixtures.ARMS["sft"], "countdown", 0, fixtures.TASKS, False)
    found = report_text.markdown(table(rows.rows([card]))).splitlines()[4]
    assert found.startswith("| ")
    assert found.endswith(" |")
    found = found.split(" | sft, full | ")[0].removeprefix("| ")
    plain = re.sub(r"\\.", "", found)
    assert not re.search(r"[<>|`]|\]\(|\u202e", plain)


def test_zero_has_no_sign_and_minus_is_a_minus() -> None:
    assert points(fixtures.interval(-0.0004, 0.001)) == "0.0 [−0.1, 0.1]"


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(cards: list[Scorecard], tmp_path: Path) -> None:
    names = (*fixtures.HOSTILE, "[1ex]", "*", "猫 \\")
    hostile = [
        card.model_copy(update={"target": names[n % len(names)]}) for n, card in enumerate(cards)
    ]
    shown = table(rows.rows(hostile))
    head = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}"
    body = rf"{head}\begin{{document}}{report_text.latex(shown)}\end{{document}}"
    (tmp_path / "t.tex").write_text(body, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "t.tex"],
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    assert (tmp_path / "t.pdf").stat().st_size > 10_000


def test_run_folder_without_scorecards_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"scorecards\.jsonl does not exist"):
        report.report(tmp_path)
    write_jsonl(tmp_path / "scorecards.jsonl", [])
    with pytest.raises(UsageError, match="empty"):
        report.report(tmp_path)
    (tmp_path / "scorecards.jsonl").write_text('{"cell": 1}\n')
    with pytest.raises(IntegrityError, match="scorecards"):
        report.report(tmp_path)


def test_importing_report_is_light() -> None:
    code = (
        "import sys; import retainbench.harness.report.report;"
        "print([m for m in ('torch', 'pandas', 'altair', 'jinja2', 'vl_convert', 'rich')"
        " if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_rounding_is_the_same_from_any_format() -> None:
    assert significant(math.pi) == 3.14159


def test_rows_hold_the_companions_of_each_axis_and_the_acquisition(cards: list[Scorecard]) -> None:
    found = rows.rows(cards)
    by_arm = {(row.target, row.recipe): row for row in found}
    numeric = by_arm["countdown", "sft"].axis("numeric")
    own = [c for c in cards if (c.target, c.recipe) == ("countdown", "sft")]
    every = [t for c in own for t in c.points[-1].tasks if t.axis == "numeric"]
    mean = sum(task.forgetting_chance_adjusted or 0 for task in every) / len(every)
    assert numeric.forgetting_chance_adjusted == pytest.approx(mean, rel=1e-5)
    for recipe in ("sft", "grpo"):
        acquired = by_arm["new_facts", recipe].gain
        assert acquired is not None
        assert by_arm["countdown", recipe].new_facts == acquired
    alone = rows.rows([c for c in cards if c.target == "countdown"])
    assert all(row.new_facts is None and "new_facts" in row.missing for row in alone)
    line = next(csv.DictReader(io.StringIO(report_text.to_csv(found))))
    assert float(line["new_facts_low"]) < float(line["new_facts"]) < float(line["new_facts_high"])


def test_footnotes_say_by_what_margin_the_gate_decides(cards: list[Scorecard]) -> None:
    card = cards[0]
    end = card.points[-1]
    tasks = [
        task.model_copy(update={"margin": 0.15 if task.task == "rb_calendar" else 0.05})
        for task in end.tasks
    ]
    judged = card.model_copy(update={"points": [end.model_copy(update={"tasks": tasks})]})
    verdicts = {card.cell: CellVerdict(verdict="PASS", reasons=[])}
    notes = table(rows.rows([judged], TableEvidence(verdicts, {}))).notes
    assert any("margin (5 pp, calendar 15 pp); REGRESSION" in note for note in notes)
    ungated = table(rows.rows([judged])).notes
    assert "The run was not gated: there are no verdicts." in ungated


def test_axes_are_those_of_the_scored_tasks(cards: list[Scorecard]) -> None:
    """One axis, or as many as a suite may have: the default ones first, then the others by name."""
    words = {"general": "safety", "numeric": "code", "temporal": "general"}
    renamed = json.dumps([card.model_dump(mode="json") for card in cards])
    for old, new in words.items():
        renamed = renamed.replace(f'"axis": "{old}"', f'"axis": "{new}_"')
    renamed = renamed.replace('_"', '"')
    found = rows.rows([Scorecard.model_validate(card) for card in json.loads(renamed)])
    shown = table(found)
    heads = [column.header for column in shown.columns if column.header.endswith("drop, pp")]
    assert heads == ["General drop, pp", "Code drop, pp", "Safety drop, pp"]
    header = report_text.to_csv(shown.rows).splitlines()[0].split(",")
    assert {"code_drop", "safety_drop_low"} < set(header)
    assert not {"numeric_drop", "temporal_drop"} & set(header)
    assert [row.axis("safety").drop is None for row in found] == [bool(row.absent) for row in found]


def test_shallow_rows_and_overspent_budgets_are_marked(cards: list[Scorecard]) -> None:
    """Each stage by itself: 100 updates of which 6 are the second stage's are few."""
    own = [c for c in cards if c.target == "countdown" and c.recipe in ("sft", "sft-grpo")]

    def changed(card: Scorecard) -> Scorecard:
        if card.recipe == "sft":
            return card
        end = card.points[-1]
        before = end.model_copy(
            update={"stage": 0, "ledger": end.ledger.model_copy(update={"steps": 94})}
        )
        dear = end.ledger.model_copy(update={"flops": 3.1e12})
        last = end.model_copy(update={"stage": 1, "ledger": dear})
        return card.model_copy(update={"points": [*card.points[:-1], before, last]})

    found = table(rows.rows([changed(card) for card in own]))
    text = [dict(zip([c.key for c in found.columns], row, strict=True)) for row in found.cells]
    assert [(t["updates"], t["cost"]) for t in text] == [
        ("100", "3.0 TFLOP"),
        ("94+6*", "3.1 TFLOP *"),
    ]
    notes = "\n".join(found.notes)
    assert (
        "* Fewer than 50 updates in a stage, which says little about a method: sft-grpo (6)."
        in notes
    )
    assert "* Spent more than 2 % over the budget: sft-grpo (103 %)." in notes


def test_erosion_is_a_column_a_note_and_a_finding(shown: Table, cards: list[Scorecard]) -> None:
    """Largest of the axes with its name; rows above the margin are named; old rows have none."""
    place = [column.key for column in shown.columns].index("erosion")
    for row, cells in zip(shown.rows, shown.cells, strict=True):
        if row.absent:
            continue
        largest = max(row.axes, key=lambda axis: row.axes[axis].erosion.value)  # type: ignore[union-attr]
        assert cells[place] == f"{points(row.axes[largest].erosion)} {largest}"
    (note,) = (note for note in shown.notes if note.startswith("Erosion: "))
    assert "never changes a verdict. Above its margin of 2 pp: sft on countdown (" in note
    facts = [fact for one in glance.glance(shown.rows) for fact in one.facts]
    assert {fact.recipe for fact in facts if fact.label == "Eroded most"} == {"sft"}
    text = json.dumps([card.model_dump(mode="json") for card in cards])
    old = [
        Scorecard.model_validate(card)
        for card in json.loads(text.replace('"erosion": {', '"soft_drop": {'))
    ]
    plain = table(rows.rows(old))
    assert "erosion" not in [column.key for column in plain.columns]
    assert "Erosion: not measured (no log-likelihoods of choices)." in plain.notes
