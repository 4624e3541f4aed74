"""Every forged certificate is refused: the rows of a campaign, and edits drawn by a seed.

The rows are those of shared/cases/faults.md, "Certificates"; here each one is built. A forger of
`fixtures.forgeries` rebuilds all that needs no key, so that it is the check itself that refuses.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fixtures import certify as fixtures
from fixtures import forgeries
from fixtures.certify import DAMAGE, TASKS, answers, edit, keys, make
from fixtures.forgeries import edit_json, edit_lines, remake
from fixtures.mutations import mutations
from fixtures.waiting import at_most
from retainbench.harness.certificate import dsse, measure
from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.certificate.certify import certify
from retainbench.harness.certificate.export import FORMATS, export
from retainbench.harness.certificate.verify import verify
from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError
from retainbench.harness.core.files.storage import canonical
from retainbench.harness.models import identity

unsigned = partial(verify, allow_unsigned=True)
SMALL_LOSS = {"date_formats": 0.014}  # four of 300 items: still a PASS


class Made(NamedTuple):
    """A certificate in a folder of its own, with its models and the maker's keys."""

    root: Path
    private: Path
    public: Path

    @property
    def bundle(self) -> Bundle:
        """The certificate."""
        return Bundle(self.root / "cert")

    @property
    def folders(self) -> dict[str, Path]:
        """Both models, as `verify` takes them."""
        return {"base": self.root / "base", "candidate": self.root / "candidate"}


def _made(folder: Path, loses: dict[str, float], items: int | None = None, **options: Any) -> Made:
    private, public = keys(folder)

    def again(_model: Any, names: Any, most: int | None = None) -> Any:
        return [answers(name, 0.007)[:most] for name in names]

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(folder / "cache"))
        models = (
            str(fixtures.model(folder / "base")),
            str(fixtures.model(folder / "candidate", loses)),
        )
        suite = fixtures.suite(items_per_task=items)
        asked = fixtures.request(
            fixtures.Answers(), measure=measure.drift_only, repeats={"batch": again}, **options
        )
        certify(*models, suite, fixtures.POLICY, folder / "cert", asked)
    return Made(folder, private, public)


@pytest.fixture(scope="session")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An unsigned PASS."""
    return _made(tmp_path_factory.mktemp("passed"), SMALL_LOSS)


@pytest.fixture(scope="session")
def regressed(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An unsigned REGRESSION of arithmetic."""
    return _made(tmp_path_factory.mktemp("regressed"), DAMAGE)


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """An unsigned certificate of few items, which is quick to verify."""
    return _made(tmp_path_factory.mktemp("few"), DAMAGE, items=20)


def copied(made: Made, tmp_path: Path) -> Made:
    """A copy to forge."""
    shutil.copytree(made.root, tmp_path, dirs_exist_ok=True)
    return made._replace(root=tmp_path)


def test_a_damaged_file_under_the_name_of_the_loaded_one(tmp_path: Path) -> None:
    """The folder's digest has no names in it: both folders have the same one."""
    private, public = keys(tmp_path)
    candidate = fixtures.model(tmp_path / "candidate")
    whole = (candidate / "model.safetensors").read_bytes()
    (candidate / "model.safetensors.kept").write_bytes(whole[:-4] + b"\0\0\0\0")
    base = fixtures.model(tmp_path / "base")
    asked = fixtures.request(fixtures.Answers(), key=private)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
        cert = tmp_path / "cert"
        certify(str(base), str(candidate), fixtures.suite(), fixtures.POLICY, cert, asked)
    found = verify(cert, key=public, candidate=candidate, base=base)
    (candidate / "model.safetensors").rename(candidate / "m.kept")
    (candidate / "model.safetensors.kept").rename(candidate / "model.safetensors")
    assert identity.identify(candidate).sha256 == found.subject
    with pytest.raises(IntegrityError, match=r"first difference: model\.safetensors"):
        verify(cert, key=public, candidate=candidate, base=base)


def _lost_items(made: Made) -> None:
    """The items that the candidate lost are in no lock and in no record."""
    rows = [json.loads(line) for line in made.bundle.candidate_records.read_text().splitlines()]
    lost = {row["item_id"] for row in rows if not row["score"]}

    def kept(lock: dict[str, Any]) -> None:
        lock["items"] = [item for item in lock["items"] if item["id"] not in lost]

    for path in (made.bundle.root / "locks").iterdir():
        edit_json(path, kept)
    _each(made, lambda row: None if row["item_id"] in lost else row)


def _each(made: Made, change: Callable[[dict[str, Any]], dict[str, Any] | None]) -> None:
    bundle = made.bundle
    for path in (bundle.base_records, bundle.candidate_records, *bundle.noises().values()):
        edit_lines(path, change)


def _clusters(made: Made) -> None:
    _each(made, lambda row: row | {"cluster": row["item_id"]})


def _chance(made: Made) -> None:
    _each(made, lambda row: row | {"chance": 0.95})


def _scores(made: Made) -> None:
    edit_lines(made.bundle.candidate_records, lambda row: row | {"score": 1.0})


def _likelihoods(made: Made) -> None:
    """Scores, log-likelihoods and soft scores of the base: only the text says otherwise."""
    rows = [json.loads(line) for line in made.bundle.base_records.read_text().splitlines()]
    best = {row["item_id"]: row for row in rows}
    kept = ("score", "choice_logprobs", "soft_score")
    edit_lines(
        made.bundle.candidate_records,
        lambda row: row | {field: best[row["item_id"]][field] for field in kept},
    )


def _axis(made: Made) -> None:
    _each(made, lambda row: row | {"axis": "general"})


def _dropped_task(made: Made) -> None:
    made.bundle.lock("arithmetic").unlink()
    _each(made, lambda row: None if row["task"] == "arithmetic" else row)
    edit_json(made.bundle.policy, lambda policy: policy["mandatory"].remove("arithmetic"))
    edit_json(made.bundle.scorecard, lambda card: card["expected"].remove("arithmetic"))


def _policy(made: Made) -> None:
    edit_json(made.bundle.policy, lambda policy: policy.update(margin=1.0))


@pytest.mark.parametrize(
    ("change", "stated", "message"),
    [
        (_lost_items, {}, "lock is not the installed task's"),
        (_clusters, {}, "its cluster or chance is not that of its lock"),
        (_chance, {}, "its cluster or chance is not that of its lock"),
        (_scores, {}, "its score contradicts its log-likelihoods and gold"),
        (_likelihoods, {}, "its response is not the most likely choice"),
        (_axis, {}, "its axis is not"),
        (_dropped_task, {}, "the tasks of suite tiny are not those that were compared"),
        (_dropped_task, {"suite": "quick"}, "the tasks of suite quick are not those"),
        (None, {"suite": "quick"}, "suite quick has a task that was not compared"),
        (None, {"created": "2999-01-01T00:00:00+00:00"}, "in the future"),
        (None, {"created": "1999-01-01T00:00:00+00:00"}, "before there was retainbench"),
        (None, {"created": "yesterday"}, "not a time in ISO 8601"),
        (None, {"created": "2026-11-28T12:00:00+02:00"}, "not a UTC time"),
        (None, {"created": "2026-11-28"}, "not a UTC time in seconds"),
    ],
)
def test_what_our_own_code_would_certify(
    regressed: Made,
    tmp_path: Path,
    change: Callable[[Made], None] | None,
    stated: dict[str, Any],
    message: str,
) -> None:
    """Records, locks and scorecard edited, then judged and written again by our own code."""
    made = copied(regressed, tmp_path)
    if change is not None:
        change(made)
    remake(made.bundle.root, **stated)
    with pytest.raises(IntegrityError, match=message):
        unsigned(made.bundle.root)


def test_a_policy_that_cannot_be_applied_is_broken_evidence(few: Made, tmp_path: Path) -> None:
    made = copied(few, tmp_path)
    before = forgeries.read(made.bundle.root)
    _policy(made)
    after = forgeries.rebuilt(before, forgeries.read(made.bundle.root))
    forgeries.write(after, made.bundle.root)
    with pytest.raises(IntegrityError, match="policy"):
        unsigned(made.bundle.root)


def test_drift_that_is_understated(regressed: Made, tmp_path: Path) -> None:
    made = copied(regressed, tmp_path)
    card = json.loads(made.bundle.scorecard.read_text())
    assert card["drift"]["relative"] == 1.0
    remake(made.bundle.root, drift=card["drift"] | {"relative": 0.001, "frobenius": 0.002})
    assert unsigned(made.bundle.root).gate.verdict == "REGRESSION"
    with pytest.raises(IntegrityError, match="drift is not what is stated at frobenius"):
        unsigned(made.bundle.root, **made.folders)


def test_a_task_of_the_users_own_suite_that_was_dropped(few: Made) -> None:
    longer = fixtures.suite(tasks=[*TASKS, "calendar"], items_per_task=20)
    with pytest.raises(IntegrityError, match="suite tiny has a task that was not compared: cal"):
        unsigned(few.bundle.root, suite=longer)
    with pytest.raises(IntegrityError, match="suite tiny: the certificate was made with other"):
        unsigned(few.bundle.root, suite=fixtures.suite(items_per_task=20, noise_floor=[]))
    assert unsigned(few.bundle.root, suite=fixtures.suite(items_per_task=20)).notes[1:] == [
        "the candidate folder was not given: its files were not compared",
        "the base folder was not given: its files were not compared",
    ]


def test_another_version_is_named_where_something_differs(few: Made, tmp_path: Path) -> None:
    made = copied(few, tmp_path)
    card = json.loads(made.bundle.scorecard.read_text())
    edit_json(made.bundle.lock("capitals"), lambda lock: lock.update(version="0"))
    remake(made.bundle.root, environment=card["environment"] | {"retainbench": "0.0.9"})
    notes = unsigned(made.bundle.root).notes
    differs = "task capitals: its lock is not the installed task's"
    assert f"{differs}; the certificate is of retainbench 0.0.9" in notes
    before = forgeries.read(made.bundle.root)
    edit(made.bundle.table, "arithmetic", "arithmetics")
    after = forgeries.rebuilt(before, forgeries.read(made.bundle.root))
    forgeries.write(after, made.bundle.root)
    with pytest.raises(IntegrityError, match=r"It was made by retainbench 0\.0\.9, which may"):
        unsigned(made.bundle.root)


def test_unsigned_is_refused_unless_asked(few: Made, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"unsigned, so nobody vouches .* --allow-unsigned"):
        verify(few.bundle.root)
    signed = make(tmp_path, key=few.private)
    with pytest.raises(IntegrityError, match=r"no key was given, .* give --key"):
        verify(signed.bundle.root)
    assert verify(signed.bundle.root, key=few.public).keyid
    envelope = json.loads(signed.bundle.certificate.read_text())
    signed.bundle.certificate.write_text(canonical(envelope | {"signatures": []}))
    for options in ({"allow_unsigned": True}, {"key": few.public}):
        with pytest.raises(IntegrityError, match="an envelope without a signature"):
            verify(signed.bundle.root, **options)


@pytest.mark.parametrize("read", [dsse.private_key, dsse.public_key])
def test_what_is_no_key_is_named_and_never_opened(tmp_path: Path, read: Any) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "long").write_bytes(b"-" * (dsse.MOST_KEY + 1))
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero")):
        with pytest.raises(UsageError, match=f"--key {path}: not a regular file"):
            read(path)
    with pytest.raises(UsageError, match=f"at most {dsse.MOST_KEY} are read"):
        read(tmp_path / "long")


@pytest.mark.parametrize("signed", [False, True])
def test_a_statement_with_a_key_twice(few: Made, tmp_path: Path, signed: bool) -> None:
    made = copied(few, tmp_path)
    statement = forgeries.read(made.bundle.root)[forgeries.STATEMENT].decode()
    doubled = statement.replace("{", '{"predicateType": "other", ', 1)
    payload = doubled.removesuffix("\n").encode()
    key = dsse.private_key(made.private)
    made.bundle.certificate.write_bytes(dsse.seal(payload, key) if signed else payload)
    with pytest.raises(IntegrityError, match="duplicate key 'predicateType'"):
        verify(made.bundle.root, key=made.public) if signed else unsigned(made.bundle.root)
    spaced = statement.replace('": ', '":  ', 1).encode()
    made.bundle.certificate.write_bytes(dsse.seal(spaced, key) if signed else spaced)
    with pytest.raises(IntegrityError, match="not canonical JSON"):
        verify(made.bundle.root, key=made.public) if signed else unsigned(made.bundle.root)


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        (
            "candidate-records.jsonl",
            '"response": ',
            '"response": %s' % ("[" * 2000),
            "nested more than",
        ),
        ("policy.json", '"margin": 0.05', '"margin": 0.05,\n "margin": 1.0', "duplicate key"),
        ("policy.json", '"margin": 0.05', '"margin": 0.050', "not written as retainbench"),
        ("policy.json", '"margin": 0.05', '"margin": NaN', "margin"),
        ("scorecard.json", '"notes"', '"more": 1,\n "notes"', "more"),
        ("base-records.jsonl", '"valid": true', '"valid": true, "valid": false', "duplicate key"),
        ("locks/arithmetic.lock", '"items"', '"items": [],\n "items"', "duplicate key"),
        ("table.csv", "REGRESSION", "PASS", "does not say what the scorecard says"),
        ("report.html", "REGRESSION", "PASS", "does not say what the scorecard says"),
        ("ci/gate.json", "REGRESSION", "PASS", "does not say what the scorecard says"),
        ("ci/junit.xml", "regression", "skipped", "does not say what the scorecard says"),
        ("ci/summary.md", "REGRESSION", "PASS", "does not say what the scorecard says"),
        ("ci/comment.md", "REGRESSION", "PASS", "does not say what the scorecard says"),
    ],
)
def test_bytes_that_somebody_rewrote(
    regressed: Made, tmp_path: Path, name: str, old: str, new: str, message: str
) -> None:
    made = copied(regressed, tmp_path)
    before = forgeries.read(made.bundle.root)
    edit(made.bundle.root / name, old, new)
    after = forgeries.rebuilt(before, forgeries.read(made.bundle.root))
    forgeries.write(after, made.bundle.root)
    with pytest.raises(IntegrityError, match=message):
        unsigned(made.bundle.root, **made.folders)


def test_the_folder_holds_its_files_and_no_others(few: Made, tmp_path: Path) -> None:
    made = copied(few, tmp_path)
    extra = made.bundle.root / "ci" / "read-me-first.html"
    extra.write_text("PASS")
    with pytest.raises(IntegrityError, match=r"first\.html: not named in the certificate"):
        unsigned(made.bundle.root)
    remake(made.bundle.root)
    with pytest.raises(IntegrityError, match=r"first\.html: not a file of a certificate"):
        unsigned(made.bundle.root)
    extra.unlink()
    extra.symlink_to("gate.json")
    with pytest.raises(IntegrityError, match="a link or special file"):
        unsigned(made.bundle.root)
    extra.unlink()
    remake(made.bundle.root)
    (made.bundle.ci / "summary.md").unlink()
    with pytest.raises(IntegrityError, match=r"summary\.md: missing"):
        unsigned(made.bundle.root)


@pytest.mark.parametrize("name", FORMATS)
def test_export_refuses_what_verify_refuses(few: Made, tmp_path: Path, name: str) -> None:
    made = copied(few, tmp_path)
    with pytest.raises(IntegrityError, match="unsigned"):
        export(made.bundle.root, name, tmp_path / "out")
    edit(made.bundle.candidate_records, '"score": 0.0', '"score": 1.0')
    with pytest.raises(IntegrityError, match=r"candidate-records\.jsonl: was changed"):
        export(made.bundle.root, name, tmp_path / "out", allow_unsigned=True)
    assert not (tmp_path / "out").exists()


def refused(root: Path, made: Made) -> bool:
    """Whether verify refuses a certificate, given both models."""
    try:
        unsigned(root, **made.folders)
    except RetainbenchError:
        return True
    return False


@pytest.mark.parametrize("name", ["..", "x/../../../..", "/x/y", "a\0b"])
def test_a_models_name_is_no_way_out_of_the_folder(few: Made, tmp_path: Path, name: str) -> None:
    made = copied(few, tmp_path)
    card = json.loads(made.bundle.scorecard.read_text())
    remake(made.bundle.root, candidate=card["candidate"] | {"name": name})
    with pytest.raises(UsageError, match="a model's name cannot be part of a file name"):
        export(made.bundle.root, "every-eval-ever", tmp_path / "out", allow_unsigned=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", [*range(16), 150])
def test_any_field_of_any_file(passed: Made, few: Made, tmp_path: Path, seed: int) -> None:
    """Unsigned, with both models; and signed by the forger, for one who knows the maker's key."""
    made = few if seed % 2 else passed
    files = forgeries.read(made.bundle.root)
    what, forged = forgeries.forge(files, seed)
    assert forged != files
    forgeries.write(forged, tmp_path / "unsigned")
    assert refused(tmp_path / "unsigned", made), f"accepted: {what}"
    private, _ = keys(tmp_path, "forger")
    forgeries.write(forged, tmp_path / "signed", private)
    with pytest.raises(IntegrityError, match="no signature by the key"):
        verify(tmp_path / "signed", key=made.public)


@pytest.mark.parametrize("name", ["certificate.json", "scorecard.json", "policy.json", "locks"])
def test_structural_mutations(few: Made, tmp_path: Path, name: str) -> None:
    """Any damage ends in an error of ours within seconds, or changed nothing."""
    files = forgeries.read(few.bundle.root)
    name = "locks/capitals.lock" if name == "locks" else name
    indented = files[name].startswith(b"{\n")
    for number, tree in enumerate(mutations(json.loads(files[name]), 12, seed=5)):
        text = json.dumps(tree, sort_keys=True, ensure_ascii=True, indent=1 if indented else None)
        damaged = {**files, name: text.encode() + b"\n"}
        if damaged == files:
            continue
        if number % 2:
            damaged = forgeries.rebuilt(files, damaged)
        shutil.rmtree(tmp_path / "x", ignore_errors=True)
        forgeries.write(damaged, tmp_path / "x")
        with at_most(10):
            assert refused(tmp_path / "x", few), f"accepted: mutation {number}"
