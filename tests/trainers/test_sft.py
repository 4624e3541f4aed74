"""SFT and DFT against their formulas: normaliser, mask, weights; and LoRA against its own."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fixtures.trainer_cases import job
from fixtures.trainer_oracle import (
    assert_same,
    differentiate,
    first_batch,
    gradients,
    log_of,
    logprobs,
    words,
)
from retainbench.harness.models import loading
from retainbench.trainers import dft, sft
from retainbench.trainers._shared import model as _model
from retainbench.trainers._shared.contract import Job

END = "checkpoints/s0-1.0000"
UNCLIPPED = {"batch_size": 8, "max_grad_norm": 1e9}


def one_step(base: Path, out: Path, method: str, **options: Any) -> Job:
    return job(base, out, method, steps=1, target=words(), options=UNCLIPPED | options)


def test_accumulation_leaves_gradient_loss_and_weights_alone(
    tiny_base: Path, tmp_path: Path
) -> None:
    """T-SFT-1, with answers of 1 to 12 letters: a mean of the parts' means would differ."""
    runs = []
    for parts in (1, 4):
        chosen = one_step(tiny_base, tmp_path / str(parts), "sft", accumulation=parts)
        with gradients() as seen:
            sft.train(chosen)
        runs.append((seen[0], log_of(chosen)[0]["loss"], load_file(next(ends(chosen)))))
    (one, loss_one, weights_one), (four, loss_four, weights_four) = runs
    assert_same(four, one)
    assert loss_four == pytest.approx(loss_one, rel=1e-5)
    for name, value in weights_one.items():
        # AdamW's first step is lr = 1e-3 whatever the gradient: 1 % of it for those near 0.
        torch.testing.assert_close(weights_four[name], value, rtol=0, atol=1e-5, msg=name)


def ends(chosen: Job) -> Any:
    return (chosen.out / END).glob("model*.safetensors")


def test_sft_is_the_mean_over_completion_tokens_alone(tiny_base: Path, tmp_path: Path) -> None:
    """T-SFT-2: loss and gradient are those of the completions; the prompts' tokens add nothing."""
    chosen = one_step(tiny_base, tmp_path, "sft")
    rows = first_batch(chosen)
    trained = sum(len(row.completion) for row in rows)
    loss, wanted = differentiate(
        tiny_base, lambda model: -sum(logprobs(model, row).sum() for row in rows) / trained
    )
    with gradients() as seen:
        sft.train(chosen)
    assert_same(seen[0], wanted)
    assert log_of(chosen)[0]["loss"] == pytest.approx(loss, rel=1e-5)


def test_dft_gradient_at_the_logits_is_p_times_that_of_cross_entropy(
    tiny_base: Path, tmp_path: Path
) -> None:
    """T-DFT-1: TRL's gradient equals p_t (softmax - one-hot) / M sent back from the logits."""
    chosen = one_step(tiny_base, tmp_path, "dft")
    rows = first_batch(chosen)
    trained = sum(len(row.completion) for row in rows)
    model = loading.load(tiny_base).model
    for row in rows:
        ids = torch.tensor([row.prompt + row.completion])
        logits_TV = model(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1]
        p_TV = logits_TV.detach().double().softmax(-1)
        target_TV = torch.nn.functional.one_hot(torch.tensor(row.completion), p_TV.shape[-1])
        p_T1 = (p_TV * target_TV).sum(-1, keepdim=True)
        logits_TV.backward((p_T1 * (p_TV - target_TV) / trained).float())
    with gradients() as seen:
        dft.train(chosen)
    assert_same(seen[0], {n: p.grad for n, p in model.named_parameters() if p.grad is not None})


def test_dft_without_its_weights_is_sft(tiny_base: Path, tmp_path: Path) -> None:
    """T-DFT-3, on the losses that TRL logs for the same rows."""
    losses = {}
    for method, train in (("sft", sft.train), ("dft", dft.train)):
        chosen = one_step(tiny_base, tmp_path / method, method)
        train(chosen)
        losses[method] = log_of(chosen)[0]["loss"]
    model = loading.load(tiny_base).model
    logp = torch.cat([logprobs(model, row) for row in first_batch(chosen)]).detach()
    assert losses["sft"] == pytest.approx(float(-logp.mean()), rel=1e-5)
    assert losses["dft"] == pytest.approx(float(-(logp.exp() * logp).mean()), rel=1e-5)


@pytest.mark.parametrize(("method", "wanted"), [("sft", 0.767528), ("dft", 0.290554)])
def test_losses_have_the_published_values(
    tiny_base: Path, tmp_path: Path, method: str, wanted: float
) -> None:
    """T-DFT-2: a model that gives " ", "a" and the end p = 0.5, 0.25 and 0.8 in turn."""
    save_bigrams(tiny_base, tmp_path / "base", {":": (" ", 0.5), " ": ("a", 0.25), "a": ("", 0.8)})
    chosen = job(tmp_path / "base", tmp_path / "run", method, steps=1, options={"batch_size": 1})
    always_a = [{"id": "a", "query": "?", "answer": "a"}]
    chosen.target.train[:] = always_a
    (sft if method == "sft" else dft).train(chosen)
    assert log_of(chosen)[0]["loss"] == pytest.approx(wanted, abs=1e-6)


def save_bigrams(base: Path, folder: Path, following: dict[str, tuple[str, float]]) -> None:
    """A model whose next token depends on the last one alone, with the given probabilities."""
    model, tokenizer = loading.load(base)
    width = model.config.hidden_size
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not name.endswith("norm.weight"):
                value.zero_()
        head_VD, embedding_VD = model.lm_head.weight, model.model.embed_tokens.weight
        for place, (before, (after, p)) in enumerate(following.items()):
            token = tokenizer.convert_tokens_to_ids(before)
            target = tokenizer.convert_tokens_to_ids(after) if after else tokenizer.eos_token_id
            # The final norm makes a one-hot embedding sqrt(width) long; the rest of the vocabulary
            # shares 1 - p.
            embedding_VD[token, place] = 1.0
            others = head_VD.shape[0] - 1
            head_VD[target, place] = math.log(p * others / (1 - p)) / math.sqrt(width)
    model.config.rms_norm_eps = 1e-12
    loading.save(loading.Loaded(model, tokenizer), folder)


def test_untrained_adapter_is_the_base_bit_for_bit(tiny_base: Path, tmp_path: Path) -> None:
    """T-LORA-1."""
    policy = _model.load(job(tiny_base, tmp_path, "sft", adaptation="lora"))
    base = loading.load(tiny_base).model
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        assert torch.equal(policy.model(ids).logits, base(ids).logits)


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    sft.train(job(tiny_base, tmp_path, "sft", adaptation="lora"))
    return tmp_path / END


def test_adapter_drift_from_gram_matrices_is_that_of_the_merged_weights(
    tiny_base: Path, adapter: Path
) -> None:
    """T-LORA-2: |s B A| from r x r products; the merged weights are rounded to float32."""
    tensors = load_file(adapter / "adapter_model.safetensors")
    scale, merged = 2.0, dict(loading.load(adapter).model.named_parameters())
    base = dict(loading.load(tiny_base).model.named_parameters())
    for name in (n for n in tensors if n.endswith("lora_A.weight")):
        a = tensors[name].double()
        b = tensors[name.replace("lora_A", "lora_B")].double()
        module = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight")
        gram = scale * torch.trace((b.T @ b) @ (a @ a.T)).sqrt()
        weight = f"{module}.weight"
        change = (merged[weight].detach().double() - base[weight].detach().double()).norm()
        assert float(gram) > 0
        # 2^-25 of weights of size 0.06 each, over 2048 entries: 1e-7 beside norms of 1e-2.
        assert float(change) == pytest.approx(float(gram), rel=1e-4)


def test_merged_adapter_has_the_logits_of_the_unmerged(tiny_base: Path, adapter: Path) -> None:
    """T-LORA-3: float32 rounding of W + s B A against W x + s B (A x)."""
    from peft import PeftModel

    unmerged = PeftModel.from_pretrained(loading.load(tiny_base).model, adapter).eval()
    ids = torch.arange(2, 40)[None]
    with torch.no_grad():
        merged = loading.load(adapter).model(ids).logits
        torch.testing.assert_close(merged, unmerged(ids).logits, rtol=1e-5, atol=1e-5)
        assert not torch.equal(merged, loading.load(tiny_base).model(ids).logits)
