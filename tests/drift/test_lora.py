"""Drift of adapters against the materialised product, PEFT's merge and METHODS 14's numbers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from fixtures.drift import Tensors, dense, example, write
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.drift import lora as drift_lora
from retainbench.harness.drift import measure as drift
from retainbench.harness.drift import spectral
from retainbench.harness.drift.lora import LowRank


def adapter(folder: Path, tensors: Tensors, **options: Any) -> Path:
    folder.mkdir()
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8} | options
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "adapter_model.safetensors")
    return folder


def factors(module: str, rows: int, columns: int, rank: int = 4) -> Tensors:
    generator = torch.Generator().manual_seed(rows + columns)
    return {
        f"base_model.model.{module}.lora_A.weight": torch.randn(rank, columns, generator=generator),
        f"base_model.model.{module}.lora_B.weight": 1e-3
        * torch.randn(rows, rank, generator=generator),
    }


@pytest.mark.parametrize(
    ("options", "scale"),
    [({}, 2.0), ({"use_rslora": True}, 4.0), ({"alpha_pattern": {"down_proj": 2}}, 0.5)],
)
def test_adapter_equals_its_materialised_product(
    tmp_path: Path, options: dict[str, Any], scale: float
) -> None:
    base = example()
    module = "model.layers.1.mlp.down_proj"
    pieces = factors(module, 48, 101)
    folder = adapter(tmp_path / "lora", pieces, **options)
    report = drift.measure(write(tmp_path / "a", base), folder)
    found = next(tensor for tensor in report.tensors if tensor.name == f"{module}.weight")
    a, b = (pieces[f"base_model.model.{module}.lora_{side}.weight"].double() for side in "AB")
    change = scale * (b @ a)
    values = torch.linalg.svdvals(change)
    assert report.overall.frobenius == pytest.approx(float(change.norm()), rel=1e-6)
    assert found.max_abs == pytest.approx(float(change.abs().max()), rel=1e-5)
    assert found.mean_abs == pytest.approx(float(change.abs().mean()), rel=1e-5)
    assert found.spectrum is not None
    assert found.spectrum.norm == pytest.approx(float(values[0]), rel=1e-6)
    assert found.spectrum.numerical_rank == 4
    whole = dense(base)
    assert report.overall.base_frobenius == pytest.approx(np.linalg.norm(whole), rel=1e-6)
    assert report.overall.unchanged.exact == pytest.approx(1 - change.numel() / whole.size)
    assert report.candidate_dtypes == {"F32": 4 * (48 + 101)}


def test_adapter_agrees_with_the_merged_checkpoint(tmp_path: Path) -> None:
    base = example(dtype=torch.float64)
    module = "model.layers.0.self_attn.q_proj"
    pieces = factors(module, 48, 48)
    a, b = (pieces[f"base_model.model.{module}.lora_{side}.weight"].double() for side in "AB")
    merged = base | {f"{module}.weight": base[f"{module}.weight"] + 2.0 * (b @ a)}
    here = write(tmp_path / "a", base)
    unmerged = drift.measure(here, adapter(tmp_path / "lora", pieces)).overall
    whole = drift.measure(here, write(tmp_path / "b", merged)).overall
    assert unmerged.frobenius == pytest.approx(whole.frobenius, rel=1e-6)
    assert unmerged.cosine == pytest.approx(whole.cosine, abs=1e-7)
    assert unmerged.unchanged.within_1e4 == pytest.approx(whole.unchanged.within_1e4, abs=1e-5)


def test_zero_b_is_exactly_no_drift_and_saved_modules_are_full_tensors(tmp_path: Path) -> None:
    base = example()
    here = write(tmp_path / "a", base)
    pieces = factors("model.layers.0.self_attn.q_proj", 48, 48)
    pieces = {name: value * ("lora_A" in name) for name, value in pieces.items()}
    assert drift.measure(here, adapter(tmp_path / "zero", pieces)).overall.frobenius == 0
    head = {"base_model.model.lm_head.weight": base["lm_head.weight"] + 0.25}
    report = drift.measure(here, adapter(tmp_path / "saved", pieces | head))
    assert report.overall.frobenius == pytest.approx(0.25 * (1501 * 48) ** 0.5, rel=1e-6)


def test_adapters_on_tied_weights_say_what_they_mean(tmp_path: Path) -> None:
    base = {name: value for name, value in example().items() if name != "lm_head.weight"}
    here = write(tmp_path / "a", base)
    on_head = adapter(tmp_path / "head", factors("lm_head", 1501, 48))
    report = drift.measure(here, on_head)
    assert "the adapter unties lm_head.weight from the embedding" in report.notes
    assert report.overall.numel == sum(v.numel() for v in base.values()) + 1501 * 48
    moved_by_head = next(t for t in report.tensors if t.kind == "head").frobenius
    assert report.overall.frobenius == moved_by_head > 0
    on_embedding = adapter(tmp_path / "embed", factors("model.embed_tokens", 1501, 48))
    assert any(
        "which keeps the base's values" in note for note in drift.measure(here, on_embedding).notes
    )


def test_worked_example_and_inner_product_of_adapters() -> None:
    b, a = np.array([[1.0, 0], [0, 2], [0, 0]]), np.array([[3.0, 0, 0], [0, 1, 0]])
    one = LowRank(b, a, 0.5)
    assert drift_lora.square(one) ** 0.5 == pytest.approx(1.802776, abs=5e-7)
    found = spectral.from_values(drift_lora.singular_values(one))
    assert found.norm == pytest.approx(1.5)
    assert found.stable_rank == pytest.approx(1.444444, abs=5e-7)
    generator = np.random.default_rng(0)
    other = LowRank(generator.standard_normal((3, 4)), generator.standard_normal((4, 3)), -2.0)
    expected = float(np.sum(0.5 * b @ a * (-2.0 * other.b @ other.a)))
    assert drift_lora.inner(one, other) == pytest.approx(expected, rel=1e-12)


def test_a_saved_copy_of_the_base_is_not_a_change(tmp_path: Path) -> None:
    """PEFT saves the embedding along when an adapter sits on it."""
    base = example()
    here = write(tmp_path / "a", base)
    pieces = factors("model.layers.0.self_attn.q_proj", 48, 48)
    copy = {
        "base_model.model.model.embed_tokens.base_layer.weight": base["model.embed_tokens.weight"]
    }
    alone = drift.measure(here, adapter(tmp_path / "x", pieces))
    assert drift.measure(here, adapter(tmp_path / "y", pieces | copy)).overall == alone.overall
    copy = {name: value + 1 for name, value in copy.items()}
    with pytest.raises(IntegrityError, match=r"its copy of model\.embed_tokens\.weight differs"):
        drift.measure(here, adapter(tmp_path / "z", pieces | copy))


def test_adapters_that_do_not_fit_fail(tmp_path: Path) -> None:
    here = write(tmp_path / "a", example())
    with pytest.raises(IntegrityError, match=r"the base has no model\.layers\.9"):
        drift.measure(
            here, adapter(tmp_path / "x", factors("model.layers.9.mlp.down_proj", 48, 101))
        )
    with pytest.raises(IntegrityError, match=r"shape \[48, 101\] in the base, \[48, 48\]"):
        drift.measure(
            here, adapter(tmp_path / "y", factors("model.layers.0.mlp.down_proj", 48, 48))
        )
    half = factors("model.layers.0.mlp.down_proj", 48, 101)
    half.popitem()
    with pytest.raises(IntegrityError, match="has only the factors"):
        drift.measure(here, adapter(tmp_path / "z", half))


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
def test_peft_writes_adapters_that_are_measured_right(tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path / "base")
    options = LoraConfig(
        r=2, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "embed_tokens"]
    )
    tuned = get_peft_model(model, options)
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    tuned.save_pretrained(tmp_path / "lora", save_embedding_layers=False)
    report = drift.measure(tmp_path / "base", tmp_path / "lora")
    before = load_file(tmp_path / "base" / "model.safetensors")
    merged = tuned.merge_and_unload().state_dict()
    squares = [float((merged[n].double() - v.double()).square().sum()) for n, v in before.items()]
    assert report.overall.frobenius == pytest.approx(sum(squares) ** 0.5, rel=1e-5)
