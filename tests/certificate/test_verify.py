"""`verify` accepts the untouched certificate anywhere and refuses every change to it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fixtures import certify as fixtures
from fixtures.certify import DAMAGE, edit, keys, make
from retainbench.harness.certificate import dsse
from retainbench.harness.certificate import verify as verifying
from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import canonical, json_text, sha256_file

verify = partial(verifying.verify, allow_unsigned=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a certificate of a regression and its two models; copy it before a change."""
    folder = tmp_path_factory.mktemp("regression")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(folder / "cache"))
        make(folder, DAMAGE)
    return folder


def copied(regression: Path, tmp_path: Path) -> Bundle:
    """The certificate of a regression in a place of its own."""
    shutil.copytree(regression, tmp_path, dirs_exist_ok=True)
    return Bundle(tmp_path / "cert")


def test_planted_damage_is_a_regression_of_its_axis(regression: Path) -> None:
    bundle = Bundle(regression / "cert")
    gate = verify(bundle.root).gate
    assert gate.verdict == "REGRESSION"
    assert [task.change.axis for task in gate.tasks if task.verdict == "REGRESSION"] == ["numeric"]
    stated = json.loads(bundle.certificate.read_text())
    assert stated["predicate"]["result"] == "FAILED"
    assert stated["predicate"]["failedTests"] == ["retention/arithmetic/acc"]
    assert not bundle.summary.exists()


def test_the_untouched_certificate_verifies_elsewhere(regression: Path, tmp_path: Path) -> None:
    moved = tmp_path / "another" / "machine"
    shutil.copytree(regression / "cert", moved)
    result = verify(moved, candidate=regression / "candidate", base=regression / "base")
    assert result.gate.verdict == "REGRESSION"
    assert result.notes == [
        "unsigned, so nobody vouches for it",
        "the certificate states no drift, so none was compared",
        "suite tiny: not installed here; give it with --suite to compare it",
    ]
    assert verify(moved / "certificate.json").subject == result.subject


def adjust(bundle: Bundle, path: Path) -> None:
    """Make the unsigned statement agree with a file that was changed: a careful forger."""
    stated = json.loads(bundle.certificate.read_text())
    name = path.relative_to(bundle.root).as_posix()
    for entry in stated["predicate"]["configuration"]:
        if entry["name"] == name:
            entry["digest"]["sha256"] = sha256_file(path)
    bundle.certificate.write_text(canonical(stated))


def _record(bundle: Bundle) -> None:
    edit(bundle.candidate_records, '"score": 0.0', '"score": 1.0')


def _record_and_digest(bundle: Bundle) -> None:
    _record(bundle)
    adjust(bundle, bundle.candidate_records)


def _lost_record(bundle: Bundle) -> None:
    lines = bundle.base_records.read_text().splitlines(keepends=True)
    bundle.base_records.write_text("".join(lines[1:]))
    adjust(bundle, bundle.base_records)


def _verdict(bundle: Bundle) -> None:
    edit(bundle.certificate, '"FAILED"', '"PASSED"')


def _failed_test(bundle: Bundle) -> None:
    edit(bundle.certificate, '"failedTests": ["retention/arithmetic/acc"]', '"failedTests": []')


def _scorecard(bundle: Bundle) -> None:
    stated = json.loads(bundle.scorecard.read_text())
    stated["gate"]["verdict"] = "PASS"
    bundle.scorecard.write_text(json_text(stated))
    adjust(bundle, bundle.scorecard)


def _policy(bundle: Bundle) -> None:
    edit(bundle.policy, '"margin": 0.05', '"margin": 0.5')


def _policy_and_digest(bundle: Bundle) -> None:
    _policy(bundle)
    adjust(bundle, bundle.policy)


def _truncated(bundle: Bundle) -> None:
    bundle.certificate.write_bytes(bundle.certificate.read_bytes()[:-20])


def _truncated_records(bundle: Bundle) -> None:
    bundle.base_records.write_bytes(bundle.base_records.read_bytes()[:-20])
    adjust(bundle, bundle.base_records)


def _lock(bundle: Bundle) -> None:
    edit(bundle.lock("date_formats"), '"cluster"', '"cluster" ')


def _no_lock(bundle: Bundle) -> None:
    bundle.lock("date_formats").unlink()


def _subject(bundle: Bundle) -> None:
    stated = json.loads(bundle.certificate.read_text())
    stated["subject"][0]["digest"]["sha256"] = "0" * 64
    bundle.certificate.write_text(canonical(stated))


def _other_base(bundle: Bundle) -> None:
    stated = json.loads(bundle.certificate.read_text())
    stated["predicate"]["configuration"][0]["digest"]["sha256"] = "0" * 64
    bundle.certificate.write_text(canonical(stated))


def _command(bundle: Bundle) -> None:
    edit(bundle.scorecard, '"certify"', '"gate"')


def _added_summary(bundle: Bundle) -> None:
    bundle.summary.write_text("{}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_record, r"candidate-records\.jsonl: was changed"),
        (_record_and_digest, "score contradicts its log-likelihoods and gold"),
        (_lost_record, "has no answer"),
        (_verdict, "does not follow from its records at predicate.result"),
        (_failed_test, "does not follow from its records"),
        (_scorecard, "does not follow from the records at verdict"),
        (_policy, r"policy\.json: was changed"),
        (_policy_and_digest, "does not follow from the records"),
        (_truncated, "not valid JSON"),
        (_truncated_records, "base-records.jsonl"),
        (_lock, r"date_formats\.lock: was changed"),
        (_no_lock, r"date_formats\.lock: missing"),
        (_subject, "does not follow from its records at subject"),
        (_other_base, "does not follow from its records at predicate.configuration"),
        (_command, r"scorecard\.json: was changed"),
        (_added_summary, "svr\\.json: not named in the certificate"),
    ],
)
def test_every_change_is_refused(
    regression: Path, tmp_path: Path, change: Callable[[Bundle], None], message: str
) -> None:
    bundle = copied(regression, tmp_path)
    change(bundle)
    with pytest.raises(IntegrityError, match=message):
        verify(bundle.root)


def test_other_models_are_refused(regression: Path, tmp_path: Path) -> None:
    cert = regression / "cert"
    other = fixtures.model(tmp_path / "other", {"date_formats": 0.3})
    with pytest.raises(IntegrityError, match=r"is not candidate .* first difference: "):
        verify(cert, candidate=other)
    with pytest.raises(IntegrityError, match="is not base of the certificate"):
        verify(cert, base=other)
    with pytest.raises(UsageError, match="not a certificate"):
        verify(tmp_path / "nowhere")


def test_signatures_are_checked_against_the_given_key(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    _, wrong = keys(tmp_path, "wrong")
    made = make(tmp_path, key=private)
    assert made.signed
    result = verify(made.bundle.root, key=public, candidate=tmp_path / "candidate")
    assert result.keyid == dsse.keyid(dsse.public_key(public))
    assert verify(made.bundle.root).notes[0].startswith("signed, but no key was given")
    with pytest.raises(IntegrityError, match="no signature by the key"):
        verify(made.bundle.root, key=wrong)
    envelope = json.loads(made.bundle.certificate.read_text())
    payload = dsse.open_envelope(made.bundle.certificate.read_bytes(), "here").payload
    forged = base64.b64encode(payload.replace(b'"PASSED"', b'"FAILED"')).decode()
    made.bundle.certificate.write_text(canonical(envelope | {"payload": forged}))
    with pytest.raises(IntegrityError, match="no signature by the key"):
        verify(made.bundle.root, key=public)
    made.bundle.certificate.write_bytes(payload)
    with pytest.raises(IntegrityError, match="unsigned statement"):
        verify(made.bundle.root, key=public)


def test_an_envelope_signs_what_its_protocol_says(tmp_path: Path) -> None:
    """Whoever knows the protocol alone can verify it; the key id is a hint that decides nothing."""
    private, public = keys(tmp_path)
    payload = '{"é": 1}'.encode()
    envelope = json.loads(dsse.seal(payload, dsse.private_key(private)))
    assert base64.b64decode(envelope["payload"]) == payload
    (signature,) = envelope["signatures"]
    signed = b"DSSEv1 28 application/vnd.in-toto+json 9 " + payload
    dsse.public_key(public).verify(base64.b64decode(signature["sig"]), signed)
    signature["keyid"] = ""
    opened = dsse.open_envelope(canonical(envelope).encode(), "here", dsse.public_key(public))
    assert opened.payload == payload


@pytest.mark.parametrize(
    "damage",
    [
        {"payloadType": "text/plain"},
        {"payload": "not base64!"},
        {"payload": "e30"},
        {"payload": "e31="},
        {"payload": "-_-_"},
        {"payload": 1},
        {"extra": 1},
        {"signatures": []},
        {"signatures": [{"keyid": "", "sig": "%%%"}]},
        {"signatures": [{"sig": ""}, {"keyid": ""}]},
        {"signatures": None},
        {"signatures": ["x"]},
    ],
)
def test_malformed_envelopes_are_refused(tmp_path: Path, damage: dict[str, Any]) -> None:
    private, _ = keys(tmp_path)
    envelope = json.loads(dsse.seal(b"{}", dsse.private_key(private)))
    with pytest.raises(IntegrityError):
        dsse.open_envelope(json.dumps(envelope | damage).encode(), "here")


def test_keys_of_other_kinds_are_usage_errors(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    for read, path in ((dsse.private_key, public), (dsse.public_key, private)):
        with pytest.raises(UsageError, match="cannot be read"):
            read(path)
    with pytest.raises(UsageError, match=r"--key .*none\.pem: missing"):
        make(tmp_path, key=tmp_path / "none.pem")
    assert not (tmp_path / "cert").exists()


def test_nothing_here_imports_torch() -> None:
    code = (
        "import sys; from retainbench.harness.adoption import pair; "
        "from retainbench.harness.certificate import certify, export, verify; "
        "sys.exit(bool({'torch', 'transformers', 'lm_eval', 'datasets', 'trl'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
