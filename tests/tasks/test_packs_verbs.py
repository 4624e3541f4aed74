"""`--pack` on every verb that reads tasks: packs are verified first, added, scored and recorded."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from fixtures.packs import PLAIN, SUITE, choice_rows, make_pack, write_jsonl, write_sources
from retainbench.harness.cli import main as cli
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.scorecards import Scorecard
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import evaluate, sample_rows, stored
from retainbench.harness.scoring import item_records as evaluate_records
from retainbench.harness.scoring.engines.requests import RequestAnswers
from retainbench.harness.suites import loading as suite_loading
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks import pack as tasks_pack
from retainbench.harness.tasks.catalogue import Catalogue


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A pack of sixty sums."""
    make_pack(tmp_path / "pack", rows=choice_rows(60))
    return tmp_path / "pack"


@pytest.fixture
def small(tmp_path: Path, tiny_base: Path) -> Path:
    """A suite file with one small task."""
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SUITE | {"base": str(tiny_base)}), encoding="utf-8")
    return path


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of `retainbench ARGUMENTS`."""
    monkeypatch.setattr(sys, "argv", ["retainbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def tamper(pack: Path) -> Path:
    """One byte of one item; it stays a good item."""
    path = pack / "sums" / "items.jsonl"
    data = path.read_bytes()
    assert data.count(b"3 + 1?") >= 1
    path.write_bytes(data.replace(b"3 + 1?", b"3 + 2?", 1))
    return path


VERBS = {
    "run": "run SUITE --out OUT",
    "plan": "plan SUITE",
    "certify": "certify --base BASE --candidate BASE --suite SUITE --out OUT",
    "evaluate": "evaluate BASE sums",
    "gate": "gate --base-results PACK --candidate-results PACK --policy SUITE",
    "compare": "compare --base-results PACK --candidate-results PACK",
    "tasks": "tasks",
    "verify": "verify OUT",
    "export": "export OUT --format cyclonedx --out OUT",
}


@pytest.mark.parametrize("verb", list(VERBS))
def test_one_changed_byte_ends_every_verb_with_4(
    verb: str,
    pack: Path,
    small: Path,
    tiny_base: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line on standard error that names the file; nothing was scored or written."""
    path = tamper(pack)
    names = {"SUITE": small, "OUT": tmp_path / "out", "BASE": tiny_base, "PACK": pack}
    arguments = [names.get(word, word) for word in VERBS[verb].split()]
    assert call(monkeypatch, *arguments, "--pack", pack) == 4
    said = capsys.readouterr().err
    assert said == f"retainbench: {path}: differs from the lock of sums\n"
    assert not (tmp_path / "out").exists()


def test_scoring_verifies_packs_wherever_it_runs(pack: Path, tiny_base: Path) -> None:
    """A worker gets the catalogue as data and reads the pack's files later."""
    known = Catalogue.of([pack])
    path = tamper(pack)
    with pytest.raises(IntegrityError, match=f"{path}: differs from the lock of sums"):
        list(evaluate.of_model(bases.of_folder(tiny_base), ["sums"], tasks=known))


def test_items_changed_after_the_check_are_not_scored(pack: Path, tiny_base: Path) -> None:
    """Every answered item is held against the lock, whenever its file was changed."""
    (info,) = tasks_pack.read(pack)
    catalogue.verify_lock(info)
    tamper(pack)
    prepared = sample_rows.prepared_task(info)
    for request in prepared.task.instances:
        request.resps = [(-1.0, False)]
    rows = sample_rows.sample_rows(prepared, prepared.task.instances, 0, RequestAnswers())
    with pytest.raises(IntegrityError, match="item sum:3: its doc_hash differs from the lock"):
        evaluate_records.to_records(info, [row | {"repeat": 0} for row in rows], None)


def test_a_suite_gets_the_tasks_of_packs_and_may_name_them(
    pack: Path, small: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named or not, they are there once; an axis means the package's own tasks."""
    assert suite_loading.load(str(small)).tasks == ["units"]
    known = Catalogue.of([pack])
    assert suite_loading.load(str(small), known).tasks == ["units", "sums"]
    small.write_text(
        yaml.safe_dump(SUITE | {"base": str(tiny_base), "tasks": ["sums", "numeric"]}),
        encoding="utf-8",
    )
    chosen = suite_loading.load(str(small), known)
    names = planning.retention_tasks(chosen)
    assert names[0] == "sums"
    assert names.count("sums") == 1
    answered = [name for name in names if name != "numeric_text"]
    assert planning.policy_of(chosen, known).mandatory == answered
    assert len(answered) == len(names) - 1


def test_a_pack_is_part_of_a_plan_by_its_lock(
    pack: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other items, other digest; the store finds records by it as well."""
    found, store = [], stored.Store(tmp_path, stored.scoring_settings("cpu"))
    for rows in (choice_rows(60), choice_rows(61)):
        shutil.rmtree(pack)
        info = make_pack(pack, rows=rows)
        known = Catalogue.of([pack])
        digest = planning.gather(suite_loading.load(str(small), known), tasks=known).tasks["sums"]
        assert digest == catalogue.lock_digest(info)
        found.append((digest, store.path("model", info).name))
    assert len(set(found)) == 2
    assert found[0][1] != found[1][1]


def test_run_scores_a_pack(
    pack: Path, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scorecard has the pack's task and the digest of its lock; --pack is needed to go on."""
    out = tmp_path / "run"
    assert call(monkeypatch, "run", small, "--out", out, "--pack", pack, "--quiet") == 0
    (card,) = read_jsonl(out / "scorecards.jsonl", Scorecard)
    (info,) = tasks_pack.read(pack)
    assert card.provenance["task sums"] == catalogue.lock_digest(info)
    assert json.loads((out / "plan.json").read_text())["retention"] == ["units", "sums"]
    (command,) = json.loads((out / "commands.json").read_text())["lines"]
    assert command[:2] == ["retainbench", "run"]
    assert command[-3:] == ["--pack", str(pack), "--quiet"]
    assert call(monkeypatch, "run", small, "--out", out, "--quiet") == 2


def test_certify_adds_a_pack(
    pack: Path, small: Path, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock is in the certificate, which verifies without the pack too."""
    candidate = tmp_path / "candidate"
    shutil.copytree(tiny_base, candidate)
    out = tmp_path / "certificate"
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    common = ["--base", tiny_base, "--candidate", candidate, "--suite", small]
    assert call(monkeypatch, "certify", *common, "--out", out, "--pack", pack) in (0, 3)
    assert (out / "locks" / "sums.lock").read_bytes() == (pack / "sums" / "task.lock").read_bytes()
    card = json.loads((out / "scorecard.json").read_text())
    assert card["expected"] == ["units", "sums"]
    assert call(monkeypatch, "verify", out) == 4
    assert call(monkeypatch, "verify", out, "--allow-unsigned") == 0


def test_tasks_lists_packs_with_chance_version_and_licence(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "tasks", "--pack", pack) == 0
    head, rule, *lines = capsys.readouterr().out.splitlines()
    assert set(rule.strip()) == {"─"}
    expected = "axis task from kind items chance version licence base scores"
    assert " ".join(head.split()) == expected
    (line,) = [line for line in lines if line.split()[1] == "sums"]
    assert " ".join(line.split()) == "numeric sums pack multiple_choice 60 0.500 1.0 not stated"
    assert len(lines) == len(catalogue.own()) + 1
    (line,) = [line for line in lines if line.split()[1] == "units"]
    assert line.endswith("fruitfly 0.76, SmolLM2-135M-Instruct 0.56")


def test_a_packs_words_cannot_move_the_cursor(
    pack: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in the list nor in the line that refuses it."""
    path = pack / "sums" / "sums.yaml"
    text = path.read_text(encoding="utf-8").replace("not stated", r'"\e[2J free"')
    path.write_text(text, encoding="utf-8")
    catalogue.write_lock(catalogue.read_task(pack / "sums"))
    assert call(monkeypatch, "tasks", "--pack", pack) == 0
    shown = capsys.readouterr().out
    assert r"\x1b[2J free" in shown
    path.write_text(text + r'"\e[2J": 1' + "\n", encoding="utf-8")
    assert call(monkeypatch, "tasks", "--pack", pack) == 4
    assert "\x1b" not in shown + capsys.readouterr().err


def test_lm_eval_tasks_are_frozen_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Several at once, and the line says what was not kept."""
    sources = write_sources(tmp_path / "sources", PLAIN)
    arguments = ["freeze", "src_shots", "src_generate", "--include-path", sources]
    out = tmp_path / "pack"
    assert call(monkeypatch, *arguments, "--axis", "temporal", "--out", out) == 0
    infos = tasks_pack.read(out)
    assert {(info.name, info.axis) for info in infos} == {
        ("src_shots", "temporal"),
        ("src_generate", "temporal"),
    }
    said = capsys.readouterr().out
    assert "9 items, context 2 shots" in said
    assert "not scored: filter whole" in said


def test_freeze_from_the_command_line(
    tmp_path: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file becomes a pack that evaluate takes; the wrong combination says what to write."""
    file = write_jsonl(tmp_path / "sums.jsonl", choice_rows())
    out = tmp_path / "pack"
    arguments = ["freeze", "--jsonl", file, "--name", "sums", "--axis", "numeric", "--out", out]
    assert call(monkeypatch, *arguments, "--prompt", r"{{query}}\n=") == 0
    assert catalogue.prompts(tasks_pack.read(out)[0])[0] == "0 + 1?\n="
    provenance = json.loads((out / "sums" / "provenance.json").read_text())
    assert provenance["command"][1:3] == ["freeze", "--jsonl"]
    for wrong in (["freeze", "--out", out], ["freeze", "--jsonl", file, "--out", out]):
        assert call(monkeypatch, *wrong) == 2
    records = tmp_path / "records.jsonl"
    asked = ["evaluate", tiny_base, "sums", "--pack", out, "--out", records]
    assert call(monkeypatch, *asked) == 0
    assert len(records.read_bytes().splitlines()) == 8


def test_a_pack_is_scored_without_running_its_files(
    pack: Path, tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No module of a pack is imported, so no compiled code appears beside it."""
    before = sorted(path.name for path in (pack / "sums").iterdir())
    evaluate.evaluate(loading.load(tiny_base), tasks_pack.read(pack), limit=2)
    assert sorted(path.name for path in (pack / "sums").iterdir()) == before
