"""results/packs is generated: its page follows from its tables, and the tables from the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fixtures.packs import answer_rows, choice_rows, write_jsonl
from results.packs import build as freeze_check
from retainbench.harness.core import paths

PUBLISHED = paths.PACKAGE / "results" / "packs"


def test_the_page_follows_from_its_tables() -> None:
    page = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    assert freeze_check.render(PUBLISHED) == page


def test_the_published_accuracies_are_as_expected() -> None:
    """On the items that the expected accuracies rest on: within three standard errors."""
    rows = [freeze_check._typed(freeze_check.Row, one) for one in _table(PUBLISHED)]
    compared = {row.task: row.z for row in rows if row.items == "first" and row.z is not None}
    assert set(compared) == {"blimp", "piqa", "arc_easy", "tram_frequency"}
    assert max(compared.values()) <= freeze_check.FAR


def _table(folder: Path) -> list[dict[str, str]]:
    return freeze_check._lines(folder / "table.csv")


@pytest.mark.filterwarnings("ignore")
def test_the_command_writes_scores_and_no_items(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Small files in the place of the benchmarks; far from what is expected, so by category."""
    rows = [row | {"category": f"kind {n % 2}"} for n, row in enumerate(choice_rows(120))]
    write_jsonl(tmp_path / "data" / "sums.jsonl", rows)
    write_jsonl(tmp_path / "data" / "words.jsonl", answer_rows(120))
    benchmarks = (
        freeze_check.Benchmark("sums", "numeric", 0.99, "{{query}} ="),
        freeze_check.Benchmark("words", "general", None),
    )
    monkeypatch.setattr(freeze_check, "BENCHMARKS", benchmarks)
    monkeypatch.setattr(freeze_check, "MODEL", str(tiny_base))
    out = tmp_path / "out"
    freeze_check.main([str(tmp_path / "data"), "--base", str(tiny_base), "--out", str(out)])
    table = _table(out)
    assert [(line["task"], line["items"], line["n"]) for line in table] == [
        ("sums", "first", "100"),
        ("sums", "all", "120"),
        ("words", "first", "100"),
        ("words", "all", "120"),
    ]
    assert float(table[0]["z"]) > freeze_check.FAR
    assert table[2]["z"] == ""
    assert (out / "README.md").read_text(encoding="utf-8") == freeze_check.render(out)
    labels = freeze_check._lines(out / "categories.csv")
    assert [(one["category"], one["first"], one["n"]) for one in labels] == [
        ("kind 0", "50", "60"),
        ("kind 1", "50", "60"),
    ]
    assert len(json.loads((out / "run.json").read_text())["digest"]) == 64
    written = "".join(path.read_text(encoding="utf-8") for path in out.iterdir())
    assert "+ 1?" not in written
