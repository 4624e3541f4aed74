"""Adapters of every kind: scored as PEFT serves them, used whole, their drift measured."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, loading
from retainbench.harness.models.checked import Base

Q = ["q_proj"]
KINDS: dict[str, peft.PeftConfig] = {
    "lora": peft.LoraConfig(r=2, target_modules=Q),
    "lora by regex": peft.LoraConfig(r=2, target_modules=r".*layers\.1\..*q_proj"),
    "dora": peft.LoraConfig(r=2, target_modules=Q, use_dora=True),
    "pissa": peft.LoraConfig(r=2, target_modules=Q, init_lora_weights="pissa"),
    "lora with saved head": peft.LoraConfig(r=2, target_modules=Q, modules_to_save=["lm_head"]),
    "lora and tokens": peft.LoraConfig(r=2, target_modules=Q, trainable_token_indices=[3, 5]),
    "ia3": peft.IA3Config(target_modules=Q, feedforward_modules=[]),
    "loha": peft.LoHaConfig(r=2, target_modules=Q),
    "lokr": peft.LoKrConfig(r=2, target_modules=Q),
    "vera": peft.VeraConfig(r=2, target_modules=Q),
    "oft": peft.OFTConfig(oft_block_size=4, target_modules=Q),
    "miss": peft.MissConfig(r=2, target_modules=Q),
    "shira": peft.ShiraConfig(r=1, target_modules=Q, random_seed=0),
    "ln tuning": peft.LNTuningConfig(target_modules=["input_layernorm"]),
    "tokens": peft.TrainableTokensConfig(token_indices=[3, 5], target_modules=["embed_tokens"]),
}


def save_adapter(base: Path, config: peft.PeftConfig, folder: Path) -> Path:
    """An adapter with a visible effect: noise on all that it would train."""
    model = loading.load(base).model
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        wrapped = peft.get_peft_model(model, config)  # type: ignore[arg-type]
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
        wrapped.save_pretrained(str(folder))
    return folder


@pytest.fixture
def base(tiny_base: Path) -> Base:
    return bases.resolve(str(tiny_base))


@pytest.fixture(scope="session")
def tied_base(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny base with the head tied to the embedding."""
    folder = Path(shutil.copytree(tiny_base, tmp_path_factory.mktemp("tied") / "base"))
    stored = load_file(folder / "model.safetensors")
    del stored["lm_head.weight"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text()) | {"tie_word_embeddings": True}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def logits(model: Any) -> torch.Tensor:
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=torch.tensor([[2, 3, 4, 5, 6, 7]])).logits
        return found


def served(base: Path, adapter: Path) -> torch.Tensor:
    """Logits of PEFT's own unmerged model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = loading.load(base).model
        return logits(peft.PeftModel.from_pretrained(model, str(adapter)).eval())


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_is_scored_as_it_is_served_and_its_drift_measured(
    base: Base, tmp_path: Path, kind: str
) -> None:
    folder = save_adapter(base.folder, KINDS[kind], tmp_path / "adapter")
    loaded = loading.load(bases.resolve(str(folder), base))
    expected = served(base.folder, folder)
    torch.testing.assert_close(logits(loaded.model), expected, atol=2e-5, rtol=1e-4)
    assert not torch.allclose(expected, logits(loading.load(base).model), atol=3e-5)
    report = drift.measure(base.folder, folder)
    loading.save(loaded, tmp_path / "merged")
    merged = drift.measure(base.folder, tmp_path / "merged")
    assert report.overall.frobenius == pytest.approx(merged.overall.frobenius, rel=1e-4)
    assert report.overall.frobenius > 0


@pytest.mark.parametrize("module", ["lm_head", "embed_tokens"])
@pytest.mark.parametrize("tied", [True, False])
def test_lora_on_head_or_embedding_changes_what_it_changes_when_served(
    tiny_base: Path, tied_base: Path, tmp_path: Path, module: str, tied: bool
) -> None:
    folder = tied_base if tied else tiny_base
    config = peft.LoraConfig(r=2, target_modules=[module])
    adapter = save_adapter(folder, config, tmp_path / "adapter")
    loaded = loading.load(bases.resolve(str(adapter), bases.resolve(str(folder))))
    torch.testing.assert_close(logits(loaded.model), served(folder, adapter), atol=2e-5, rtol=1e-4)
    embedding = loaded.model.get_input_embeddings()
    before = loading.load(folder).model.get_input_embeddings().weight
    assert torch.equal(embedding.weight, before) == (module == "lm_head")
    report = drift.measure(folder, adapter)
    moved = {tensor.name for tensor in report.tensors if tensor.frobenius}
    assert moved == {"lm_head.weight" if module == "lm_head" else "model.embed_tokens.weight"}
    loading.save(loaded, tmp_path / "merged")
    again = loading.load(tmp_path / "merged")
    assert loading.model_digest(again) == loading.model_digest(loaded)


def test_an_adapter_without_effect_keeps_the_tie(tied_base: Path, tmp_path: Path) -> None:
    model = loading.load(tied_base).model
    config = peft.LoraConfig(r=2, target_modules=["embed_tokens"])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, config)  # type: ignore[arg-type]
        for name, parameter in wrapped.named_parameters():
            if "lora_embedding_A" in name:
                parameter.data.zero_()
        wrapped.save_pretrained(str(tmp_path / "adapter"))
    base = bases.resolve(str(tied_base))
    loaded = loading.load(bases.resolve(str(tmp_path / "adapter"), base))
    assert loading.model_digest(loaded) == loading.model_digest(loading.load(base))
    assert loaded.model.config.tie_word_embeddings


def config(**changes: Any) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        file = folder / "adapter_config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return apply


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        stored = load_file(folder / "adapter_model.safetensors")
        change(stored)
        save_file(stored, folder / "adapter_model.safetensors")

    return apply


def rename(old: str, new: str) -> Callable[[Path], None]:
    return tensors(lambda t: t.update({k.replace(old, new): t.pop(k) for k in list(t)}))


def write(text: str) -> Callable[[Path], None]:
    return lambda folder: (folder / "adapter_config.json").write_text(text) and None


A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "keys do not match": (rename("model.model.", "model._orig_mod.model."), "_orig_mod."),
    "other prefix": (rename("base_model.model.model.", "base_model.model."), "unused"),
    "half an adapter": (
        tensors(lambda t: [t.pop(k) for k in list(t) if "layers.0" in k]),
        "missing",
    ),
    "an extra tensor": (tensors(lambda t: t.update({"x.lora_A.weight": t[A].clone()})), "unused"),
    "shape": (tensors(lambda t: t.update({A: t[A][:, :5].contiguous()})), "size mismatch"),
    "weights renamed": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "x.safetensors"),
        "without adapter_model.safetensors",
    ),
    "weights pickled": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        "pickled weights",
    ),
    "NaN": (tensors(lambda t: t[A].fill_(float("nan"))), "NaN or infinite"),
    "peft_type unknown": (config(peft_type="EVIL"), "EVIL"),
    "peft_type list": (config(peft_type=["LORA"]), "peft_type must"),
    "router": (config(peft_type="XLORA"), "chooses between adapters"),
    "r 0": (config(r=0), "r is '0'"),
    "r -1": (config(r=-1), "r is '-1'"),
    "r 10^9": (config(r=10**9), "r is '1000000000'"),
    "rank_pattern": (config(rank_pattern={"q_proj": 10**9}), "q_proj is '1000000000'"),
    "alpha 0": (config(lora_alpha=0), "a number other than 0"),
    "alpha_pattern text": (config(alpha_pattern="x"), "must map patterns"),
    "alpha text": (config(lora_alpha="x"), "a number other than 0"),
    "unknown modules": (config(target_modules=["nothing"]), "nothing"),
    "target_modules number": (config(target_modules=3), "must be a text"),
    "regex bomb": (config(target_modules="(.*a){25}$|((a|.)*)*!"), "list the modules by name"),
    "regex broken": (config(target_modules="("), "list the modules by name"),
    "regex long": (config(target_modules="a" * 5000), "longer than"),
    "modules_to_save absent": (config(modules_to_save=["lm_head"]), "lm_head"),
    "megatron": (config(megatron_config={"a": 1}, megatron_core="antigravity"), "PEFT imports"),
    "megatron_core": (config(megatron_core="antigravity"), "PEFT would import"),
    "loftq": (config(init_lora_weights="loftq"), "cannot be read"),
    "corda": (config(init_lora_weights="corda"), "cannot be read"),
    "layer_replication": (config(layer_replication=[[0, 10**6]]), "number of layers"),
    "tokens outside": (config(trainable_token_indices=[10**9]), "must list ids from 0"),
    "alora": (config(alora_invocation_tokens=[1]), "cannot be merged"),
    "arrow": (config(arrow_config={"top_k": 1}), "further adapters"),
    "exclude_modules": (config(exclude_modules=["q_proj"]), "cannot be read"),
    "target_parameters": (
        config(target_parameters=["nothing.weight"], target_modules=[]),
        "no `target_parameters`",
    ),
    "config list": (write("[]"), "expected a JSON object"),
    "config broken": (write("{]"), "not valid JSON"),
    "config deep": (write('{"a":' + "[" * 100_000), "nested"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_adapter_is_refused_in_one_line(base: Base, tmp_path: Path, name: str) -> None:
    folder = save_adapter(base.folder, KINDS["lora"], tmp_path / "adapter")
    damage, message = DAMAGE[name]
    damage(folder)
    with pytest.raises(IntegrityError) as caught:
        loading.load(bases.resolve(str(folder), base))
    assert message in str(caught.value)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("recorded", [None, "/home/user/models/base", "org/model", "x" * 5000])
def test_the_given_base_is_used_where_the_recorded_one_is_not_here(
    base: Base, tmp_path: Path, recorded: str | None
) -> None:
    folder = save_adapter(base.folder, KINDS["lora"], tmp_path / "adapter")
    config(base_model_name_or_path=recorded)(folder)
    found = bases.resolve(str(folder), base)
    assert len(found.notes) == 1
    assert f"{base.name} is used" in found.notes[0]
    with pytest.raises(UsageError, match="--base"):
        bases.resolve(str(folder))


def test_an_adapter_on_another_base_is_another_model(
    base: Base, tied_base: Path, tmp_path: Path
) -> None:
    """Records are kept by this digest."""
    folder = save_adapter(base.folder, KINDS["lora"], tmp_path / "adapter")
    config(base_model_name_or_path=None)(folder)
    both = [bases.resolve(str(folder), one) for one in (base, bases.resolve(str(tied_base)))]
    assert len({found.digest for found in (*both, base)}) == 3
    assert bases.resolve(str(folder), base).digest == both[0].digest


def test_adapters_that_name_each_other_are_refused(base: Base, tmp_path: Path) -> None:
    one = save_adapter(base.folder, KINDS["lora"], tmp_path / "one")
    other = Path(shutil.copytree(one, tmp_path / "other"))
    config(base_model_name_or_path=str(other))(one)
    config(base_model_name_or_path=str(one))(other)
    with pytest.raises(IntegrityError, match="is an adapter"):
        bases.resolve(str(one))
    config(base_model_name_or_path=str(one))(one)
    with pytest.raises(IntegrityError, match="is an adapter"):
        bases.resolve(str(one))


@pytest.mark.parametrize("kind", ["PROMPT_TUNING", "PREFIX_TUNING", "P_TUNING"])
def test_prompt_tuning_is_one_sentence(base: Base, tmp_path: Path, kind: str) -> None:
    folder = save_adapter(base.folder, KINDS["lora"], tmp_path / "adapter")
    config(peft_type=kind)(folder)
    with pytest.raises(IntegrityError, match="adds virtual tokens to each prompt"):
        bases.resolve(str(folder), base)
