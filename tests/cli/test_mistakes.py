"""Whatever a person mistypes is one line on standard error and exit 2, never a traceback."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from retainbench.harness.cli import main as cli

SCRIPT = Path(sys.executable).with_name("retainbench")
PARSER_MISTAKES = (
    "nonsense",
    "--nonsense",
    "gate --nonsense",
    "gate --ouT x",
    "gate --tier x",
    "gate a b",
    "gate --policy",
    "run",
    "run quick --workers 0",
    "run quick --workers -1",
    "run quick --workers abc",
    "run quick --executor foo",
    "run quick --quiet=maybe",
    "plan",
    "plan quick extra",
    "report",
    "publish x",
    "certify",
    "certify --base x",
    "certify --base a --candidate b --suite quick --out x --tier x",
    "verify",
    "verify a b",
    "export",
    "export x --format",
    "evaluate",
    "evaluate fruitfly",
    "evaluate fruitfly calendar --limit 0",
    "evaluate fruitfly calendar --limit x",
    "drift",
    "drift a",
    "sensitivity",
    "sensitivity x --alpha 0.9",
    "sensitivity x --alpha x",
    "power --json=1",
    "tasks x",
    "freeze",
    "freeze x --out y --axis X1",
    "freeze x --out y --max-new-tokens 0",
    "suites x",
    "methods x",
    "bases",
    "bases nonsense",
    "bases list x",
    "bases fetch",
)
VERB_MISTAKES = (
    "run nonsense",
    "plan nonsense.yaml",
    "plan ''",
    "report nonsense",
    "gate",
    "gate nonsense",
    "gate --base-records a",
    "compare one",
    "power",
    "power quick --base-records x",
    "freeze --out x",
    "freeze --out x --jsonl y",
    "tasks --pack nonsense",
    "bases fetch nonsense",
    "drift nonsense nonsense",
    "evaluate fruitfly ./nonsense",
    "evaluate fruitfly nonsense",
    "export x --format model-index --out y --push nonsense",
    "run quick --executor slurm --workers 2",
    "certify --base fruitfly --candidate fruitfly --suite quick --out x --template own",
    "certify --base fruitfly --candidate fruitfly --suite quick --out x --key nonsense.pem",
)
CERTIFY = "certify --base fruitfly --candidate fruitfly --suite quick --out x"
WITHOUT_EFFECT = (
    "gate run --pack p",
    "gate --base-records a --candidate-records b --cell c",
    "gate --base-results a --candidate-results b --cell c",
    "compare a b --policy p",
    "compare a b --axis t=numeric",
    "compare a b --out o",
    "power --base-records a --device cpu",
    "freeze --out x --jsonl y --name z --cluster c",
    "freeze --out x --jsonl y --name z --num-fewshot 1",
    "freeze --out x --suite standard --licence MIT",
    "freeze --out x hellaswag --match numeric",
    "new target t --prompt p",
    "new target t --train f --reward exact --split test",
    "new target t --hub o/n --reward exact --test-split s --test f",
    "evaluate fruitfly capitals --engine lm-eval:hf --dtype bfloat16",
    f"{CERTIFY} --estimate --key k",
    f"{CERTIFY} --estimate --candidate-engine lm-eval:hf",
)


def outcome(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str]:
    """Exit code and standard error of `main` in this process."""
    monkeypatch.setattr(sys, "argv", ["retainbench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert isinstance(ended.value.code, int)
    return ended.value.code, capsys.readouterr().err


@pytest.mark.parametrize("line", [*PARSER_MISTAKES, *VERB_MISTAKES])
def test_a_mistake_is_one_line_and_exit_2(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, error = outcome([word.strip("'") for word in line.split()], monkeypatch, capsys)
    assert (code, error.count("\n")) == (2, 1), error
    assert error.startswith("retainbench: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("line", WITHOUT_EFFECT)
def test_an_option_without_effect_is_refused_by_name(
    line: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code, error = outcome(line.split(), monkeypatch, capsys)
    assert (code, error.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])
    assert f"{line.split()[-2]}: no effect with " in error


def test_a_lock_is_not_frozen_for_what_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    method = tmp_path / "method.py"
    method.write_text("", encoding="utf-8")
    code, error = outcome(["check", str(method), "--freeze"], monkeypatch, capsys)
    assert code == 2
    assert "--freeze: no effect with a method or a suite" in error


@pytest.mark.parametrize("line", ["gate --nonsense", "nonsense", "verify", "gate --tier x"])
def test_the_installed_script_answers_the_same(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [SCRIPT, *line.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "--help`." in done.stderr


def test_no_verb_prints_the_help_and_is_no_pass() -> None:
    done = subprocess.run([SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.count("Usage:") == 1
    assert "certify" in done.stdout


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["retainbench", "--version"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 0
    assert capsys.readouterr().out == "retainbench 0.1.0\n"


@pytest.fixture
def verb() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Adds a verb to the command line for one test."""
    before = list(cli.app.registered_commands)
    yield lambda function: cli.app.command("try-it")(function)
    cli.app.registered_commands[:] = before


def test_a_bug_keeps_its_traceback_and_exits_70(
    verb: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def broken() -> None:
        raise ValueError("x\n::error::pwned")

    verb(broken)
    code, error = outcome(["try-it"], monkeypatch, capsys)
    assert code == 70
    assert "in broken" in error
    assert "\\x3a:error::pwned" in error
    assert "\n::" not in error


def test_an_interrupt_is_130(
    verb: Callable[[Callable[[], None]], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb(lambda: signal.raise_signal(signal.SIGINT))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        code, error = outcome(["try-it"], monkeypatch, capsys)
    finally:
        signal.signal(signal.SIGINT, before)
    assert (code, error.count("\n")) == (130, 0)


def test_a_file_that_the_machine_refuses_is_a_mistake(
    verb: Callable[[Callable[[], None]], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    verb(lambda: (tmp_path / ("n" * 300)).touch())
    code, error = outcome(["try-it"], monkeypatch, capsys)
    assert (code, error.count("\n")) == (2, 1)
    assert "File name too long" in error
