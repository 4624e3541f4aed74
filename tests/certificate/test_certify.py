"""`certify` scores, compares and states; what cannot be compared leaves no certificate."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from safetensors.numpy import save_file

from fixtures import certify as fixtures
from fixtures.certify import DAMAGE, edit, make
from retainbench.harness.certificate import measure as certify_measure
from retainbench.harness.certificate import page as certify_report
from retainbench.harness.certificate import verify as verifying
from retainbench.harness.certificate.certify import certify
from retainbench.harness.certificate.checks.answers import normalised
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.core.verdicts import exit_code
from retainbench.harness.models import bases, identity

verify = partial(verifying.verify, allow_unsigned=True)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))


def test_base_against_itself_passes_with_no_change(tmp_path: Path) -> None:
    made = make(tmp_path)
    assert made.gate.verdict == "PASS"
    assert {task.change.drop.value for task in made.gate.tasks} == {0.0}
    stated = json.loads(made.bundle.certificate.read_text())
    assert stated["_type"] == "https://in-toto.io/Statement/v1"
    assert stated["predicateType"] == "https://in-toto.io/attestation/test-result/v0.1"
    assert stated["predicate"]["result"] == "PASSED"
    assert stated["predicate"]["passedTests"] == sorted(
        f"retention/{task}/acc" for task in fixtures.TASKS
    )
    assert stated["predicate"]["failedTests"] == []
    candidate = identity.identify(tmp_path / "candidate")
    assert stated["subject"] == [{"name": "candidate", "digest": {"sha256": candidate.sha256}}]
    names = [entry["name"] for entry in stated["predicate"]["configuration"]]
    assert names == ["base", "candidate", *made.bundle.files()]
    held = {path for path in made.bundle.root.rglob("*") if path.is_file()}
    assert held == {made.bundle.certificate, *made.bundle.files().values()}
    short = json.loads(made.bundle.summary.read_text())
    assert short["predicate"]["properties"] == ["RETAINBENCH_RETENTION_PASS_v1"]


def test_the_subject_digest_is_that_of_model_signing(tmp_path: Path) -> None:
    """The value was printed by model-signing 1.1.1 (`model_signing.hashing.hash`) for this tree."""
    tree = {
        "config.json": "a",
        "model.safetensors": "b",
        "sub/x.txt": "c",
        "sub-dir/y.txt": "d",
        ".gitattributes": "e",
        ".git/HEAD": "f",
        "sub/.gitignore": "g",
        "Z.txt": "h",
    }
    for name, content in tree.items():
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_text(content)
    found = identity.identify(tmp_path / "m")
    assert found.sha256 == "84f7cd2473ea872f9ed559fe218ce87e79e3187d34d51c3c5a64b83c85f0f2ce"
    assert list(found.files)[-3:] == ["sub/.gitignore", "sub/x.txt", "sub-dir/y.txt"]
    (tmp_path / "m" / "model.sig").write_text("signature")
    assert identity.identify(tmp_path / "m").sha256 == found.sha256


def test_the_base_is_scored_once_and_the_candidate_every_time(tmp_path: Path) -> None:
    base, candidate = fixtures.model(tmp_path / "base"), fixtures.model(tmp_path / "cand", DAMAGE)
    evaluate = fixtures.Answers()
    request = fixtures.request(evaluate)
    for name in ("a", "b"):
        certify(
            str(base), str(candidate), fixtures.suite(), fixtures.POLICY, tmp_path / name, request
        )
    assert [name for name, _ in evaluate.calls] == ["cand", "base", "cand"]
    (base / "config.json").write_text('{"model_type": "llama", "loses": {}, "changed": true}')
    certify(str(base), str(candidate), fixtures.suite(), fixtures.POLICY, tmp_path / "c", request)
    request = fixtures.request(evaluate, settings={"dtype": "bfloat16"})
    certify(str(base), str(candidate), fixtures.suite(), fixtures.POLICY, tmp_path / "d", request)
    assert [name for name, _ in evaluate.calls].count("base") == 3


class Killed(fixtures.Answers):
    """Dies while it scores the last task."""

    def __call__(self, model: Any, names: Any, most: int | None = None) -> Any:
        yield from super().__call__(model, names, most)[:-1]
        raise KeyboardInterrupt


@pytest.mark.parametrize("side", ["candidate", "base"])
def test_a_second_start_scores_only_what_was_missing(tmp_path: Path, side: str) -> None:
    """The certificate is that of a first start, and nothing of the first one is left."""
    models = [str(fixtures.model(tmp_path / name)) for name in ("base", "candidate")]
    killed = Killed()

    class Second(fixtures.Answers):
        """Dies on the second model that it scores."""

        def __call__(self, model: Any, names: Any, most: int | None = None) -> Any:
            again = killed if self.calls else super().__call__
            self.calls.append((model.folder.name, tuple(names)))
            return again(model, names, most)

    suite, out = fixtures.suite(), tmp_path / "out"
    dies = killed if side == "candidate" else Second()
    with pytest.raises(KeyboardInterrupt):
        certify(*models, suite, fixtures.POLICY, out, fixtures.request(dies))
    assert not out.exists()
    rest = fixtures.Answers()
    made = certify(*models, suite, fixtures.POLICY, out, fixtures.request(rest))
    missing = {"candidate": [("candidate", ("date_formats",)), ("base", tuple(fixtures.TASKS))]}
    missing["base"] = [("base", ("date_formats",))]
    assert rest.calls == missing[side]
    assert not list((tmp_path / "cache" / "unfinished").iterdir())
    whole = certify(
        *models, suite, fixtures.POLICY, tmp_path / "b", fixtures.request(fixtures.Answers())
    )
    for file in ("candidate_records", "base_records"):
        assert getattr(made.bundle, file).read_bytes() == getattr(whole.bundle, file).read_bytes()
    created = made.evidence.created
    assert made.evidence == whole.evidence.model_copy(update={"created": created})


def test_a_failure_of_integrity_keeps_no_records(tmp_path: Path) -> None:
    models = [str(fixtures.model(tmp_path / name)) for name in ("base", "candidate")]

    class Short(fixtures.Answers):
        def __call__(self, model: Any, names: Any, most: int | None = None) -> Any:
            first, *others = super().__call__(model, names, most)
            return [first, *(task[:-1] for task in others)]

    with pytest.raises(IntegrityError, match=r"candidate: task arithmetic: item .* has no answer"):
        certify(
            *models, fixtures.suite(), fixtures.POLICY, tmp_path / "c", fixtures.request(Short())
        )
    assert not list((tmp_path / "cache" / "unfinished").iterdir())


def test_an_altered_cache_is_scored_again(tmp_path: Path) -> None:
    make(tmp_path)
    cached = next((tmp_path / "cache" / "records").glob("date_formats-*.jsonl"))
    whole = cached.read_bytes()
    cached.write_bytes(b"".join(whole.splitlines(keepends=True)[1:]))
    for name in ("base", "candidate", "cert"):
        shutil.rmtree(tmp_path / name)
    assert make(tmp_path).gate.verdict == "PASS"
    assert cached.read_bytes() == whole


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("tokenizer.json", '"a": 0, "b": 1', '"b": 0, "a": 1', "its vocabulary .token 0, 'a'."),
        ("tokenizer_config.json", "{", '{"add_bos_token": true, ', "its add_bos_token differs"),
    ],
)
def test_a_tokenizer_that_reads_text_in_another_way_is_refused(
    tmp_path: Path, file: str, old: str, new: str, message: str
) -> None:
    base, candidate = fixtures.model(tmp_path / "base"), fixtures.model(tmp_path / "cand")
    edit(candidate / file, old, new)
    request = fixtures.request(fixtures.Answers())
    with pytest.raises(IntegrityError, match=message):
        certify(
            str(base), str(candidate), fixtures.suite(), fixtures.POLICY, tmp_path / "c", request
        )
    assert not (tmp_path / "c").exists()


def test_how_a_tokenizer_was_saved_does_not_matter(tmp_path: Path) -> None:
    base, candidate = fixtures.model(tmp_path / "base"), fixtures.model(tmp_path / "cand")
    edit(candidate / "tokenizer.json", '[["a", "b"]]', '["a b"]')
    padding = {"strategy": {"Fixed": 8}, "direction": "Right", "pad_id": 3, "pad_token": "</s>"}
    padding |= {"pad_to_multiple_of": None, "pad_type_id": 0}
    edit(candidate / "tokenizer.json", '"padding": null', f'"padding": {json.dumps(padding)}')
    flags = dict.fromkeys(("lstrip", "rstrip", "normalized", "single_word"), False)
    token = json.dumps({"__type": "AddedToken", "content": "</s>"} | flags)
    edit(candidate / "tokenizer_config.json", '"</s>"', token)
    request = fixtures.request(fixtures.Answers())
    out = tmp_path / "cert"
    made = certify(str(base), str(candidate), fixtures.suite(), fixtures.POLICY, out, request)
    assert made.gate.verdict == "PASS"
    assert made.evidence.notes == [
        "the candidate's tokenizer was saved again; it reads text as the base's"
    ]


def test_a_chat_template_and_another_end_of_text_are_remarks(tmp_path: Path) -> None:
    base, candidate = fixtures.model(tmp_path / "base"), fixtures.model(tmp_path / "cand")
    edit(candidate / "tokenizer_config.json", '"</s>"', '"<end>", "chat_template": "{{x}}"')
    request = fixtures.request(fixtures.Answers())
    out = tmp_path / "cert"
    made = certify(str(base), str(candidate), fixtures.suite(), fixtures.POLICY, out, request)
    assert made.gate.verdict == "PASS"
    assert made.evidence.notes == [
        "the candidate's eos_token is '<end>', the base's '</s>'",
        "the chat templates differ",
    ]
    assert verify(out).gate == made.gate


def test_an_adapter_must_be_of_this_base(tmp_path: Path) -> None:
    base, stranger = (
        fixtures.model(tmp_path / "base"),
        fixtures.model(tmp_path / "stranger", DAMAGE),
    )
    adapter = fixtures.model(tmp_path / "adapter", DAMAGE)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (adapter / name).unlink()
    (adapter / "model.safetensors").rename(adapter / "adapter_model.safetensors")
    request = fixtures.request(fixtures.Answers())
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(base)}))
    out = tmp_path / "cert"
    made = certify(str(base), str(adapter), fixtures.suite(), fixtures.POLICY, out, request)
    assert made.gate.verdict == "REGRESSION"
    config.write_text(json.dumps({"peft_type": "LORA", "base_model_name_or_path": str(stranger)}))
    with pytest.raises(IntegrityError, match="was trained on"):
        certify(str(base), str(adapter), fixtures.suite(), fixtures.POLICY, tmp_path / "x", request)


def test_the_same_base_twice_gives_the_noise_floor(tmp_path: Path) -> None:
    made = make(tmp_path, repeat_base=True)
    evidence = json.loads(made.bundle.scorecard.read_text())
    assert evidence["repeat_churn"] == dict.fromkeys(fixtures.TASKS, 0.0)
    assert evidence["command"] == ["retainbench", "certify"]
    assert evidence["environment"]["retainbench"]
    assert all(task["change"]["minimum_detectable_effect"] for task in evidence["gate"]["tasks"])

    class Drifting(fixtures.Answers):
        def __call__(self, model: Any, names: Any, most: int | None = None) -> Any:
            answered = super().__call__(model, names, most)
            first = answered[0]
            first[0] = first[0].model_copy(update={"score": float(len(self.calls) % 2)})
            return answered

    request = fixtures.request(Drifting(), repeat_base=True)
    paths = str(tmp_path / "base"), str(tmp_path / "candidate")
    with pytest.raises(IntegrityError, match="changed when the same base was scored twice"):
        certify(*paths, fixtures.suite(), fixtures.POLICY, tmp_path / "x", request)


def test_a_suite_of_the_first_items_never_passes(tmp_path: Path) -> None:
    make(tmp_path)
    models = str(tmp_path / "base"), str(tmp_path / "candidate")
    part, request = fixtures.suite(items_per_task=100), fixtures.request(fixtures.Answers())
    made = certify(*models, part, fixtures.POLICY, tmp_path / "part", request)
    assert {task.verdict for task in made.gate.tasks} == {"PASS"}
    assert (made.gate.verdict, made.gate.tier) == ("INCONCLUSIVE", "first 100 items of each task")
    assert verify(made.bundle.root).gate == made.gate
    assert not made.bundle.summary.exists()
    edit(made.bundle.scorecard, '"items_per_task": 100', '"items_per_task": null')
    digest = json.loads(made.bundle.certificate.read_text())["predicate"]["configuration"]
    old = next(e for e in digest if e["name"] == "scorecard.json")["digest"]["sha256"]
    edit(made.bundle.certificate, old, sha256_file(made.bundle.scorecard))
    with pytest.raises(IntegrityError, match="has no answer"):
        verify(made.bundle.root)


def test_thirty_damaged_items_are_inconclusive_and_say_how_many_would_decide(
    tmp_path: Path,
) -> None:
    """By the exit code, in the JUnit file and in the certificate, which `verify` upholds."""
    models = (
        str(fixtures.model(tmp_path / "base")),
        str(fixtures.model(tmp_path / "bad", {"arithmetic": 0.015})),  # four of the first thirty
    )
    few, request = fixtures.suite(items_per_task=30), fixtures.request(fixtures.Answers())
    made = certify(*models, few, fixtures.POLICY, tmp_path / "cert", request)
    assert exit_code([made.gate]) == 3
    worst = made.gate.tasks[0]
    assert (worst.change.task, worst.change.n, worst.change.lost) == ("arithmetic", 30, 4)
    assert worst.items_to_decide is not None
    assert worst.items_to_decide > 30
    document = (made.bundle.ci / "junit.xml").read_text()
    cases = ElementTree.fromstring(document).iter("testcase")  # noqa: S314 - written just now
    found = {case.get("name"): case.find("failure") for case in cases}
    assert found["gate"] is not None
    failure = found["arithmetic/acc"]
    assert failure is not None
    assert failure.get("type") == "inconclusive"
    assert f"{worst.items_to_decide} items would decide" in str(failure.get("message"))
    stated = json.loads(made.bundle.certificate.read_text())
    assert stated["predicate"]["result"] == "FAILED"
    assert "retention/arithmetic/acc" in stated["predicate"]["failedTests"]
    assert verify(made.bundle.root).gate == made.gate


def test_a_certificate_is_not_overwritten_unasked(tmp_path: Path) -> None:
    made = make(tmp_path)
    request = fixtures.request(fixtures.Answers())
    models = str(tmp_path / "base"), str(tmp_path / "candidate")
    with pytest.raises(UsageError, match="exists already"):
        certify(*models, fixtures.suite(), fixtures.POLICY, made.bundle.root, request)
    again = certify(
        *models, fixtures.suite(), fixtures.POLICY, made.bundle.root, request, overwrite=True
    )
    assert verify(again.bundle.root).gate.verdict == "PASS"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(".tmp")) == []


def test_a_cache_that_cannot_be_written_is_refused_before_scoring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = [str(fixtures.model(tmp_path / name)) for name in ("base", "candidate")]
    (tmp_path / "file").touch()
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "file"))
    scored = fixtures.Answers()
    with pytest.raises(UsageError, match=r"cannot write .*file.*: Not a directory"):
        certify(
            *models, fixtures.suite(), fixtures.POLICY, tmp_path / "c", fixtures.request(scored)
        )
    assert scored.calls == []


def test_a_certificate_is_no_file_of_a_model(tmp_path: Path) -> None:
    models = [fixtures.model(tmp_path / name) for name in ("base", "candidate")]
    asked = fixtures.request(fixtures.Answers())
    for model in models:
        before = sorted(model.iterdir())
        with pytest.raises(UsageError, match="inside the model folder"):
            certify(*map(str, models), fixtures.suite(), fixtures.POLICY, model / "cert", asked)
        assert sorted(model.iterdir()) == before


def test_a_second_certify_to_the_same_folder_is_refused(tmp_path: Path) -> None:
    models = [str(fixtures.model(tmp_path / name)) for name in ("base", "candidate")]
    rules = (fixtures.suite(), fixtures.POLICY, tmp_path / "cert")

    class Meanwhile(fixtures.Answers):
        """Scores while another command starts."""

        def __call__(self, *asked: Any) -> Any:
            other = fixtures.request(fixtures.Answers())
            with pytest.raises(UsageError, match=r"cert is being written by process \d+ on "):
                certify(*models, *rules, other, overwrite=True)
            return super().__call__(*asked)

    scored = Meanwhile()
    made = certify(*models, *rules, fixtures.request(scored))
    assert len(scored.calls) == 2
    assert verify(made.bundle.root).gate.verdict == "PASS"


def test_a_smaller_tier_never_passes(tmp_path: Path) -> None:
    made = make(tmp_path, tier="smoke")
    assert made.gate.verdict == "INCONCLUSIVE"
    for records in (made.bundle.base_records, made.bundle.candidate_records):
        rows = [json.loads(line) for line in records.read_text().splitlines()]
        assert Counter(row["task"] for row in rows) == dict.fromkeys(fixtures.TASKS, 100)
    stated = json.loads(made.bundle.certificate.read_text())
    assert stated["predicate"]["result"] == "FAILED"
    assert verify(made.bundle.root).gate.verdict == "INCONCLUSIVE"


def test_the_floor_is_part_of_the_evidence(tmp_path: Path) -> None:
    """Scored once per base and way, named in the statement, and recomputed by `verify`."""
    quiet = fixtures.Answers()
    made = make(tmp_path, repeats={"batch": quiet})
    assert {task.change.noise_churn for task in made.gate.tasks} == {0.0}
    assert verify(made.bundle.root).gate == made.gate
    make(tmp_path / "again", repeats={"batch": quiet})
    assert len(quiet.calls) == 1
    path = made.bundle.noise("batch")
    path.write_text(path.read_text().replace('"score": 1.0', '"score": 0.0', 1))
    with pytest.raises(IntegrityError, match="changed after the certificate"):
        verify(made.bundle.root)
    path.unlink()
    with pytest.raises(IntegrityError, match="missing"):
        verify(made.bundle.root)
    short = {"options": lambda *asked: [task[:-1] for task in fixtures.Answers()(*asked)]}
    with pytest.raises(IntegrityError, match="base, options: task capitals"):
        make(tmp_path / "part", repeats=short)


def test_the_certificate_is_shown_to_people_too(tmp_path: Path) -> None:
    """On the screen, as a table and as a page; what a model's name says is shown and not obeyed."""
    base = fixtures.model(tmp_path / "base")
    bad = fixtures.model(tmp_path / "<b>bad\x1b[31m", DAMAGE)
    request = fixtures.request(fixtures.Answers())
    out = tmp_path / "cert"
    made = certify(str(base), str(bad), fixtures.suite(), fixtures.POLICY, out, request)
    lines = certify_report.screen(made.evidence)
    assert lines[0] == "REGRESSION   <b>bad\\x1b[31m"
    assert lines[2].startswith("  numeric  mean drop +")
    assert lines[2].endswith("1 task, 300 items: REGRESSION (not gated as a whole)")
    assert lines[4].startswith("  REGRESSION   arithmetic (numeric): drop +12.")
    rows = list(csv.DictReader(made.bundle.table.read_text().splitlines()))
    assert rows[0]["task"] == "arithmetic"
    worst = made.gate.tasks[0].change
    assert float(rows[0]["drop_low"]) == worst.drop.low
    assert (rows[0]["lost"], rows[0]["noise_churn"]) == (str(worst.lost), "")
    page = made.bundle.report.read_text()
    assert "&lt;b&gt;bad" in page
    assert "<b>bad" not in page
    assert "script-src &#39;none&#39;" in page
    assert made.evidence.candidate.sha256 in page
    assert page == certify_report.page(made.evidence, fixtures.POLICY)


def test_drift_and_kl_of_a_base_against_itself_are_zero(tmp_path: Path) -> None:
    """Measured on the retention axes' prompts, with the base's continuations kept in the cache."""
    base = bases.resolve("fruitfly")
    few = fixtures.suite(divergence_prompts=2, divergence_tokens=3)
    found = certify_measure.drift_and_kl(base, base, suite=few)
    assert found.drift is not None
    assert found.drift.frobenius == 0.0
    assert found.divergence is not None
    assert found.divergence.forward == {"general": 0.0, "numeric": 0.0, "temporal": 0.0}
    assert len(list((tmp_path / "cache").glob("continuations-*.jsonl"))) == 3
    none = fixtures.suite(divergence_prompts=0)
    assert certify_measure.drift_and_kl(base, base, suite=none).divergence is None


class _Untouched:
    """Scoring that must not be reached."""

    def __call__(self, *_: Any) -> Any:
        pytest.fail("a token was scored before a mistake was found")


@pytest.mark.parametrize(
    ("policy", "changes", "message"),
    [
        ({"task_margins": {"captials": 0.1}}, {}, "did you mean 'capitals'"),
        ({"mandatory": ["clock"]}, {}, "policy.mandatory: unknown 'clock'"),
        ({"minimum_gain": 0.1}, {"targets": ["countdown", "new_facts"]}, "one target"),
    ],
)
def test_what_can_be_refused_is_refused_before_scoring(
    tmp_path: Path, policy: dict[str, Any], changes: dict[str, Any], message: str
) -> None:
    models = (
        str(fixtures.model(tmp_path / "base")),
        str(fixtures.model(tmp_path / "candidate")),
    )
    rules = fixtures.POLICY.model_copy(update=policy)
    asked = fixtures.request(_Untouched())
    with pytest.raises(UsageError, match=message):
        certify(*models, fixtures.suite(**changes), rules, tmp_path / "cert", asked)
    assert not (tmp_path / "cert").exists()


def test_a_folder_that_is_not_a_certificate_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "cert").mkdir()
    (tmp_path / "cert" / "thesis.tex").write_text("mine")
    asked = fixtures.request(_Untouched())
    models = str(tmp_path / "base"), str(tmp_path / "candidate")
    with pytest.raises(UsageError, match="is not a certificate, so it is not replaced"):
        certify(
            *models, fixtures.suite(), fixtures.POLICY, tmp_path / "cert", asked, overwrite=True
        )
    assert (tmp_path / "cert" / "thesis.tex").read_text() == "mine"


def test_what_does_not_decide_never_destroys_a_certificate(tmp_path: Path) -> None:
    """Weights of zero have no relative drift, and this config makes no model: both are notes."""
    base = fixtures.model(tmp_path / "base")
    save_file({"w": np.zeros(4, dtype=np.float32)}, base / "model.safetensors")
    candidate = fixtures.model(tmp_path / "candidate")
    measuring = partial(certify_measure.drift_and_kl, suite=fixtures.suite())
    asked = fixtures.request(fixtures.Answers(), measure=measuring)
    out = tmp_path / "cert"
    made = certify(str(base), str(candidate), fixtures.suite(), fixtures.POLICY, out, asked)
    assert (made.gate.verdict, made.evidence.drift, made.evidence.divergence) == (
        "PASS",
        None,
        None,
    )
    unmeasured = [note for note in made.evidence.notes if " is unmeasured, because " in note]
    assert [note.split()[0] for note in unmeasured] == ["drift", "KL"]
    assert verify(out, base=base, candidate=candidate).gate == made.gate


def test_free_answers_are_compared_as_the_tasks_do() -> None:
    """`verify` cannot import what the tasks import, so it has the rule of its own."""
    from retainbench.tasks._dataset import exact

    for said in (
        "Paris",
        " paris. ",
        "PARIS\nand more",
        "the  city",
        "",
        "'x y'",
        "\u00e9t\u00e9!",
    ):
        for answer in ("Paris", "The city", "x y", "\u00c9t\u00e9"):
            scored = exact({"answer": answer, "aliases": ["the city"]}, [said])
            accepted = {normalised(answer), normalised("the city")}
            assert scored["exact_match"] == float(normalised(said) in accepted)
            assert scored["valid"] == float(bool(normalised(said)))
