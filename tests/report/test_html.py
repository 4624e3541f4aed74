"""The HTML report, its figures and the published folder, without a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from fixtures import report as fixtures
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import write_json, write_jsonl
from retainbench.harness.core.paths import RunFolder, point_name
from retainbench.harness.core.records import Commands
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.report import compare as report_compare
from retainbench.harness.report import publish, report
from retainbench.harness.report.page import figures as report_figures
from retainbench.harness.report.page import flips as report_flips
from retainbench.harness.report.page import html as report_html
from retainbench.harness.report.table import rows as report_rows

RESULTS = Path(__file__).resolve().parents[2] / "results"


@pytest.fixture(scope="module")
def cards() -> list[Scorecard]:
    return fixtures.scorecards()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, cards: list[Scorecard]) -> Path:
    root = tmp_path_factory.mktemp("run")
    fixtures.write_run(root, cards)
    fixtures.write_evidence(root, cards)
    report.report(root, figures=False)
    return root


class Tags(HTMLParser):
    """Collects start tags with their attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def tags(html: str) -> list[tuple[str, dict[str, str | None]]]:
    parser = Tags()
    parser.feed(html)
    return parser.found


def test_page_is_small_and_loads_nothing(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    assert len(html.encode()) < 3_000_000
    for tag, attributes in tags(html):
        assert tag not in ("link", "img", "iframe", "object", "embed", "base", "form")
        assert "src" not in attributes
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        assert tag != "a" or str(attributes["href"]).startswith("#")


def test_policy_names_exactly_the_scripts_of_the_page(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    metas = [attributes for tag, attributes in tags(html) if tag == "meta"]
    policy = next(str(meta["content"]) for meta in metas if "http-equiv" in meta)
    bodies = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    bodies += re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digests = (hashlib.sha256(body.encode()).digest() for body in bodies)
    hashes = {f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests}
    assert len(hashes) == 4
    assert set(re.findall(r"'sha256-[^']+'", policy)) == hashes
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy


@pytest.mark.parametrize("page", ["report.html", "table.html"])
def test_hostile_strings_are_text(run: Path, page: str) -> None:
    html = (run / page).read_text(encoding="utf-8")
    scripts = [attributes for tag, attributes in tags(html) if tag == "script"]
    assert len(scripts) == (5 if page == "report.html" else 0)
    outside = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
    assert "window.pwned" in outside
    assert not re.search(r"<(script|img)", outside)
    assert "\u202e" not in html


@pytest.mark.parametrize(("page", "title"), [("report.html", "summary"), ("table.html", "h2")])
def test_every_further_table_has_a_title_that_is_seen(run: Path, page: str, title: str) -> None:
    """A caption is for screen readers only; without a title no matrix says what it is of."""
    html = (run / page).read_text(encoding="utf-8")
    captions = [one.caption for one in report.load_table(run).further]
    assert len(captions) > 1
    assert [f"<{title}>{escape(caption)}</{title}>" in html for caption in captions] == [
        True for _ in captions
    ]


def test_data_blocks_hold_no_markup(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    blocks = re.findall(r'<script type="application/json" id="[\w-]+">(.*?)</script>', html)
    assert len(blocks) == 2
    for block in blocks:
        assert not set("<>&") & set(block)
        json.loads(block)


def test_same_scorecards_same_bytes(run: Path) -> None:
    before = (run / "report.html").read_bytes()
    report.report(run, figures=False)
    assert (run / "report.html").read_bytes() == before


def test_every_figure_has_its_data_table_and_a_label(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    figures = [attributes for _, attributes in tags(html) if "data-figure" in attributes]
    assert len(figures) == 6
    ids = {attributes.get("id") for _, attributes in tags(html)}
    for figure in figures:
        assert figure["role"] == "figure"
        assert figure["aria-labelledby"] in ids
    assert html.count("Data behind this figure") == 6


def test_verdicts_and_failures_are_shown(run: Path) -> None:
    html = (run / "report.html").read_text(encoding="utf-8")
    for ruling in ("2 FAILED", "11 REGRESSION", "11 INCONCLUSIVE", "12 PASS"):
        assert f"<dt>{ruling}</dt>" in html
    assert "numeric: above its margin (11 cells)" in html
    assert "numeric: above its margin" in html
    assert "34 done, 2 failed" in html
    assert html.count(">failed (1 seed)<") == 2


def test_comparison_over_seeds_reaches_the_table(run: Path) -> None:
    row = report.load_table(run).rows[0]
    assert row.gain_to_match == 0.13
    assert row.axis("numeric").matched_drop is not None
    assert row.axis("numeric").matched_drop.high == 0.04
    assert row.gain_per_drift is not None
    slow = next(row for row in report.load_table(run).rows if row.recipe == "grpo")
    general = slow.axis("general")
    assert (general.matched_drop, general.matched_reason) == (None, "not reached")
    assert (slow.on_front, slow.dominated_by) == (False, ["sft-lora"])
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "At the same gain" in html
    assert "not reached" in html


def test_flips_are_those_of_the_records(tmp_path: Path) -> None:
    card = fixtures.card("sft", fixtures.ARMS["sft"], "countdown", 0, fixtures.TASKS, False)
    run = fixtures.write_run(tmp_path, [card], items=8, flip_share=1.0)
    flips = report_flips.collect(run, [card])
    assert flips.total == 9 * 8
    assert sum(flip.lost for flip in flips.shown) == 9 * 6
    assert all((flip.before.score > 0.5) == flip.lost for flip in flips.shown)
    base = run.base_point(card.base).records
    base.write_text("".join(reversed(base.read_text().splitlines(keepends=True))))
    assert report_flips.collect(run, [card]) == flips  # pairs by item, not by line
    capped = report_flips.collect(run, [card], cap=20)
    assert len(capped.shown) <= 20
    assert {flip.after.task for flip in capped.shown} == {flip.after.task for flip in flips.shown}
    assert "on this page" in report_html.flip_note(capped)


def test_flips_refuse_an_item_that_the_base_did_not_answer(tmp_path: Path) -> None:
    card = fixtures.card("sft", fixtures.ARMS["sft"], "countdown", 0, fixtures.TASKS, False)
    run = fixtures.write_run(tmp_path, [card], items=4)
    base = run.base_point(card.base).records
    base.write_text("".join(base.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(IntegrityError, match="has no record of the base"):
        report_flips.collect(run, [card])


def test_run_without_records_or_finished_cells_still_reports(tmp_path: Path) -> None:
    dead = [
        fixtures.card(name, arm, "countdown", 0, fixtures.TASKS, True)
        for name, arm in fixtures.ARMS.items()
    ]
    write_jsonl(tmp_path / "scorecards.jsonl", dead)
    report.report(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert html.count("Nothing to draw") == 6
    assert "No recipe has a gain" in html


def test_figures_are_written_in_three_formats(tmp_path: Path, cards: list[Scorecard]) -> None:
    few = [c for c in cards if c.recipe in ("sft", "grpo") and c.target == "countdown"]
    rows = report_rows.rows(few)
    drawn = report_figures.figures(rows, few)
    files = report_figures.write(drawn, ["countdown"], tmp_path)
    assert len(files) == 6 * 3
    heads = {"svg": b"<svg", "png": b"\x89PNG", "pdf": b"%PDF"}
    for path in files:
        assert path.read_bytes().startswith(heads[path.suffix[1:]])
        assert path.stat().st_size > 2_000


def test_figures_show_the_numbers_of_the_table(cards: list[Scorecard]) -> None:
    rows = report_rows.rows(cards)
    pareto = report_figures.figures(rows, cards)[0]
    for datum in pareto.rows:
        row = next(r for r in rows if (r.target, r.recipe) == (datum["target"], datum["recipe"]))
        drop = row.axis(datum["axis"]).drop  # type: ignore[arg-type]
        assert row.gain is not None
        assert drop is not None
        assert datum["gain"] == pytest.approx(100 * row.gain.value)
        assert datum["retention_low"] == pytest.approx(-100 * drop.high)


def test_large_suite_stays_within_its_size(tmp_path: Path) -> None:
    """A tenth of 200 cells x 30 tasks x 200 items; the whole took 13 s of CPU and 6.4 MB."""
    cards = fixtures.many_cells(20, 30)
    fixtures.write_run(tmp_path, cards, items=20)
    report.report(tmp_path, figures=False)
    assert (tmp_path / "report.html").stat().st_size < 3_000_000


def test_published_folder_rerenders_byte_for_byte(tmp_path: Path, cards: list[Scorecard]) -> None:
    few = [c for c in cards if c.recipe in ("sft", "es") and c.target == "countdown"]
    run = fixtures.write_run(tmp_path / "run", few, items=4).root
    out = tmp_path / "results" / "quick"
    started = ["retainbench", "run", "my suite.yaml", "--device", "cuda", "--pack", "ours"]
    write_json(RunFolder(run).commands, Commands(lines=[started]))
    publish.publish(run, out)
    front = (out / "README.md").read_text(encoding="utf-8")
    assert "\nretainbench run 'my suite.yaml' --device cuda --pack ours\n" in front
    assert f"\nretainbench publish {run} {out}\n" in front
    assert "base_digest" in front
    assert (out / "figures" / "pareto.svg").is_file()
    check_published(out)
    files = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path.suffix for path in files} >= {".svg", ".pdf"}
    publish.publish(run, out)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == files


def test_publish_refuses_a_folder_of_something_else(run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="not a published folder"):
        publish.publish(run, tmp_path)


def published() -> list[Path]:
    """Every published folder: it holds scorecards.jsonl."""
    return sorted(path.parent for path in RESULTS.glob("*/scorecards.jsonl"))


@pytest.mark.parametrize("folder", published(), ids=lambda folder: folder.name)
def test_results_are_what_their_rows_say(folder: Path) -> None:
    check_published(folder)


def check_published(folder: Path) -> None:
    table = report.load_table(folder)
    for suffix in report.FORMATS:
        stored = RunFolder(folder).table(suffix).read_text(encoding="utf-8")
        assert stored == report.render(table, suffix), f"table.{suffix} differs from its rows"
    front = (folder / "README.md").read_text(encoding="utf-8")
    assert publish.shown_figures(folder, "pareto")
    assert front == publish.readme(folder)


def test_compare_runs_pairs_arms_and_names_the_rest(tmp_path: Path, cards: list[Scorecard]) -> None:
    one = [c for c in cards if c.recipe in ("sft", "es") and c.target == "countdown"]
    two = [c for c in cards if c.recipe in ("sft", "dft") and c.target == "countdown"]
    moved = [c.model_copy(update={"budget": "6e+12 flops"}) for c in two]
    for name, found in (("a", one), ("b", moved)):
        write_jsonl(tmp_path / name / "scorecards.jsonl", found)
    found = report_compare.compare_runs(tmp_path / "a", tmp_path / "b")
    (cells,) = found.cells
    assert cells[:3] == ["countdown", "sft", "full"]
    assert all(": 0.0 [" in cell for cell in cells[3:])  # the same scorecards on both sides
    assert not any(cell.endswith("*") for cell in cells)
    notes = "\n".join(found.notes)
    assert "Only in A: countdown / es / full." in notes
    assert "Only in B: countdown / dft / full." in notes
    assert "these differ: budget." in notes


def test_compare_runs_marks_what_changed(tmp_path: Path, cards: list[Scorecard]) -> None:
    own = [c for c in cards if c.recipe in ("sft", "grpo") and c.target == "countdown"]
    renamed = {"sft": "grpo", "grpo": "sft"}
    swapped = [c.model_copy(update={"recipe": renamed[c.recipe]}) for c in own]
    for name, found in (("a", own), ("b", swapped)):
        write_jsonl(tmp_path / name / "scorecards.jsonl", found)
    lines = report_compare.compare_runs(tmp_path / "a", tmp_path / "b").cells
    assert {line[1]: line[3][-1] for line in lines} == {"sft": "*", "grpo": "*"}
    before, after, change = map(
        float, re.findall(r"[+-]\d+\.\d", lines[0][3].replace("−", "-"))[:3]
    )
    assert after - before == pytest.approx(change, abs=0.11)  # each is rounded to a tenth


def test_point_names_match_the_run_folder() -> None:
    assert point_name(0, 1.0) == "s0-1.0000"
