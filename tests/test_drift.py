"""Drift against an independent dense oracle, METHODS 14's worked numbers, and its invariances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from retainbench.harness import (
    bench_drift,
    drift,
    drift_blocks,
    drift_files,
    drift_lora,
    drift_spectral,
)
from retainbench.harness.drift_lora import LowRank
from retainbench.harness.drift_names import kind_of, layer_of
from retainbench.harness.drift_null import EsStep, anchored_es_null, es_null
from retainbench.harness.drift_records import DriftReport
from retainbench.harness.errors import IntegrityError, UsageError

Tensors = dict[str, torch.Tensor]
CONFIG = {"model_type": "llama", "tie_word_embeddings": False}


def example(seed: int = 0, scale: float = 0.02, dtype: torch.dtype = torch.float32) -> Tensors:
    """Tensors named like a two-layer Llama; the embedding spans many rows of dot products and a tail."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {"model.embed_tokens.weight": (1501, 48), "model.norm.weight": (48,)}
    for layer in range(2):
        head = f"model.layers.{layer}"
        shapes[f"{head}.self_attn.q_proj.weight"] = (48, 48)
        shapes[f"{head}.self_attn.q_proj.bias"] = (48,)
        shapes[f"{head}.mlp.down_proj.weight"] = (48, 101)
    shapes["lm_head.weight"] = (1501, 48)
    return {n: (torch.randn(s, generator=generator) * scale).to(dtype) for n, s in shapes.items()}


def moved(tensors: Tensors, scale: float = 1e-4) -> Tensors:
    """Half of the entries of every tensor changed, in the tensors' dtype."""
    noise = example(1, scale)
    keep = example(2, 1.0)
    return {
        name: torch.where(keep[name] > 0, value.float() + noise[name], value.float()).to(
            value.dtype
        )
        for name, value in tensors.items()
    }


def write(folder: Path, tensors: Tensors, config: dict[str, Any] = CONFIG) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file({n: t.contiguous() for n, t in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def dense(tensors: Tensors) -> NDArray[np.float64]:
    return np.concatenate([tensors[name].double().numpy().ravel() for name in sorted(tensors)])


def check_against_oracle(report: DriftReport, base: Tensors, candidate: Tensors) -> None:
    """Every global and per-tensor number, in plain float64 numpy on the whole arrays."""
    for drift_of, one, other in [
        (report.overall, dense(base), dense(candidate)),
        *((t, dense({"": base[t.name]}), dense({"": candidate[t.name]})) for t in report.tensors),
    ]:
        change = other - one
        size = np.maximum(np.abs(one), np.abs(other))
        assert drift_of.numel == one.size
        assert drift_of.frobenius == pytest.approx(np.linalg.norm(change), rel=1e-6)
        assert drift_of.base_frobenius == pytest.approx(np.linalg.norm(one), rel=1e-6)
        assert drift_of.relative == pytest.approx(
            np.linalg.norm(change) / np.linalg.norm(one), rel=1e-6
        )
        assert drift_of.mean_abs == pytest.approx(np.abs(change).mean(), rel=1e-6)
        assert drift_of.max_abs == pytest.approx(np.abs(change).max(), rel=1e-6)
        cosine = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert drift_of.cosine == pytest.approx(cosine, abs=1e-6)
        shares = drift_of.unchanged
        assert shares.exact == np.mean(change == 0)
        assert shares.within_1e6 == np.mean(np.abs(change) <= 1e-6)
        assert shares.within_1e5 == np.mean(np.abs(change) <= 1e-5)
        assert shares.within_1e4 == np.mean(np.abs(change) <= 1e-4)
        assert shares.relative_1e3 == np.mean(np.abs(change) <= 1e-3 * size)


@pytest.mark.parametrize(
    ("base_dtype", "candidate_dtype"),
    [
        (torch.float32, torch.float32),
        (torch.bfloat16, torch.bfloat16),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float16),
        (torch.float64, torch.bfloat16),
    ],
)
def test_all_numbers_match_a_dense_float64_oracle(
    tmp_path: Path, base_dtype: torch.dtype, candidate_dtype: torch.dtype
) -> None:
    base = example(dtype=base_dtype)
    candidate = {name: value.to(candidate_dtype) for name, value in moved(base).items()}
    report = drift.measure(write(tmp_path / "a", base), write(tmp_path / "b", candidate))
    check_against_oracle(report, base, candidate)
    squares = sum(tensor.frobenius**2 for tensor in report.tensors)
    assert report.overall.frobenius == pytest.approx(squares**0.5, rel=1e-12)


def test_unrelated_tensors_match_the_oracle_too(tmp_path: Path) -> None:
    base, candidate = example(3), example(4)
    report = drift.measure(write(tmp_path / "a", base), write(tmp_path / "b", candidate))
    check_against_oracle(report, base, candidate)


def test_groups_are_weighted_by_parameters_and_squared_shares_add_up(tmp_path: Path) -> None:
    base = example()
    candidate = moved(base)
    report = drift.measure(write(tmp_path / "a", base), write(tmp_path / "b", candidate))
    kinds = {group.group: group for group in report.kinds}
    assert set(kinds) == {"embed", "head", "q", "down", "norm", "bias"}
    down = {name: value for name, value in base.items() if "down_proj" in name}
    change = dense({name: candidate[name] for name in down}) - dense(down)
    assert kinds["down"].tensors == 2
    assert kinds["down"].unchanged.exact == np.mean(change == 0)
    for groups in (report.kinds, report.layers, report.tensors):
        assert sum(group.squared_share for group in groups) == pytest.approx(1, rel=1e-12)
    assert [group.group for group in report.layers] == ["0", "1", "outside"]
    assert sum(group.parameter_share for group in report.layers) == pytest.approx(1)


def test_spectrum_matches_torch_svd(tmp_path: Path) -> None:
    base = example()
    candidate = moved(base)
    thin = torch.outer(torch.arange(1.0, 49), torch.ones(48)) * 1e-3
    candidate["model.layers.0.self_attn.q_proj.weight"] = (
        base["model.layers.0.self_attn.q_proj.weight"] + thin
    )
    report = drift.measure(
        write(tmp_path / "a", base), write(tmp_path / "b", candidate), spectral=True
    )
    for tensor in report.tensors:
        if len(tensor.shape) != 2:
            assert tensor.spectrum is None
            continue
        change = candidate[tensor.name].double() - base[tensor.name].double()
        values = torch.linalg.svdvals(change)
        energy = torch.cumsum(values**2, 0) / torch.sum(values**2)
        assert tensor.spectrum is not None
        assert tensor.spectrum.norm == pytest.approx(float(values[0]), rel=1e-6)
        stable = float(torch.sum(values**2) / values[0] ** 2)
        assert tensor.spectrum.stable_rank == pytest.approx(stable, rel=1e-6)
        assert tensor.spectrum.numerical_rank == int(
            torch.sum(values > report.rank_tolerance * values[0])
        )
        assert tensor.spectrum.energy_rank == int(torch.sum(energy < 0.9)) + 1


def test_matrices_beyond_the_size_limit_get_the_norm_only(monkeypatch: pytest.MonkeyPatch) -> None:
    change = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    monkeypatch.setattr(drift_spectral, "FULL_SPECTRUM", 16)
    found = drift_spectral.spectrum(change)
    values = np.linalg.svd(change.astype(np.float64), compute_uv=False)
    assert found.norm == pytest.approx(values[0], rel=1e-5)
    assert found.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2, rel=2e-5)
    assert found.numerical_rank is None
    assert found.energy_rank is None


def test_subspace_overlap_separates_aligned_from_random_changes() -> None:
    generator = np.random.default_rng(0)
    left, _, right = np.linalg.svd(generator.standard_normal((80, 120)), full_matrices=False)
    base = (left * 0.8 ** np.arange(80) @ right).astype(np.float32)
    aligned = 0.1 * np.outer(left[:, 0], right[1]).astype(np.float32)
    found = drift_spectral.subspace(base, aligned)
    assert found is not None
    assert found.left == pytest.approx(1, abs=1e-5)
    assert found.right == pytest.approx(1, abs=1e-5)
    noise = 1e-3 * generator.standard_normal(base.shape).astype(np.float32)
    random = drift_spectral.subspace(base, noise)
    assert random is not None
    assert random.rank == 16
    # 16 of 80 directions hold a share with standard deviation below 0.01 for 9600 entries
    assert random.left == pytest.approx(random.left_random, abs=0.03)
    assert random.right == pytest.approx(random.right_random, abs=0.03)
    assert random.mask == pytest.approx(random.mask_random, abs=1e-9)
    assert 0 < random.shift < 0.05
    assert drift_spectral.subspace(base, np.zeros_like(base)) is None


def test_subspace_level_reports_each_matrix(tmp_path: Path) -> None:
    base = example()
    report = drift.measure(
        write(tmp_path / "a", base), write(tmp_path / "b", moved(base)), subspace=True
    )
    assert {t.kind for t in report.tensors if t.subspace} == {"embed", "head", "q", "down"}


def test_identical_checkpoints_have_not_moved(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", example())
    whole = drift.measure(folder, folder).overall
    assert (whole.frobenius, whole.max_abs, whole.mean_abs) == (0.0, 0.0, 0.0)
    assert whole.unchanged.model_dump() == dict.fromkeys(whole.unchanged.model_dump(), 1.0)
    assert drift.summarise(folder, folder, {}).changed_parameters == 0


def test_sharding_and_order_of_keys_change_nothing(tmp_path: Path) -> None:
    base, candidate = example(), moved(example())
    single = drift.measure(write(tmp_path / "a", base), write(tmp_path / "b", candidate))
    sharded = tmp_path / "c"
    sharded.mkdir()
    names = sorted(candidate, reverse=True)
    shards = {"x-2.safetensors": names[:3], "x-1.safetensors": names[3:]}
    for file, members in shards.items():
        save_file({name: candidate[name] for name in members}, sharded / file)
    places = {name: file for file, members in shards.items() for name in members}
    index = sharded / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    assert drift.measure(tmp_path / "a", sharded) == single


def test_drift_is_symmetric(tmp_path: Path) -> None:
    here, there = write(tmp_path / "a", example()), write(tmp_path / "b", moved(example()))
    forth, back = drift.measure(here, there).overall, drift.measure(there, here).overall
    assert forth.frobenius == back.frobenius
    assert (forth.max_abs, forth.mean_abs) == (back.max_abs, back.mean_abs)
    assert forth.unchanged == back.unchanged


@pytest.mark.parametrize("position", [0, 32767, 32768, 72047])
def test_a_single_changed_entry_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, position: int
) -> None:
    monkeypatch.setattr(drift_blocks, "BLOCK", 1 << 15)
    base = example()
    candidate = {name: value.clone() for name, value in base.items()}
    candidate["lm_head.weight"].view(-1)[position] += 0.5
    change = float(candidate["lm_head.weight"].view(-1)[position]) - float(
        base["lm_head.weight"].view(-1)[position]
    )
    report = drift.measure(write(tmp_path / "a", base), write(tmp_path / "b", candidate))
    assert report.overall.frobenius == pytest.approx(abs(change), rel=1e-7)
    assert {g.group: g.squared_share for g in report.kinds}["head"] == 1.0
    assert drift.summary(report).changed_parameters == 1


def test_tiny_and_huge_values_keep_their_norms(tmp_path: Path) -> None:
    for scale in (1e-22, 1e22):
        base = {"w": torch.full((100,), scale)}
        report = drift.measure(
            write(tmp_path / "a", base), write(tmp_path / "b", {"w": base["w"] * 1.5})
        )
        assert report.overall.frobenius == pytest.approx(5 * scale, rel=1e-6)
        assert report.overall.relative == pytest.approx(0.5, rel=1e-6)


def test_pieces_that_cross_read_boundaries_are_exact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, candidate = example(), moved(example())
    here, there = write(tmp_path / "a", base), write(tmp_path / "b", candidate)
    monkeypatch.setattr(drift_files, "PIECE", 1001)
    monkeypatch.setattr(drift_blocks, "BLOCK", 100)
    check_against_oracle(drift.measure(here, there), base, candidate)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("side", ["base", "candidate"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nan_and_infinity_fail_naming_the_tensor(
    tmp_path: Path, value: float, side: str, dtype: torch.dtype
) -> None:
    folders = {}
    for who in ("base", "candidate"):
        tensors = {"model.norm.weight": torch.ones(70000, dtype=dtype)}
        if who == side:
            tensors["model.norm.weight"][69999] = value
        folders[who] = write(tmp_path / who, tensors)
    with pytest.raises(IntegrityError, match=f"model.norm.weight of the {side}"):
        drift.measure(folders["base"], folders["candidate"])


def test_missing_extra_renamed_and_reshaped_tensors_fail_by_name(tmp_path: Path) -> None:
    base = example()
    here = write(tmp_path / "a", base)
    lacking = {name: value for name, value in base.items() if name != "model.norm.weight"}
    renamed = {name.removeprefix("model."): value for name, value in base.items()}
    reshaped = base | {"model.norm.weight": torch.ones(47)}
    for number, (tensors, message) in enumerate(
        (
            (lacking, "1 missing: model.norm.weight"),
            (base | {"model.extra": torch.ones(2)}, "1 extra: model.extra"),
            (renamed, "looks renamed to"),
            (reshaped, r"model.norm.weight: shape \[48\] in the base, \[47\] in the candidate"),
            (
                base | {"model.norm.weight": torch.ones(48, dtype=torch.int32)},
                "stored as F32 and I32",
            ),
        )
    ):
        with pytest.raises(IntegrityError, match=message):
            drift.measure(here, write(tmp_path / f"b{number}", tensors))


def test_broken_folders_fail_closed(tmp_path: Path) -> None:
    here = write(tmp_path / "a", example())
    with pytest.raises(UsageError, match="found 0"):
        drift.measure(here, tmp_path)
    cut = write(tmp_path / "cut", example())
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(IntegrityError, match=r"cut/model\.safetensors"):
        drift.measure(here, cut)
    index = cut / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../a/model.safetensors"}}))
    with pytest.raises(IntegrityError, match="not a plain file name"):
        drift.measure(here, cut)
    save_file({"x": torch.ones(1)}, cut / "s.safetensors")
    index.write_text(json.dumps({"weight_map": {"x": "s.safetensors", "y": "s.safetensors"}}))
    with pytest.raises(IntegrityError, match="y is not in"):
        drift.measure(here, cut)


def test_tied_weights_count_once_and_a_false_copy_fails(tmp_path: Path) -> None:
    tied = {"model_type": "llama", "tie_word_embeddings": True}
    base, candidate = example(), moved(example())
    base["lm_head.weight"] = base["model.embed_tokens.weight"].clone()
    without = {name: value for name, value in candidate.items() if name != "lm_head.weight"}
    report = drift.measure(write(tmp_path / "a", base, tied), write(tmp_path / "b", without, tied))
    assert report.tied == ["lm_head.weight"]
    assert report.overall.numel == sum(value.numel() for value in without.values())
    with pytest.raises(IntegrityError, match=r"lm_head.weight differs from model.embed_tokens"):
        drift.measure(tmp_path / "a", write(tmp_path / "c", candidate, tied))


def test_a_candidate_that_untied_its_head_is_compared_with_the_embedding(tmp_path: Path) -> None:
    candidate = moved(example())
    base = {name: value for name, value in example().items() if name != "lm_head.weight"}
    report = drift.measure(write(tmp_path / "a", base), write(tmp_path / "b", candidate))
    head = next(tensor for tensor in report.tensors if tensor.kind == "head")
    change = candidate["lm_head.weight"] - base["model.embed_tokens.weight"]
    assert head.frobenius == pytest.approx(float(change.double().norm()), rel=1e-6)
    assert report.notes == ["lm_head.weight is tied to the embedding in the base only"]


def test_buffers_are_listed_and_not_measured(tmp_path: Path) -> None:
    buffer = "model.layers.0.self_attn.rotary_emb.inv_freq"
    base = example()
    report = drift.measure(
        write(tmp_path / "a", base | {buffer: torch.ones(4)}), write(tmp_path / "b", base)
    )
    assert report.buffers == [buffer]
    assert report.overall.frobenius == 0


@pytest.mark.parametrize(
    ("name", "kind", "layer"),
    [
        ("model.embed_tokens.weight", "embed", None),
        ("model.language_model.layers.7.self_attn.q_proj.weight", "q", 7),
        ("model.layers.12.self_attn.k_proj.weight", "k", 12),
        ("model.layers.0.self_attn.v_proj.bias", "bias", 0),
        ("model.layers.0.self_attn.o_proj.weight", "o", 0),
        ("model.layers.0.self_attn.q_norm.weight", "norm", 0),
        ("model.layers.0.post_feedforward_layernorm.weight", "norm", 0),
        ("model.layers.0.mlp.gate_proj.weight", "gate", 0),
        ("model.layers.0.mlp.gate.weight", "router", 0),
        ("model.layers.3.mlp.experts.5.up_proj.weight", "up", 3),
        ("model.layers.3.mlp.down_proj.weight", "down", 3),
        ("model.norm.weight", "norm", None),
        ("lm_head.weight", "head", None),
        ("transformer.wte.weight", "embed", None),
        ("transformer.wpe.weight", "embed", None),
        ("transformer.h.3.attn.c_attn.weight", "qkv", 3),
        ("transformer.h.3.attn.c_proj.weight", "o", 3),
        ("transformer.h.3.mlp.c_fc.weight", "up", 3),
        ("transformer.h.3.mlp.c_proj.weight", "down", 3),
        ("transformer.h.3.ln_1.weight", "norm", 3),
        ("transformer.ln_f.bias", "bias", None),
        ("gpt_neox.layers.1.attention.query_key_value.weight", "qkv", 1),
        ("gpt_neox.layers.1.attention.dense.weight", "o", 1),
        ("something.else", "other", None),
    ],
)
def test_kinds_and_layers(name: str, kind: str, layer: int | None) -> None:
    assert (kind_of(name), layer_of(name)) == (kind, layer)


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
    assert any("is tied" in note for note in drift.measure(here, on_embedding).notes)


def test_worked_example_and_inner_product_of_adapters() -> None:
    b, a = np.array([[1.0, 0], [0, 2], [0, 0]]), np.array([[3.0, 0, 0], [0, 1, 0]])
    one = LowRank(b, a, 0.5)
    assert drift_lora.square(one) ** 0.5 == pytest.approx(1.802776, abs=5e-7)
    found = drift_spectral.from_values(drift_lora.singular_values(one))
    assert found.norm == pytest.approx(1.5)
    assert found.stable_rank == pytest.approx(1.444444, abs=5e-7)
    generator = np.random.default_rng(0)
    other = LowRank(generator.standard_normal((3, 4)), generator.standard_normal((4, 3)), -2.0)
    expected = float(np.sum(0.5 * b @ a * (-2.0 * other.b @ other.a)))
    assert drift_lora.inner(one, other) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    "options",
    [
        {"use_dora": True},
        {"peft_type": "LOHA"},
        {"init_lora_weights": "pissa"},
        {"lora_bias": True},
    ],
)
def test_adapters_that_are_not_a_product_are_refused(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    here = write(tmp_path / "a", example())
    pieces = factors("model.layers.0.self_attn.q_proj", 48, 48)
    with pytest.raises(UsageError, match="merge it into the base"):
        drift.measure(here, adapter(tmp_path / "x", pieces, **options))


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


def test_summary_and_table(tmp_path: Path) -> None:
    base = example(dtype=torch.bfloat16)
    here, there = write(tmp_path / "a", base), write(tmp_path / "b", moved(base))
    report = drift.measure(here, there, master_dtype="float32")
    found = drift.summarise(here, there, {"es_null": 2 * report.overall.frobenius})
    assert found.over_null == 0.5
    assert found.parameters == report.overall.numel
    assert found.dtypes == "base BF16, candidate BF16"
    assert drift.summary(report).dtypes == "base BF16, candidate BF16, master float32"
    frame = drift.table(report)
    assert list(frame["name"]) == [tensor.name for tensor in report.tensors]
    frame.to_parquet(tmp_path / "drift.parquet")
    assert DriftReport.model_validate_json(report.model_dump_json()) == report


def test_null_covers_idle_steps_repeated_seeds_and_antithetic_pairs() -> None:
    plain = EsStep(0.1, 4, [-1.341641, -0.447214, 0.447214, 1.341641])
    assert es_null(100, [plain]) == pytest.approx(0.1 * (100 / 4) ** 0.5, rel=1e-6)
    idle = EsStep(0.1, 4, [0, 0, 0, 0])
    assert es_null(100, [plain, idle]) == es_null(100, [plain])
    repeated = EsStep(0.1, 4, [-1.788855, 0, 1.788855])
    assert es_null(100, [repeated]) > es_null(100, [plain])
    pairs = EsStep(0.1, 4, [-2.683282, 0.894428])
    ratio = es_null(100, [pairs]) ** 2 / es_null(100, [plain]) ** 2
    assert ratio == pytest.approx(2, abs=1e-5)


def test_null_of_published_runs_and_of_the_anchor() -> None:
    """METHODS 14's table; the general form ends one pull of the anchor after the closed one."""
    nulls = [anchored_es_null(1_544_000_000, 5e-4, 30, steps, 0) for steps in (50, 100, 200, 500)]
    assert [round(null, 1) for null in nulls] == [25.4, 35.9, 50.7, 80.2]
    closed = anchored_es_null(1000, 5e-4, 30, 500, 10.0)
    general = es_null(1000, [EsStep(5e-4, 30, [30**0.5], kept=0.995)] * 500)
    assert general == pytest.approx(0.995 * closed, rel=1e-12)


def test_null_matches_a_random_walk() -> None:
    """T-ES-5: rewards without information drift by the null; d 1e4, N 30, T 100."""
    generator = np.random.default_rng(5)
    position, schedule = np.zeros(10_000), []
    for _ in range(100):
        rewards = generator.standard_normal(30)
        weights = (rewards - rewards.mean()) / (rewards.std() + 1e-8)
        position += 0.01 / 30 * weights @ generator.standard_normal((30, 10_000))
        schedule.append(EsStep(0.01, 30, weights.tolist()))
    assert 0.97 < np.linalg.norm(position) / es_null(10_000, schedule) < 1.03


def test_bench_writes_checkpoints_that_have_moved_and_measures_within_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench_drift, "_shapes", lambda _: {"w": (300, 200), "v": (64, 2)})
    rows = bench_drift.bench(tmp_path, gigabytes=0.001, dtypes=("BF16",), repeats=1)
    assert [row.cache for row in rows] == ["cold", "warm"]
    assert rows[0].largest_tensor == 300 * 200 * 2
    assert 0 < rows[0].peak_bytes < rows[0].allowed_bytes
    assert list(tmp_path.iterdir()) == []
    bench_drift.write_pair(tmp_path / "a", tmp_path / "b", "BF16", 0)
    moved_share = 1 - drift.measure(tmp_path / "a", tmp_path / "b").overall.unchanged.exact
    assert moved_share > 0.5
