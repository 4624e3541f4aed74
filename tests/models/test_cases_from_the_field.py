"""Adapters and configs in the shape that people have, read from ../shared/cases/real."""

from __future__ import annotations

from pathlib import Path

import pytest

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, loading

CASES = Path(__file__).parents[3] / "shared" / "cases" / "real"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not here")


@pytest.mark.parametrize("case", ["adapter_dora_and_others/dora", "adapter_parent_elsewhere/path"])
def test_an_adapter_from_another_machine_is_scored_and_measured(case: str) -> None:
    """The cases were trained on version 1 of fruitfly: on today's they move other weights."""
    base = bases.resolve("fruitfly")
    found = bases.resolve(str(CASES / case), base)
    assert "fruitfly is used" in found.notes[0]
    assert loading.model_digest(loading.load(found)) != loading.model_digest(loading.load(base))
    whole = drift.measure(base.folder, found.folder).overall
    assert 0 < whole.relative < 1
    assert 0 < whole.unchanged.exact < 1


@pytest.mark.parametrize("tied", ["embed_tokens", "lm_head"])
def test_an_adapter_that_brings_the_weights_of_another_base_is_refused(tied: str) -> None:
    """PEFT stores the embedding next to a change of it: here that of version 1 of fruitfly."""
    found = bases.resolve(
        str(CASES / "adapter_lora_on_tied_head" / tied), bases.resolve("fruitfly")
    )
    with pytest.raises(IntegrityError, match=r"its copy of .*\.weight differs from the base's"):
        drift.measure(bases.resolve("fruitfly").folder, found.folder)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("adapter_keys_do_not_match", r"_orig_mod\."),
        ("adapter_prompt_tuning/prompt", "adds virtual tokens"),
    ],
)
def test_an_adapter_that_would_be_scored_as_its_base_is_refused(case: str, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        loading.load(bases.resolve(str(CASES / case), bases.resolve("fruitfly")))
