"""A base and its chat fine-tune with a new template and two added tokens, under each --template."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import pytest

from fixtures.certify import POLICY, suite
from fixtures.chats import FAMILIES, save_chat
from retainbench.harness.certificate import measure
from retainbench.harness.certificate.bundle import Bundle
from retainbench.harness.certificate.certify import CertificateRequest, Certified, certify
from retainbench.harness.certificate.speaking import TemplateChoice, check
from retainbench.harness.certificate.verify import verify
from retainbench.harness.contracts.tiny_model import CHARACTERS, save_tiny
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.schema import Suite
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.stored import Scoring
from retainbench.harness.tasks.catalogue import OWN

SMALL = {"items_per_task": 2, "divergence_prompts": 1, "divergence_tokens": 2, "noise_floor": []}


def asked() -> Suite:
    return suite(tasks=["capitals"], **SMALL)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A base that has a template already, and a candidate with ChatML and its two tokens."""
    root = tmp_path_factory.mktemp("models")
    save_tiny(root / "base", seed=0, vocabulary=CHARACTERS + "<>|")
    template = FAMILIES["chatml"][0].replace("<|im_start|>", "<<").replace("<|im_end|>", ">>")
    (root / "base" / "chat_template.jinja").write_text(template)
    save_chat(root / "candidate", "chatml")
    return root / "base", root / "candidate"


def certified(models: tuple[Path, Path], out: Path, template: TemplateChoice | None) -> Certified:
    scoring = Scoring(evaluate.of_model, {"dtype": "float32"})
    found = partial(measure.drift_and_kl, suite=asked())
    request = CertificateRequest(scoring, ["retainbench"], measure=found, template=template)
    policy = POLICY.model_copy(update={"mandatory": ["capitals"]})
    return certify(str(models[0]), str(models[1]), asked(), policy, out, request)


@pytest.mark.parametrize("template", ["none", "base", "candidate", "own"])
def test_each_template_certifies_and_verifies(
    template: TemplateChoice,
    models: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The choice is recorded, decides what is asked, and is checked with the model folders."""
    monkeypatch.setenv("RETAINBENCH_CACHE", str(tmp_path / "cache"))
    made = certified(models, tmp_path / "cert", template)
    spoken = made.evidence.spoken
    assert spoken.template == template
    assert any("more tokens: '<|im_" in note for note in made.evidence.notes)
    assert sum("chat template" in note for note in made.evidence.notes) == 1 + (template != "none")
    (of_kl,) = (note for note in made.evidence.notes if note.startswith("KL "))
    if template == "candidate":  # the base reads its two tokens letter by letter
        assert "tokenise a prompt" in of_kl
    else:
        assert "tokens, which both models have" in of_kl
    if template == "none":
        assert spoken.prompts == {}
    else:
        same = spoken.prompts["base"] == spoken.prompts["candidate"]
        assert same == (template != "own")
    base, candidate = models
    verify(tmp_path / "cert", base=base, candidate=candidate, allow_unsigned=True,
           suite=asked())  # fmt: skip


def test_recorded_prompts_are_held_against_the_models(models: tuple[Path, Path]) -> None:
    from retainbench.harness.certificate import speaking
    from retainbench.harness.models import bases

    base, candidate = (bases.of_folder(folder) for folder in models)
    infos = OWN.find(["capitals"])
    found = speaking.speaking(base, candidate, asked().format, "own", infos).spoken
    check(found, *models, ["capitals"], OWN)
    text = json.dumps(found.model_dump(mode="json"))
    forged = text.replace(found.prompts["candidate"]["capitals"], "0" * 64)
    with pytest.raises(IntegrityError, match="candidate: its chat template asks capitals"):
        check(type(found).model_validate_json(forged), *models, ["capitals"], OWN)
    with pytest.raises(IntegrityError, match="does not name the tasks"):
        check(found, None, None, ["capitals", "dates"], OWN)


def test_a_model_without_a_template_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        certified((tiny_base, tiny_base), tmp_path / "cert", "base")
    assert not Bundle(tmp_path / "cert").certificate.exists()
