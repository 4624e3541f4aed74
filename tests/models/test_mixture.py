"""A mixture of experts whose config asks for router logits, as TRL leaves it, works everywhere."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import peft
import pytest
import torch

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import words
from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring.evaluate import evaluate
from retainbench.harness.tasks.catalogue import OWN
from retainbench.trainers import sft

CONFIG = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "decoder_sparse_step": 1,
    "eos_token_id": 0,
    "head_dim": 16,
    "hidden_size": 64,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
    "mlp_only_layers": [],
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 64,
    "num_attention_heads": 4,
    "num_experts_per_tok": 2,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "num_local_experts": 4,
    "output_router_logits": True,
    "pad_token_id": 1,
    "tie_word_embeddings": False,
}


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """A tiny random mixture with the tiny model's tokenizer."""
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = tmp_path / "mixture"
    save_tiny(folder, seed=0)
    size = json.loads((folder / "config.json").read_text())["vocab_size"]
    (folder / "config.json").write_text(json.dumps(CONFIG | {"vocab_size": size}))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    model.save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["output_router_logits"]
    return folder


def test_choices_and_free_answers_are_scored(mixture: Path) -> None:
    names = ("capitals", "capitals_free")
    records = evaluate(loading.load(mixture), OWN.find(names), limit=3)
    assert [record.task for record in records] == ["capitals"] * 3 + ["capitals_free"] * 3


def test_supervised_training_runs(mixture: Path, tmp_path: Path) -> None:
    chosen = job(mixture, tmp_path / "cell", "sft", steps=1, target=words())
    sft.train(chosen)
    end = tmp_path / "cell" / "checkpoints" / "s0-1.0000"
    assert drift.measure(mixture, end).overall.frobenius > 0


def test_an_adapter_on_the_experts_is_scored_and_measured(mixture: Path, tmp_path: Path) -> None:
    base = bases.resolve(str(mixture))
    config = peft.LoraConfig(r=2, target_modules=[], target_parameters=["mlp.experts.gate_up_proj"])
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        wrapped = peft.get_peft_model(loading.load(base).model, config)  # type: ignore[arg-type]
        for parameter in wrapped.parameters():
            if parameter.requires_grad:
                parameter.data += 0.1 * torch.randn_like(parameter)
        wrapped.save_pretrained(str(tmp_path / "adapter"))
    loaded = loading.load(bases.resolve(str(tmp_path / "adapter"), base))
    ids = torch.tensor([[2, 3, 4, 5, 6, 7]])
    with torch.inference_mode():
        expected = wrapped.eval()(input_ids=ids).logits
        torch.testing.assert_close(loaded.model(ids).logits, expected, atol=2e-5, rtol=1e-4)
    assert drift.measure(mixture, tmp_path / "adapter").overall.frobenius > 0
