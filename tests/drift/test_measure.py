"""Drift against an independent dense oracle, and its invariances."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fixtures.drift import Tensors, dense, example, moved, write
from results.performance import drift as bench_drift
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.drift import blocks as drift_blocks
from retainbench.harness.drift import files as drift_files
from retainbench.harness.drift import measure as drift
from retainbench.harness.drift import tensor_pairs
from retainbench.harness.drift.names import kind_of, layer_of
from retainbench.harness.drift.records import DriftReport


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


def test_threads_change_no_number_and_hide_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = write(tmp_path / "a", example()), write(tmp_path / "b", moved(example()))
    alone = drift.measure(here, there)
    monkeypatch.setattr(tensor_pairs, "threads", lambda: 3)
    assert drift.measure(here, there) == alone
    broken = moved(example())
    broken["model.norm.weight"][5] = float("nan")
    with pytest.raises(IntegrityError, match=r"model\.norm\.weight of the candidate"):
        drift.measure(here, write(tmp_path / "c", broken))


@pytest.mark.parametrize(("asked", "found"), [("1", 1), ("64", None), ("", None), ("2,1", None)])
def test_the_number_of_threads_is_bounded(
    monkeypatch: pytest.MonkeyPatch, asked: str, found: int | None
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    cores = min(len(os.sched_getaffinity(0)), tensor_pairs.MOST_THREADS)
    assert tensor_pairs.threads() == (found or cores)


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
    renamed = {f"net.{name}": value for name, value in base.items()}
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
    with pytest.raises(IntegrityError, match=r"no model\.safetensors"):
        drift.measure(here, tmp_path)
    cut = write(tmp_path / "cut", example())
    data = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(data[:-100])
    with pytest.raises(IntegrityError, match=r"cut/model\.safetensors"):
        drift.measure(here, cut)
    (cut / "model.safetensors").unlink()
    index = cut / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"x": "../a/model.safetensors"}}))
    with pytest.raises(IntegrityError, match="not the plain name"):
        drift.measure(here, cut)
    save_file({"x": torch.ones(1)}, cut / "s.safetensors")
    index.write_text(json.dumps({"weight_map": {"x": "s.safetensors", "y": "s.safetensors"}}))
    with pytest.raises(IntegrityError, match="y is missing in"):
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


def test_summary(tmp_path: Path) -> None:
    base = example(dtype=torch.bfloat16)
    here, there = write(tmp_path / "a", base), write(tmp_path / "b", moved(base))
    report = drift.measure(here, there, master_dtype="float32")
    found = drift.summarise(here, there, {"es_null": 2 * report.overall.frobenius})
    assert found.over_null == 0.5
    assert found.parameters == report.overall.numel
    assert found.dtypes == "base BF16, candidate BF16"
    assert drift.summary(report).dtypes == "base BF16, candidate BF16, master float32"
    assert DriftReport.model_validate_json(report.model_dump_json()) == report


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
