"""The one YAML reader: whatever the file is, an answer in seconds and within memory."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fixtures.waiting import at_most
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files import yaml_files

NINE = ",".join(["*a%d"] * 9)
BOMBS = {
    "aliases": "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{i}: &a{i} [{NINE.replace('%d', str(i - 1))}]\n" for i in range(1, 12)),
    "merges": "a0: &a0 {k: 1}\n"
    + "".join(f"a{i}: &a{i} {{<<: [{NINE.replace('%d', str(i - 1))}]}}\n" for i in range(1, 12)),
    "own alias": "a: &a [*a]",
    "deep lists": "a: " + "[" * 100_000,
    "deep mapping": "".join(" " * i + "a:\n" for i in range(600)),
    "deep sequence": "a:\n " + "- " * 100_000,
    "many values": "a: [" + "1," * 100_000 + "]",
    "digits": "a: " + "9" * 100_000,
    "hexadecimal digits": "a: 0x" + "f" * 100_000,
    "sexagesimal": "a: " + "1:" * 50_000 + "1",
    "date": "a: 2024-99-99",
    "object": "a: !!python/object/apply:os.system [ls]",
    "duplicate key": "a: 1\na: 2",
    "half a surrogate pair": 'a: "\\ud800"',
    "NUL": "a: \0",
    "list": "- 1",
    "keys that are numbers": "1: 2",
    "two documents": "a: 1\n---\nb: 2",
    "large": "a: " + "x" * 300_000,
}


@pytest.mark.parametrize("text", BOMBS.values(), ids=BOMBS)
def test_a_hostile_file_is_refused_in_seconds(text: str, tmp_path: Path) -> None:
    file = tmp_path / "suite.yaml"
    file.write_text(text, encoding="utf-8")
    with at_most(10), pytest.raises(IntegrityError) as refused:
        yaml_files.read_mapping(file)
    assert str(refused.value).startswith(str(file))
    assert "\n" not in str(refused.value)


def test_what_is_not_a_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    for name in ("pipe.yaml", "zero.yaml", "missing.yaml", "."):
        with pytest.raises(IntegrityError):
            yaml_files.read_mapping(tmp_path / name)


def test_ordinary_yaml_is_read_as_written(tmp_path: Path) -> None:
    """Exponents without a point or sign are numbers, a byte order mark is none of the text."""
    file = tmp_path / "suite.yaml"
    file.write_text(
        "\ufeffa: &a {x: 1e-4, y: 6.0e11}\nb: {<<: *a, x: 2}\nc: !function m.f\n", encoding="utf-8"
    )
    assert yaml_files.read_mapping(file) == {
        "a": {"x": 1e-4, "y": 6e11},
        "b": {"x": 2, "y": 6e11},
        "c": "!function m.f",
    }
    file.write_text("a: 1\na: 2\n", encoding="utf-8")
    assert yaml_files.read_mapping(file, unique=False) == {"a": 2}


def test_a_key_that_yaml_takes_for_a_truth_value_stays_text(tmp_path: Path) -> None:
    """Of keys alone: values on, yes and true are truth values as before."""
    file = tmp_path / "file.yaml"
    file.write_text("on: ./text\nyes: on\nnested: {no: 'off'}\n", encoding="utf-8")
    found = yaml_files.read_mapping(file)
    assert found == {"on": "./text", "yes": True, "nested": {"no": "off"}}
