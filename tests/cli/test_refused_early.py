"""Impossible suites, policies, devices and output places: one line and exit 2 before any work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.gate import stored_pair, suite
from fixtures.waiting import at_most
from retainbench.harness.cli import main as cli

GOOD: dict[str, Any] = {
    "name": "small",
    "description": "for tests",
    "base": "fruitfly",
    "targets": ["countdown"],
    "tasks": ["capitals", "dates"],
    "seeds": [0],
    "budget": {"unit": "flops", "amount": 2e10},
    "recipes": {"sft": {"method": "sft", "options": {"learning_rate": 1e-4}}},
}
OPTIONS = {"method": "sft", "options": {"batch_size": True}}
WRONG: dict[str, dict[str, Any]] = {
    "negative seed": {"seeds": [-1]},
    "huge seed": {"seeds": [2**70]},
    "seed twice": {"seeds": [0, 0]},
    "margin of an unknown task": {"policy": {"task_margins": {"calendar": 0.1}}},
    "unknown mandatory task": {"policy": {"mandatory": ["nope"]}},
    "no mandatory task": {"policy": {"mandatory": []}},
    "margin of an axis without tasks": {"policy": {"axis_margins": {"numeric": 0.1}}},
    "option that is no number": {"recipes": {"sft": OPTIONS}},
    "task twice": {"tasks": ["capitals", "capitals"]},
    "task that is a target": {"tasks": ["countdown"]},
    "target twice": {"targets": ["countdown", "countdown"]},
    "base that is a folder of something else": {"base": "/etc"},
    "base without a name": {"base": ""},
    "name of another folder": {"name": "../../x"},
    "absolute name": {"name": "/x"},
    "name of two lines": {"name": "x\n::error::pwned"},
    "name with an escape": {"name": "\x1b[31mred"},
    "empty name": {"name": ""},
    "long name": {"name": "x" * 300},
    "hidden name": {"name": ".x"},
    "recipe of two lines": {"recipes": {"x\n::error::pwned": {"method": "sft"}}},
    "recipe with markup": {"recipes": {"[/red]": {"method": "sft"}}},
    "negative factor": {"sweep": {"factors": [-1.0, 1.0]}},
    "huge count": {"divergence_tokens": 10**12},
    "number as text": {"seeds": ["0"]},
    "infinite budget": {"budget": {"unit": "flops", "amount": float("inf")}},
}


def run(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a command in this process."""
    monkeypatch.setattr(sys, "argv", ["retainbench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    shown = capsys.readouterr()
    return ended.value.code, shown.out, shown.err


def written(folder: Path, changes: dict[str, Any]) -> str:
    """Path of a suite file."""
    file = folder / "suite.yaml"
    file.write_text(yaml.safe_dump(GOOD | changes), encoding="utf-8")
    return str(file)


@pytest.mark.parametrize("changes", WRONG.values(), ids=WRONG)
def test_a_wrong_suite_is_refused_whole(
    changes: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, error = run(["plan", written(tmp_path, changes)], monkeypatch, capsys)
    assert (code, out, error.count("\n")) == (2, "", 1), error


@pytest.mark.parametrize("name", ["sft[lr=1e-4]", "sft [bold]x", "größer", "実験 1"])
def test_an_ordinary_name_is_shown_as_it_is(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = written(tmp_path, {"recipes": {name: {"method": "sft"}}})
    code, out, error = run(["plan", path], monkeypatch, capsys)
    assert (code, error) == (0, "")
    assert f"{name} on countdown, seed 0" in out


@pytest.mark.parametrize("device", ["cudaa", "cuda:99", "meta", "", "cpu:1", "privateuseone"])
def test_a_device_that_does_not_exist_is_refused_before_any_work(
    device: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "run"
    words = ["run", "quick", "--device", device, "--out", str(out)]
    code, _, error = run(words, monkeypatch, capsys)
    assert (code, error.count("\n"), out.exists()) == (2, 1, False)
    assert "device" in error


@pytest.mark.parametrize("name", ["file", "file/below", "file/below/deeper", "n" * 300])
@pytest.mark.parametrize(
    "verb",
    [
        "run quick --out",
        "certify --base fruitfly --candidate fruitfly --suite quick --out",
        "freeze hellaswag --out",
        "evaluate fruitfly capitals --out",
        "export x --format model-index --out",
        "publish x",
    ],
)
def test_a_place_that_cannot_be_written_is_refused_before_any_work(
    verb: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if verb.startswith("evaluate") and name == "file":
        name = "."  # a file may be replaced, a folder may not
    (tmp_path / "file").touch()
    with at_most(5):
        code, _, error = run([*verb.split(), str(tmp_path / name)], monkeypatch, capsys)
    assert (code, error.count("\n")) == (2, 1), error
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_policy_for_a_task_that_was_not_compared_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    where = stored_pair(tmp_path, suite(60))
    (where / "policy.yaml").write_text("margin: 0.1\ntask_margins: {genral0: 0.2}\n")
    words = ["gate", "--policy", str(where / "policy.yaml")]
    words += ["--base-records", str(where / "base.jsonl")]
    words += ["--candidate-records", str(where / "candidate.jsonl")]
    code, out, error = run(words, monkeypatch, capsys)
    assert (code, out) == (2, "")
    assert "unknown 'genral0'; did you mean 'general0'?" in error


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("publish run run", "holds the run itself"),
        ("publish run ..", "holds the run itself"),
        ("certify --base a --candidate b --suite quick --out .", "holds the working folder"),
        ("certify --base a --candidate b --suite quick --out ..", "holds the working folder"),
        ("gate --base-records a --candidate-records b --base-sha256=", "is not a SHA-256"),
        ("gate run --policy-sha256 abc", "is not a SHA-256"),
    ],
)
def test_what_would_overwrite_its_source_or_pin_nothing_is_refused(
    line: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "here" / "run").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    code, out, error = run(line.split(), monkeypatch, capsys)
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert message in error
    assert [path.name for path in tmp_path.rglob("*")] == ["here", "run"]
