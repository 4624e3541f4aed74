"""Adapters and configs in the shape that people have, read from ../shared/cases/real."""

from __future__ import annotations

from pathlib import Path

import pytest

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, loading

CASES = Path(__file__).parents[3] / "shared" / "cases" / "real"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not here")


@pytest.mark.parametrize(
    ("case", "relative", "largest", "unchanged"),
    [
        ("adapter_dora_and_others/dora", 0.005700, 0.02147, 0.8751),
        ("adapter_lora_on_tied_head/embed_tokens", 0.1143, 0.3412, 0.7503),
        ("adapter_lora_on_tied_head/lm_head", 0.005894, 0.01722, 0.7897),
        ("adapter_parent_elsewhere/path", 0.02365, 0.03929, 0.1884),
    ],
)
def test_an_adapter_from_another_machine_is_scored_and_measured(
    case: str, relative: float, largest: float, unchanged: float
) -> None:
    base = bases.resolve("fruitfly")
    found = bases.resolve(str(CASES / case), base)
    assert "fruitfly is used" in found.notes[0]
    assert loading.model_digest(loading.load(found)) != loading.model_digest(loading.load(base))
    whole = drift.measure(base.folder, found.folder).overall
    assert whole.relative == pytest.approx(relative, rel=1e-3)
    assert whole.max_abs == pytest.approx(largest, rel=1e-3)
    assert whole.unchanged.exact == pytest.approx(unchanged, abs=1e-4)


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
