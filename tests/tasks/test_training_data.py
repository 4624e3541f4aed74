"""`--train-data` on its verbs: items that the candidate was trained on do not decide, visibly."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path

import pytest
import yaml

from fixtures import certify as fixtures
from fixtures.certify import DAMAGE, POLICY, edit, request
from fixtures.packs import SUITE, write_jsonl
from retainbench.harness.certificate import verify as verifying
from retainbench.harness.certificate.certify import Certified, certify
from retainbench.harness.cli import main as cli
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import read_jsonl, sha256_file
from retainbench.harness.core.schema import Policy
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.tasks import catalogue

verify = partial(verifying.verify, allow_unsigned=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))


def stolen(path: Path, task: str, share: float) -> Path:
    """A training file with the first items of a task."""
    items = catalogue.items(catalogue.own()[task])
    kept = items[: round(share * len(items))]
    return write_jsonl(path, [{"q": r["query"], "a": r["choices"][r["gold"]]} for r in kept])


def certified(
    folder: Path, policy: Policy, files: list[Path], answers: fixtures.Answers | None = None
) -> Certified:
    """A candidate that lost the first 15 % of arithmetic, trained on the files."""
    base = fixtures.model(folder / "base")
    candidate = fixtures.model(folder / "candidate", DAMAGE)
    asked = request(answers or fixtures.Answers(), train_data=files)
    out = folder / "cert"
    return certify(str(base), str(candidate), fixtures.suite(), policy, out, asked)


def test_a_certificate_leaves_out_what_was_trained_on(tmp_path: Path) -> None:
    """The only damage is on items of the file; they are counted, named and recomputed."""
    file = stolen(tmp_path / "train.jsonl", "arithmetic", DAMAGE["arithmetic"])
    assert certified(tmp_path / "without", POLICY, []).gate.verdict == "REGRESSION"
    made = certified(tmp_path / "with", POLICY, [file])
    (change,) = [t.change for t in made.gate.tasks if t.change.task == "arithmetic"]
    assert change.excluded == len(made.evidence.train_data[0].overlap["arithmetic"])
    assert change.excluded >= len(file.read_bytes().splitlines()) > 20
    assert made.gate.verdict == "PASS"
    (warning,) = made.gate.warnings
    assert warning.endswith("excluded from the verdict")
    assert warning in (made.bundle.ci / "summary.md").read_text().replace("\\", "")
    stated = json.loads(made.bundle.certificate.read_text())["predicate"]["configuration"]
    (listed,) = [entry for entry in stated if entry["name"] == "train-data 1"]
    assert listed["digest"]["sha256"] == sha256_file(file)
    file.unlink()
    held = verify(made.bundle.root)
    assert held.gate == made.gate
    assert any(note.startswith("training data train.jsonl") for note in held.notes)


def test_what_is_left_out_cannot_be_edited(tmp_path: Path) -> None:
    """Neither the ids, nor the file's digest in the statement."""
    file = stolen(tmp_path / "train.jsonl", "arithmetic", 0.01)
    made = certified(tmp_path / "one", POLICY, [file])
    assert made.gate.verdict == "REGRESSION"
    edit(
        made.bundle.scorecard,
        made.evidence.train_data[0].overlap["arithmetic"][0],
        "arithmetic:999",
    )
    with pytest.raises(IntegrityError, match=r"scorecard\.json: was changed"):
        verify(made.bundle.root)
    made = certified(tmp_path / "two", POLICY, [file])
    edit(made.bundle.certificate, sha256_file(file), "0" * 64)
    with pytest.raises(IntegrityError, match="does not follow from its records"):
        verify(made.bundle.root)


def test_a_policy_may_report_or_refuse(tmp_path: Path) -> None:
    """Reported, the verdict stands; refused, nothing is scored and nothing is left behind."""
    file = stolen(tmp_path / "train.jsonl", "arithmetic", DAMAGE["arithmetic"])
    reporting = POLICY.model_copy(update={"contaminated": "report"})
    made = certified(tmp_path / "report", reporting, [file])
    assert made.gate.verdict == "REGRESSION"
    assert made.gate.warnings[0].endswith("reported only")
    assert verify(made.bundle.root).gate == made.gate
    answers = fixtures.Answers()
    refusing = POLICY.model_copy(update={"contaminated": "refuse"})
    with pytest.raises(IntegrityError, match=r"train.jsonl .*arithmetic 45.*: refused"):
        certified(tmp_path / "refuse", refusing, [file], answers)
    assert answers.calls == []
    assert not (tmp_path / "refuse" / "cert").exists()


def test_a_task_that_is_given_away_whole_cannot_be_certified(tmp_path: Path) -> None:
    file = stolen(tmp_path / "train.jsonl", "arithmetic", 1.0)
    with pytest.raises(IntegrityError, match="none is left to judge"):
        certified(tmp_path, POLICY, [file])
    assert not (tmp_path / "cert").exists()


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `retainbench ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["retainbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_the_verbs_say_what_the_files_give_away(
    tmp_path: Path,
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """plan, run and certify print one line a file; the run's table rests on the other items."""
    suite = tmp_path / "small.yaml"
    suite.write_text(yaml.safe_dump(SUITE | {"base": str(tiny_base)}), encoding="utf-8")
    mine = stolen(tmp_path / "mine.jsonl", "units", 0.2)
    other = write_jsonl(tmp_path / "other.jsonl", [{"text": "Owls eat mice."}])
    files = ["--train-data", mine, "--train-data", other]
    assert call(monkeypatch, "plan", suite, *files) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "Training data" in line]
    assert [line.split(": ")[1].split()[0] for line in lines] == ["mine.jsonl", "other.jsonl"]
    assert "excluded from the verdict" in lines[0]
    assert lines[1].endswith("other.jsonl (1 row) gives away no retention item")
    assert call(monkeypatch, "run", suite, *files, "--out", tmp_path / "run") == 0
    assert lines[0] in capsys.readouterr().err
    assert call(monkeypatch, "run", suite, *files, "--out", tmp_path / "run", "--quiet") == 0
    assert "Training data" not in "".join(capsys.readouterr())
    (card,) = read_jsonl(tmp_path / "run" / "scorecards.jsonl", Scorecard)
    (change,) = card.points[-1].tasks
    assert change.excluded > 0
    note = f"{change.excluded} items overlap the training data and are left out"
    assert note in (tmp_path / "run" / "table.md").read_text()
    models = ["--base", tiny_base, "--candidate", tiny_base, "--suite", suite]
    out = tmp_path / "certificate"
    assert call(monkeypatch, "certify", *models, *files, "--out", out) in (0, 3)
    said = capsys.readouterr().out
    assert "warning: mine.jsonl" in said
    assert lines[1] in said
    assert call(monkeypatch, "verify", out, "--allow-unsigned") == 0
    assert call(monkeypatch, "plan", suite, "--train-data", tmp_path / "none.jsonl") == 2
    assert capsys.readouterr().err.endswith(
        "none.jsonl: not a file. Write the path of a JSON Lines file\n"
    )
