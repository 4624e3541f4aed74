"""What `retainbench new` writes is used at once, and its messages name commands that run."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from retainbench.harness.cli import main as cli

Command = Callable[[str], tuple[int, str, str]]
ROWS = [{"id": f"q{n}", "query": f"{n} + 1 =", "answer": str(n + 1)} for n in range(3)]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Command:
    """A command in an empty folder -> exit code, standard output and standard error."""
    folder = tmp_path / "my folder"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def command(line: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["retainbench", *shlex.split(line)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return command


def commands(text: str) -> list[str]:
    """The command lines of ours in backquotes."""
    return [part for part in text.split("`") if part.startswith("retainbench ")]


def test_a_new_task_says_what_comes_next(run: Command) -> None:
    """The commands that it prints run, in a folder whose name has a space."""
    code, out, _ = run(f"new task ours --axis safety --out {shlex.quote(str(Path.cwd()))}")
    assert code == 0
    check, again = commands(out)
    Path("ours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    for line in (again, check.replace("check", "evaluate fruitfly") + " --limit 1"):
        code, out, error = run(line.removeprefix("retainbench "))
        assert (code, "ours" in out) == (0, True), error


def test_a_folder_is_scored_by_its_path(run: Command) -> None:
    assert run("new task ours")[0] == 0
    assert "ours" in run("evaluate fruitfly ./ours capitals --limit 2")[1]
    assert "write ./ours" in run("evaluate fruitfly ours")[2]
    code, _, error = run("evaluate fruitfly ./theirs")
    assert (code, "retainbench new task theirs" in error) == (2, True)


def test_a_name_without_its_path_is_refused_with_the_path(run: Command) -> None:
    for line in ("new task ours", "new target sums", "new method mine"):
        assert run(line)[0] == 0
    for number, words in enumerate(("--target sums", "--task ours", "--method mine")):
        assert run(f"new suite s{number} {words}")[0] == 0
        code, _, error = run(f"plan s{number}.yaml")
        name = words.split()[1]
        assert (code, f"write ./{name}" in error) == (2, True), error


def test_what_is_there_is_kept(run: Command) -> None:
    """Samples never replace a file, so no message offers it."""
    lines = ("new task ours", "new target sums", "new method mine")
    assert [run(line)[0] for line in lines] == [0, 0, 0]
    Path("mine.py").write_text("changed")
    for line in lines:
        code, _, error = run(line)
        assert (code, "--overwrite" in error, "choose another name" in error) == (2, False, True)


def test_drift_takes_what_other_verbs_take(run: Command) -> None:
    code, out, error = run("drift fruitfly fruitfly")
    assert (code, "unchanged 1.0000" in out) == (0, True), error
