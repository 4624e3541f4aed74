"""Names that strangers wrote, through every verb that prints them: shown, never obeyed.

No line of output starts a workflow command, no control or hidden character reaches a terminal or a
file, and no verb ends in a traceback. The names are generated; stored files have them, because what
a person writes is refused early (tests/cli/test_refused_early.py).
"""

from __future__ import annotations

import json
import random
import re
import sys
from pathlib import Path

import pytest
import yaml

from fixtures import certify as certificates
from fixtures import report as runs
from fixtures.gate import record
from retainbench.harness.certificate.certify import certify
from retainbench.harness.certificate.export import FORMATS
from retainbench.harness.cli import main as cli
from retainbench.harness.core.files.storage import write_jsonl
from retainbench.harness.core.records import ItemRecord

PIECES = (
    *("\n::error::pwned", "\r::add-mask::a", "\n  ::stop-commands::z", "##[group]x", "\x1b[31mred"),
    *("\x1b]8;;http://x\x07", "[/red]", "[bold]", ":smile:", "\u202egnp", "\u200b", "\x00", "\x7f"),
    *(
        "\u2028",
        "\x85",
        "<b>",
        "|",
        "`",
        "$x$",
        "\\input{x}",
        "=1+1",
        "@team",
        "a" * 200,
        "表",
        "é",
    ),
)
ACTS = re.compile(r"^\s*::|##\[", re.MULTILINE)
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069]")


def names(number: int) -> list[str]:
    """Different texts of one to four pieces."""
    draw = random.Random(7)
    return [
        f"n{index}" + "".join(draw.choices(PIECES, k=draw.randint(1, 4))) for index in range(number)
    ]


def check(text: str, commands: bool = True) -> None:
    """Nothing in an output acts or hides."""
    assert not (commands and ACTS.search(text)), text
    assert not HIDDEN.search(text), repr(HIDDEN.search(text))


def run(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> int:
    """Exit code of a verb whose output has been checked."""
    monkeypatch.setattr(sys, "argv", ["retainbench", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code in (0, 1, 2, 3, 4), shown.err
    check(shown.out)
    check(shown.err)
    return ended.value.code


def file_names(number: int) -> list[str]:
    """The same, as far as a file can have them."""
    return [re.sub("[/\0]", "", name)[:120] for name in names(number)]


def check_files(folder: Path, endings: tuple[str, ...]) -> None:
    """Every text file that was written hides nothing."""
    files = [path for path in folder.rglob("*") if path.suffix in endings]
    assert files
    for path in files:
        check(path.read_text(encoding="utf-8"), commands=False)


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A run folder whose scorecards have hostile recipes, methods and reasons."""
    arms = dict(zip(names(6), runs.ARMS.values(), strict=True))
    cards = [
        card.model_copy(update={"cell": f"c{n}", "method": card.recipe, "reason": card.recipe})
        for n, card in enumerate(
            runs.scorecards(arms, targets=("countdown",), seeds=(0,), failed=())
        )
    ]
    cards[0] = cards[0].model_copy(update={"status": "failed", "points": []})
    runs.write_run(tmp_path / "run", cards, items=8)
    return tmp_path / "run"


def test_verbs_that_show_a_run(
    stored: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["report", str(stored)], monkeypatch, capsys) == 0
    assert run(["publish", str(stored), str(stored.with_name("out"))], monkeypatch, capsys) == 0
    assert run(["compare", str(stored), str(stored)], monkeypatch, capsys) == 0
    check_files(stored.with_name("out"), (".md", ".html", ".tex", ".csv", ".svg"))
    check_files(stored, (".html", ".svg"))
    run(["gate", str(stored)], monkeypatch, capsys)


@pytest.mark.parametrize("github", ["true", "false"])
def test_verbs_that_show_records(
    github: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GITHUB_ACTIONS", github)
    found = names(12)
    sides: list[list[ItemRecord]] = [
        [record(name, n, float(n % 5 > lost)) for name in found for n in range(60)]
        for lost in (0, 2)
    ]
    for side, records in zip(("base", "candidate"), sides, strict=True):
        write_jsonl(tmp_path / f"{side}\n::error::x.jsonl", records)
    (tmp_path / "policy.yaml").write_text("margin: 0.05\n")
    base, candidate = (str(tmp_path / f"{s}\n::error::x.jsonl") for s in ("base", "candidate"))
    policy = ["--policy", str(tmp_path / "policy.yaml")]
    out = tmp_path / "out"
    words = ["gate", "--base-records", base, "--candidate-records", candidate, *policy]
    if github == "false":
        assert run([*words, "--out", str(out)], monkeypatch, capsys) == 1
        check_files(out, (".md", ".xml"))
        run(["power", "--base-records", base, *policy], monkeypatch, capsys)
        missing = str(tmp_path / "no\n::error::x")
        for verb in ("report", "gate", "verify", "plan", "sensitivity", "tasks --pack"):
            assert run([*verb.split(), missing], monkeypatch, capsys) in (2, 4)
        return
    monkeypatch.setattr(sys, "argv", ["retainbench", *words])
    with pytest.raises(SystemExit):
        cli.main()
    lines = capsys.readouterr().out.splitlines()
    quiet = lines[0].split("::")[2]
    loud = [line for line in lines if ACTS.search(line)]
    assert loud[0] == f"::stop-commands::{quiet}"
    assert loud[1] == f"::{quiet}::"
    assert all(re.match(r"::(error|warning) title=", line) for line in loud[2:])
    check("\n".join(lines), commands=False)


def test_verbs_around_certificates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A candidate's folder has a hostile name; its certificate is verified and exported."""
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    for number, name in enumerate(file_names(3)):
        place = tmp_path / str(number)
        base = certificates.model(place / "base")
        candidate = certificates.model(place / name)
        asked = certificates.request(certificates.Answers())
        certify(
            *(str(base), str(candidate), certificates.suite(), certificates.POLICY),
            *(place / "cert", asked),
        )
        words = ["verify", str(place / "cert"), "--allow-unsigned", "--candidate", str(candidate)]
        assert run(words, monkeypatch, capsys) == 0
        check_files(place / "cert", (".html", ".md", ".csv", ".xml"))
        for form in FORMATS:
            words = ["export", str(place / "cert"), "--format", form, "--allow-unsigned"]
            code = run([*words, "--out", str(place / form)], monkeypatch, capsys)
            assert code == (2 if form == "eval-results" else 0)  # no task of ours is on the hub
        check_files(place / "model-index", (".yaml",))
        (index,) = (place / "model-index").iterdir()
        assert yaml.safe_load(index.read_text())["model-index"][0]["name"] == name
        outside = {path.name for path in place.iterdir()} - {"base", name, "cert", *FORMATS}
        assert not outside


def test_freezing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names of files, fields and licences are shown; names of packs are refused."""
    for number, name in enumerate(file_names(6)):
        file = tmp_path / f"{name}.jsonl"
        file.write_text(json.dumps({"id": "1", "query": name, "answer": name, name: 1}) + "\n")
        words = ["freeze", "--jsonl", str(file), "--licence", name, "--out", str(tmp_path / "out")]
        assert run([*words, "--name", f"pack{number}"], monkeypatch, capsys) == 0
        assert run([*words, "--name", f"../{name}"], monkeypatch, capsys) == 2
    assert run(["tasks", "--pack", str(tmp_path / "out")], monkeypatch, capsys) == 0
    assert len(list((tmp_path / "out").iterdir())) == 6
