"""Files on disk: canonical, atomic, versioned, and refused when they are not whole."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from retainbench.harness.core.changes import Interval
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import (
    digest,
    intact,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
    write_text,
)
from retainbench.harness.core.records import ItemText, Ledger

ITEM = ItemText(task="t", item_id="é1", doc_hash="h", prompt="a\nb", choices=["x", "y"], gold="x")


def test_records_come_back_equal(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "items.jsonl"
    write_jsonl(path, [ITEM, ITEM])
    assert read_jsonl(path, ItemText) == [ITEM, ITEM]
    assert path.read_text(encoding="utf-8").count("\n") == 2


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.none()))
def test_digest_does_not_depend_on_the_order_of_keys(value: dict[str, int | str | None]) -> None:
    assert digest(value) == digest(dict(reversed(list(value.items()))))


def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        Interval(value=float("nan"), low=0, high=0, n=1, method="x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"steps": 1, "surprise": 2}', "surprise"),
        ('{"steps": "many"}', "steps"),
        ('{"steps": 1', "Invalid JSON"),
        ("", "Invalid JSON"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "ledger.json"
    path.write_text(text)
    with pytest.raises(IntegrityError, match=problem) as caught:
        read_json(path, Ledger)
    assert "ledger.json" in str(caught.value)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    write_jsonl(path, [ITEM])
    path.write_text(path.read_text() + '{"task": "t"}\n')
    with pytest.raises(IntegrityError, match=r"items\.jsonl:2"):
        read_jsonl(path, ItemText)


def test_an_unwritable_place_is_the_users_to_mend(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="cannot write"):
        write_text(tmp_path / "file" / "below.txt", "x")


def test_damage_is_found_where_a_digest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "ledger.json"
    write_json(path, Ledger(steps=1), checked=True)
    assert intact(path)
    assert read_json(path, Ledger).steps == 1
    path.write_text(path.read_text().replace('"steps": 1', '"steps": 3'))
    assert not intact(path)
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        read_json(path, Ledger)


def test_deep_json_is_a_broken_file(tmp_path: Path) -> None:
    path = tmp_path / "items.jsonl"
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(IntegrityError, match=r"items\.jsonl"):
        read_jsonl(path, ItemText)


def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.json"
    write_json(path, Ledger(steps=1))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UsageError, match="No space left"):
        write_json(path, Ledger(steps=2))
    assert json.loads(path.read_text())["steps"] == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["ledger.json"]
