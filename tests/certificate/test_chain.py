"""Chains of checkpoints: each step and the whole in one certificate, verified without models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fixtures import certify as fixtures
from fixtures.certify import edit, keys, model
from fixtures.kills import tree
from retainbench.harness.certificate import certify as single
from retainbench.harness.certificate import measure
from retainbench.harness.certificate.chain import page
from retainbench.harness.certificate.chain.certify import CertifiedChain, certify_chain
from retainbench.harness.certificate.chain.composing import compose
from retainbench.harness.certificate.chain.records import judged_alone
from retainbench.harness.certificate.chain.verify import verify_chain
from retainbench.harness.certificate.verify import verify
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.schema import Policy
from retainbench.harness.models.checked import Base
from retainbench.harness.statistics.verdict import judge

unsigned = partial(verify_chain, allow_unsigned=True)
LOSSES: dict[str, dict[str, float]] = {
    "base": {},
    "sft": {},
    "merged": {},
    "quantised": {"arithmetic": 0.3},
}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))


def made(
    root: Path, losses: dict[str, dict[str, float]] = LOSSES, key: Path | None = None
) -> tuple[CertifiedChain, fixtures.Answers]:
    links = [str(model(root / name, lost)) for name, lost in losses.items()]
    answers = fixtures.Answers()
    request = fixtures.request(answers, measure=measure.drift_only, key=key)
    policy = fixtures.POLICY.model_copy(update={"margin": 0.15})
    return certify_chain(links, fixtures.suite(), policy, root / "cert", request), answers


def test_the_damage_is_attributed_to_its_step(tmp_path: Path) -> None:
    """A link is scored once, and equal weights (sft and merged) are too."""
    certified, answers = made(tmp_path)
    chain = certified.chain
    assert [step.verdict for step in chain.steps] == ["PASS", "PASS", "REGRESSION"]
    assert (chain.whole.verdict, chain.verdict) == ("REGRESSION", "REGRESSION")
    assert chain.damaged == ["steps/3"]
    assert chain.steps[2].regressed == ["arithmetic"]
    lines = "\n".join(page.screen(chain, certified.parts))
    assert "the damage was done from merged to quantised" in lines
    assert "4 claims, each at alpha 0.05 / 4: by the union bound" in lines
    assert [part.drift.relative > 0 for part in certified.parts if part.drift] == [0, 0, 1, 1]
    assert sorted(name for name, _ in answers.calls) == ["base", "quantised", "sft"]
    found, parts = unsigned(tmp_path / "cert")
    assert found == chain
    assert len(parts) == 4


@pytest.mark.parametrize("dying", ["sft", "quantised", "base"])
def test_a_second_start_scores_only_what_was_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dying: str
) -> None:
    """Killed in the middle of any link, a chain has the bytes of one that was never killed."""
    monkeypatch.setattr(single, "datetime", fixtures.FixedClock)

    class Dies(fixtures.Answers):
        """Dies before it has scored the last task of one model."""

        def __call__(self, model: Base, names: Sequence[str], most: int | None = None) -> Any:
            answered = super().__call__(model, names, most)
            yield from answered if model.folder.name != dying else answered[:-1]
            if model.folder.name == dying:
                raise KeyboardInterrupt

    def certify(answers: fixtures.Answers) -> None:
        certify_chain(links, fixtures.suite(), fixtures.POLICY, out, fixtures.request(answers))

    links = [str(model(tmp_path / name, lost)) for name, lost in LOSSES.items() if name != "merged"]
    out, whole = tmp_path / "cert", fixtures.Answers()
    certify(whole)
    undisturbed = tree(out)
    shutil.rmtree(out)
    shutil.rmtree(tmp_path / "cache")
    killed, second = Dies(), fixtures.Answers()
    with pytest.raises(KeyboardInterrupt):
        certify(killed)
    assert not out.exists()
    certify(second)
    missing = [asked for asked in whole.calls if asked not in killed.calls]
    assert second.calls == [(dying, (fixtures.TASKS[-1],)), *missing]
    assert tree(out) == undisturbed


def test_each_part_is_a_certificate_of_its_own(tmp_path: Path) -> None:
    made(tmp_path)
    for part, verdict in (("steps/1", "PASS"), ("whole", "REGRESSION")):
        assert verify(tmp_path / "cert" / part, allow_unsigned=True).gate.verdict == verdict
    assert judged_alone(tmp_path / "cert") == tmp_path / "cert" / "whole"
    for name in LOSSES:
        shutil.rmtree(tmp_path / name)
    shutil.move(tmp_path / "cert", tmp_path / "moved")
    assert unsigned(tmp_path / "moved")[0].verdict == "REGRESSION"


def test_the_ends_are_compared_with_models_that_are_given(tmp_path: Path) -> None:
    made(tmp_path)
    ends = {"base": tmp_path / "base", "candidate": tmp_path / "quantised"}
    unsigned(tmp_path / "cert", **ends)
    with pytest.raises(IntegrityError, match="is not quantised of the certificate"):
        unsigned(tmp_path / "cert", **(ends | {"candidate": tmp_path / "base"}))


def test_a_signature_covers_every_part(tmp_path: Path) -> None:
    private, public = keys(tmp_path)
    made(tmp_path, key=private)
    verify_chain(tmp_path / "cert", key=public)
    with pytest.raises(IntegrityError, match="no key was given"):
        verify_chain(tmp_path / "cert")


def swap_steps(cert: Path) -> None:
    (cert / "steps" / "1").rename(cert / "steps" / "x")
    (cert / "steps" / "3").rename(cert / "steps" / "1")
    (cert / "steps" / "x").rename(cert / "steps" / "3")


FORGED = {
    "verdict": lambda cert: edit(cert / "chain.json", '"REGRESSION"', '"PASS"'),
    "policy": lambda cert: edit(cert / "policy.json", "0.15", "0.9"),
    "page": lambda cert: edit(cert / "report.html", "REGRESSION", "PASS"),
    "part": lambda cert: edit(cert / "steps/3/scorecard.json", "REGRESSION", "PASS"),
    "missing part": lambda cert: shutil.rmtree(cert / "steps/2"),
    "swapped": swap_steps,
    "extra": lambda cert: (cert / "note.txt").write_text("trust me"),
}


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_chain_is_refused(tmp_path: Path, name: str) -> None:
    """Also where the forger puts all digests of the outer statement right."""
    made(tmp_path)
    FORGED[name](tmp_path / "cert")
    with pytest.raises((IntegrityError, UsageError)):
        unsigned(tmp_path / "cert")
    reseal(tmp_path / "cert")
    with pytest.raises((IntegrityError, UsageError)):
        unsigned(tmp_path / "cert")


def reseal(cert: Path) -> None:
    from retainbench.harness.core.files.storage import canonical, sha256_file

    statement = json.loads((cert / "certificate.json").read_text())
    files = sorted(p for p in cert.rglob("*") if p.is_file() and p != cert / "certificate.json")
    statement["predicate"]["configuration"] = [
        {"name": p.relative_to(cert).as_posix(), "digest": {"sha256": sha256_file(p)}}
        for p in files
    ]
    (cert / "certificate.json").write_text(canonical(statement) + "\n")


def test_a_part_of_another_chain_is_refused(tmp_path: Path) -> None:
    """Every part is a certificate that holds; together they are no chain."""
    made(tmp_path)
    other = tmp_path / "other"
    other.mkdir()
    made(other, LOSSES | {"sft": {"capitals": 0.01}})
    shutil.rmtree(tmp_path / "cert/steps/2")
    shutil.copytree(other / "cert/steps/2", tmp_path / "cert/steps/2")
    reseal(tmp_path / "cert")
    with pytest.raises(IntegrityError):
        unsigned(tmp_path / "cert")


def test_two_models_are_no_chain(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="three models or more"):
        made(tmp_path, {"base": {}, "candidate": {}})
    assert not (tmp_path / "cert").exists()


def test_margins_and_levels_add_up() -> None:
    policy = Policy(margin=0.06, task_margins={"dates": 0.03}, axis_margins={"general": 0.02})
    for steps in (2, 3, 7):
        found = compose(policy, steps)
        assert found.step.margin * steps == pytest.approx(policy.margin)
        assert found.step.task_margins["dates"] * steps == pytest.approx(0.03)
        assert found.step.axis_margins["general"] * steps == pytest.approx(0.02)
        assert found.whole.margin == policy.margin
        assert found.step.alpha * steps + found.whole.alpha == pytest.approx(policy.alpha)


def test_all_claims_of_a_chain_hold_together() -> None:
    """Chains whose every step loses exactly its share of the margin: every PASS is wrong.

    At alpha 0.2, 300 chains of three steps on 400 items. By the union bound at most a fifth of them
    may hold any PASS; three standard errors of a share of 0.2 are 0.07. Without the split of
    alpha, four claims of 0.2 each would hold one in about half of the chains.
    """
    policy, chains, items = Policy(margin=0.09, alpha=0.2), 300, 400
    composed = compose(policy, 3)
    generator = np.random.default_rng(5)
    wrong = 0
    for _ in range(chains):
        scores = [generator.random(items) < 0.8]
        for _ in range(3):
            lost = generator.random(items) < 0.06 / scores[-1].mean()
            gained = generator.random(items) < 0.03 / (1 - scores[-1].mean())
            scores.append(np.where(scores[-1], ~lost, gained))
        pairs = [(0, 1, composed.step), (1, 2, composed.step), (2, 3, composed.step)]
        pairs.append((0, 3, composed.whole))
        verdicts = [
            judge(scores[a], scores[b], margin=rule.margin, min_items=50, alpha=rule.alpha).verdict
            for a, b, rule in pairs
        ]
        wrong += "PASS" in verdicts
    assert wrong / chains <= 0.2 + 0.07
