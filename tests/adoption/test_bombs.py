"""Small files that unfold, endless files, odd compression: refused early, in little memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest

from fixtures import adoption as fixtures
from fixtures.waiting import at_most
from retainbench.harness.adoption import pair as adopt
from retainbench.harness.adoption.json_files import LARGEST_VALUE, MOST_VALUES
from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError

MOST_SECONDS = 10.0
MOST_GROWTH = 1.5 * 2**30


def member(size: int, name: str = "samples/1.json") -> Callable[[Path], Path]:
    """An archive whose member is a text of `size` bytes."""

    def write(folder: Path) -> Path:
        path = fixtures.archive(folder / "a.eval", fixtures.inspect_log("arc", ["C"]))
        with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as opened:
            opened.writestr(name, b"x" * size)
        return path

    return write


def many_members(folder: Path) -> Path:
    path = folder / "a.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
        for number in range(6):
            opened.writestr(f"samples/{number}.json", b"[" * (20 * 2**20))
    return path


def lists_in_a_member(folder: Path) -> Path:
    path = fixtures.archive(folder / "a.eval", fixtures.inspect_log("arc", ["C"]))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("samples/1.json", b"[" + b"[]," * (MOST_VALUES // 2) + b"[]]")
    return path


def rare_compression(folder: Path) -> Path:
    path = folder / "a.eval"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as opened:
        opened.writestr("header.json", "{}")
    return path


def unknown_compression(folder: Path) -> Path:
    path = fixtures.zstandard_zip(folder / "a.eval", {"header.json": b"{}"})
    path.write_bytes(path.read_bytes().replace(b"\x00\x00\x5d\x00", b"\x00\x00\x63\x00"))
    return path


def lists_in_a_line(folder: Path) -> Path:
    run = fixtures.lm_eval_run(folder, [fixtures.lm_eval_row(0)])
    line = b'{"a": [' + b"[]," * (MOST_VALUES // 2) + b"[]]}"
    next(run.glob("samples_*")).write_bytes(line)
    return run


def large_log(folder: Path) -> Path:
    """A whole log, and spaces."""
    path = folder / "a.json"
    path.write_text(json.dumps(fixtures.inspect_log("arc", ["C"])))
    os.truncate(path, LARGEST_VALUE + 2**20)
    return path


def endless_line(folder: Path) -> Path:
    run = fixtures.lm_eval_run(folder, [fixtures.lm_eval_row(0)])
    with next(run.glob("samples_*")).open("r+b") as file:
        file.truncate(0)
        file.truncate(LARGEST_VALUE + 2**20)  # a hole: one line of zeros
    return run


def unfolding_parquet(folder: Path) -> Path:
    """One long text that every row repeats: a dictionary of kilobytes that decodes to megabytes."""
    run = fixtures.lighteval(folder, [True] * 4)
    file = next(run.rglob("details_tiny_ff*.parquet"))
    rows = parquet.read_table(file).to_pylist()
    rows[0]["doc"]["query"] = "x" * 1_000_000
    parquet.write_table(pa.Table.from_pylist(rows[:1] * 150), file)
    return run


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (member(LARGEST_VALUE + 1), "is larger than 64 MiB|more members or bytes"),
        (many_members, "more members or bytes"),
        (lists_in_a_member, "more than 3000000 values"),
        (rare_compression, "unknown compression 14"),
        (unknown_compression, "unknown compression 99"),
        (lists_in_a_line, r"samples_tiny.*:1: more than 3000000 values"),
        (large_log, "65 MiB; at most 64 are read of a .json log. Convert it with `inspect log"),
        (endless_line, r"samples_tiny.*:1: a line of more than 67108864 bytes"),
        (unfolding_parquet, "unfolds to more than"),
    ],
)
def test_bombs_are_refused_early(
    tmp_path: Path, write: Callable[[Path], Path], message: str
) -> None:
    path = write(tmp_path)
    before = _peak()
    with at_most(MOST_SECONDS), pytest.raises(IntegrityError, match=message):
        adopt.read(path)
    assert _peak() - before < MOST_GROWTH


def _peak() -> int:
    """The largest memory of this process so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def test_pipes_are_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.json")
    os.mkfifo(tmp_path / "x.eval")
    with pytest.raises(UsageError, match="neither lm-eval"):
        adopt.read(tmp_path)
    with pytest.raises(RetainbenchError):
        adopt.read(tmp_path / "x.json")
    run = fixtures.lm_eval_run(tmp_path / "run", [fixtures.lm_eval_row(0)])
    samples = next(run.glob("samples_*"))
    samples.unlink()
    os.mkfifo(samples)
    with pytest.raises(IntegrityError, match="not a regular file"):
        adopt.read(run)


@pytest.mark.parametrize("name", ["../../x", "x\n::error::pwned", "a/b", "", "n" * 300])
def test_task_names_stay_in_their_folder_and_line(tmp_path: Path, name: str) -> None:
    counts = {name: {"original": 1, "effective": 1}}
    run = fixtures.lm_eval_run(tmp_path, [fixtures.lm_eval_row(0)], **{"n-samples": counts})
    with pytest.raises(IntegrityError, match="not a task name") as refused:
        adopt.read(run)
    assert "\n" not in str(refused.value)
