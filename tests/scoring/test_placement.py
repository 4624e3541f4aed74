"""Precision and device maps of evaluate and certify."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import PreTrainedModel

import retainbench
from fixtures.runs import suite
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models import bases, loading
from retainbench.harness.models.placement import Placement
from retainbench.harness.scoring import evaluate, probe, stored
from retainbench.harness.tasks.catalogue import OWN

TASK = "capitals"


def likelihoods(base: Path, placement: Placement) -> np.ndarray:
    [records] = evaluate.of_model(bases.of_folder(base), [TASK], 30, placement=placement)
    return np.array([record.choice_logprobs for record in records])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_a_precision_is_computed_in(tiny_base: Path, dtype: str) -> None:
    """Differences are those of rounding: 8 and 11 bits of a sum of about ten nats."""
    exact = likelihoods(tiny_base, Placement())
    rounded = likelihoods(tiny_base, Placement(dtype=dtype))
    difference = np.abs(exact - rounded).max()
    assert 0 < difference < np.abs(exact).max() * 2.0 ** (-7 if dtype == "bfloat16" else -10)
    assert loading.load(tiny_base, dtype=dtype).model.dtype == getattr(torch, dtype)


def test_auto_is_the_stored_precision(tiny_base: Path, tmp_path: Path) -> None:
    loading.save(loading.load(tiny_base, dtype="bfloat16"), tmp_path / "half")
    loaded = loading.load(tmp_path / "half", dtype="auto")
    assert {parameter.dtype for parameter in loaded.model.parameters()} == {torch.bfloat16}


def test_a_device_map_gives_the_same_records(tiny_base: Path) -> None:
    spread = likelihoods(tiny_base, Placement(device_map="auto"))
    assert np.abs(spread - likelihoods(tiny_base, Placement())).max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_layers_on_two_cards_are_scored_singly(tiny_base: Path) -> None:
    base = bases.of_folder(tiny_base)
    [spread] = evaluate.of_model(base, [TASK], 30, placement=Placement(device_map="auto"))
    [whole] = evaluate.of_model(base, [TASK], 30, placement=Placement("cuda"))
    assert [record.score for record in spread] == [record.score for record in whole]


def test_a_spread_model_is_not_packed(tiny_base: Path) -> None:
    model = loading.load(tiny_base, device_map="auto").model
    assert probe.configured_obstacle(model, 10) is None
    model.hf_device_map = {"model.layers.0": 0, "model.layers.1": 1}
    assert "2 devices" in str(probe.configured_obstacle(model, 10))


def test_no_model_stays_in_memory(tiny_base: Path) -> None:
    """So that base and candidate are never there at the same time."""

    def models() -> int:
        return sum(issubclass(type(one), PreTrainedModel) for one in gc.get_objects())

    before = models()
    gc.disable()
    try:
        scored = evaluate.of_model(bases.of_folder(tiny_base), [TASK, "capitals_free"], 10)
        assert [len(records) for records in scored] == [10, 10]
        assert models() <= before
    finally:
        gc.enable()


def test_other_precisions_have_other_files(tmp_path: Path) -> None:
    info = OWN.find([TASK])[0]
    settings = [
        stored.scoring_settings(*placement)
        for placement in (
            Placement(),
            Placement(dtype="bfloat16"),
            Placement(device_map="auto"),
        )
    ]
    files = {stored.Store(tmp_path, one).path("model", info) for one in settings}
    assert len(files) == 3


def test_a_certificate_names_its_precision(tiny_base: Path, tmp_path: Path) -> None:
    file = tmp_path / "small.yaml"
    small = suite(tiny_base, tasks=[TASK], items_per_task=60, noise_floor=[])
    file.write_text(yaml.safe_dump(small.model_dump(mode="json", exclude_none=True)))
    made = retainbench.certify(
        str(tiny_base), str(tiny_base), file, tmp_path / "c", tier="smoke", dtype="bfloat16"
    )
    assert made.evidence.settings["dtype"] == "bfloat16"
    ours = read_jsonl(made.bundle.candidate_records, ItemRecord)
    expected = likelihoods(tiny_base, Placement(dtype="bfloat16"))
    assert np.allclose([r.choice_logprobs for r in ours[:30]], expected, atol=0.25)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"dtype": "int8"}, "--dtype int8: write one of float32"),
        ({"device_map": "balanced"}, "--device-map balanced: write auto"),
        ({"device": "cuda", "device_map": "auto"}, "contradict each other"),
    ],
)
def test_a_mistake_is_named(tiny_base: Path, options: dict[str, str], line: str) -> None:
    with pytest.raises(UsageError, match=line):
        retainbench.evaluate(str(tiny_base), TASK, limit=5, **options)  # type: ignore[arg-type]
