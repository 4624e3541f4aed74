"""What lighteval and Inspect wrote becomes records; failures are refused and never zeros."""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures import adoption as fixtures
from retainbench.harness.adoption import pair as adopt
from retainbench.harness.adoption.guessing import soft_score
from retainbench.harness.comparison.pairing import pair as pair_items
from retainbench.harness.core.errors import IntegrityError

CHOICES = adopt.AdoptionChoices(axes={"tiny_*": "temporal"})


def test_lighteval_details_become_records(tmp_path: Path) -> None:
    base = fixtures.lighteval(tmp_path / "base", [True, True, True, True])
    other = fixtures.lighteval(tmp_path / "candidate", [True, False, True, False])
    both = adopt.pair(base, other, CHOICES)
    paired = pair_items(both.base.records, both.candidate.records)
    assert sorted(paired) == ["tiny_ff|0", "tiny_mc|0"]
    for task in paired.values():
        assert (task.base.mean(), task.candidate.mean()) == (1.0, 0.5)
    choice = next(record for record in both.base.records if record.task == "tiny_mc|0")
    assert choice.chance == pytest.approx(1 / 3)
    assert choice.soft_score == pytest.approx(soft_score([-3.0, -2.0, -4.0], [1]))
    free = [record for record in both.candidate.records if record.task == "tiny_ff|0"]
    assert [record.valid for record in free] == [True, False, True, False]
    assert {record.axis for record in both.base.records} == {"temporal"}


def test_lighteval_counts_and_shots_are_checked(tmp_path: Path) -> None:
    fixtures.lighteval(tmp_path / "short", [True] * 4, effective_num_docs=5)
    with pytest.raises(IntegrityError, match="4 rows, expected 5"):
        adopt.read(tmp_path / "short")
    base = fixtures.lighteval(tmp_path / "base", [True] * 4)
    shots = fixtures.lighteval(tmp_path / "shots", [True] * 4, num_fewshots=5)
    with pytest.raises(IntegrityError, match="num_fewshots differs: base 0, candidate 5"):
        adopt.pair(base, shots)
    next((base / "results").rglob("*.json")).unlink()
    with pytest.raises(IntegrityError, match="not in the results folder"):
        adopt.read(base)


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    file = next(fixtures.lighteval(tmp_path, [True] * 4).rglob("*.parquet"))
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(IntegrityError, match="not a readable Parquet file"):
        adopt.read(tmp_path)


def test_inspect_archive_and_json_give_the_same_records(tmp_path: Path) -> None:
    log = fixtures.inspect_log("arc", ["C", "I", "P", "N"], epochs=2)
    fixtures.archive(tmp_path / "archive" / "arc.eval", log)
    (tmp_path / "json").mkdir()
    (tmp_path / "json" / "arc.json").write_text(json.dumps(log))
    zstd = {"header.json": json.dumps({k: v for k, v in log.items() if k != "samples"}).encode()}
    for number, sample in enumerate(log["samples"]):
        zstd[f"samples/{number}.json"] = json.dumps(sample).encode()
    fixtures.zstandard_zip(tmp_path / "zstd.eval", zstd)
    records = [adopt.read(tmp_path / name).records for name in ("archive", "json", "zstd.eval")]
    assert records[0] == records[1] == records[2]
    assert [r.score for r in records[0]] == [1, 1, 0, 0, 0.5, 0.5, 0, 0]
    assert [r.repeat for r in records[0]] == [0, 1] * 4
    assert [r.valid for r in records[0]] == [True] * 6 + [False] * 2
    assert records[0][0].chance == pytest.approx(1 / 3)


def _unfinished(log: dict[str, Any]) -> None:
    log["status"] = "error"


def _errored(log: dict[str, Any]) -> None:
    log["samples"][1]["error"] = {"message": "timeout"}


def _unscored(log: dict[str, Any]) -> None:
    log["samples"][1]["scores"]["choice"]["value"] = math.nan


def _grader(log: dict[str, Any]) -> None:
    log["samples"][1]["scores"]["choice"]["reason"] = "grader_failed"


def _lost(log: dict[str, Any]) -> None:
    del log["samples"][1]


def _twice(log: dict[str, Any]) -> None:
    log["samples"][1] = log["samples"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_unfinished, "status 'error'"),
        (_errored, "sample 1 epoch 1 ended with an error"),
        (_unscored, "NaN"),
        (_grader, "was not scored"),
        (_lost, "2 of 3 samples are here"),
        (_twice, "duplicate sample 0, epoch 1"),
    ],
)
def test_inspect_failures_are_never_zeros(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    log = fixtures.inspect_log("arc", ["C", "I", "C"])
    change(log)
    (tmp_path / "arc.json").write_text(json.dumps(log))
    with pytest.raises(IntegrityError, match=message):
        adopt.read(tmp_path)


def test_inspect_settings_are_compared(tmp_path: Path) -> None:
    base = fixtures.archive(tmp_path / "a.eval", fixtures.inspect_log("arc", ["C"]))
    warm = fixtures.inspect_log("arc", ["C"], model_generate_config={"temperature": 0.7})
    other = fixtures.archive(tmp_path / "b.eval", warm)
    with pytest.raises(IntegrityError, match=r"arc: temperature differs: base None, candidate 0.7"):
        adopt.pair(base, other)
    rows = [fixtures.lm_eval_row(number) for number in range(4)]
    run = fixtures.lm_eval_run(tmp_path / "lm", rows)
    with pytest.raises(IntegrityError, match="different harnesses"):
        adopt.pair(base, run)


def test_an_unfinished_archive_has_no_header(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.eval", "w") as opened:
        opened.writestr("_journal/start.json", "{}")
    with pytest.raises(IntegrityError, match=r"no header\.json"):
        adopt.read(tmp_path)


@pytest.mark.parametrize("name", ["../up.json", "/root.json", "a\\b.json", "samples/../../x"])
def test_archives_cannot_point_outside(tmp_path: Path, name: str) -> None:
    fixtures.zstandard_zip(tmp_path / "a.eval", {name: b"{}"})
    with pytest.raises(IntegrityError, match="points outside"):
        adopt.read(tmp_path)


def test_hostile_archives_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    link = zipfile.ZipInfo("samples/link.json")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "link.eval", "w") as opened:
        opened.writestr(link, "/etc/passwd")
    with pytest.raises(IntegrityError, match="link or encrypted"):
        adopt.read(tmp_path / "link.eval")
    damaged = fixtures.zstandard_zip(tmp_path / "crc.eval", {"header.json": b"{}"}, damage=True)
    with pytest.raises(IntegrityError, match="damaged archive"):
        adopt.read(damaged)
    (tmp_path / "none.eval").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(IntegrityError, match="damaged archive"):
        adopt.read(tmp_path / "none.eval")
    bomb = fixtures.archive(tmp_path / "bomb.eval", fixtures.inspect_log("arc", ["C"]))
    monkeypatch.setattr("retainbench.harness.adoption.archive.LARGEST_VALUE", 100)
    with pytest.raises(IntegrityError, match="is larger than"):
        adopt.read(bomb)


def test_hostile_model_text_is_kept_within_bounds(tmp_path: Path) -> None:
    log = fixtures.inspect_log("arc", ["C"])
    log["samples"][0]["output"]["completion"] = "\ud800" + "x" * 1_000_000
    (tmp_path / "arc.json").write_text(json.dumps(log))
    response = adopt.read(tmp_path).records[0].response
    assert response is not None
    assert len(response) == 10_000
    assert response.encode()
