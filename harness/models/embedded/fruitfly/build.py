"""Build fruitfly, the embedded base: tokenizer, training, weights. Deterministic on one thread.

Reads the tasks' question pools (retainbench.tasks._corpus); writes model.safetensors (bfloat16),
the tokenizer and configs next to this file or to --out, and training state to --work, from which an
interrupted run goes on. Command (about ten minutes of a core):
  OMP_NUM_THREADS=1 python harness/models/embedded/fruitfly/build.py --work DIR [--steps N]
  [--out DIR]

The targets' primer is mixed in from step LATE_FROM on, in the small shares of _corpus.LATE: a
base must half-know the targets, so that RL and ES find a signal and there is something left to
learn. The shares are constants, and nothing is unlearned, so a gain on a target is a new skill.
Left out: natural text; a base of this size could not hold both it and the tasks.
"""

import argparse
import json
import math
import re
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retainbench.tasks import _corpus as corpus

HERE = Path(__file__).resolve().parent
SEED = "fruitfly:2"
END, PAD = "<|end|>", "<|pad|>"
VOCABULARY = 1536
ROWS, LATE_ROWS = (12, 192), (6, 384)
"""Rows of a batch and their length; late rows are long, so that few repeated questions are cut."""
PEAK_MATRIX, PEAK_OTHER = 3e-3, 3e-3
STEPS, LATE_FROM = 3000, 2200
"""Steps in all; the step from which the late shares hold and the rate falls linearly to 0."""
WARM_UP = 100
"""Steps of linear warm-up."""
SAVE_EVERY, CHUNK = 100, 50
ANSWER = re.compile(r"(?<=\nAnswer:)( [^\n]*\n*)")
QUESTION_WEIGHT = 0.1
"""Weight of a question's tokens in the loss; most of them are drawn at random and teach nothing."""
PIECES = Regex(r", (?=\d)|\d|\n+| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
"""One digit a token; no space joins a colon or a digit, so that prompts end where tokens end."""


class TokenBatch(NamedTuple):
    """Token ids and their weights in the loss, both [rows, length]."""

    ids_BT: torch.Tensor
    weight_BT: torch.Tensor


def train_tokenizer(found: dict[str, corpus.Source]) -> PreTrainedTokenizerFast:
    """Byte-level BPE over 40,000 documents."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(PIECES, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[END, PAD],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = corpus.documents(found, Random(f"{SEED}:tokenizer"), corpus.TOKENIZER)
    tokenizer.train_from_iterator((next(texts) for _ in range(40_000)), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def new_model(vocabulary: int) -> LlamaForCausalLM:
    """Four layers of width 128, tied embeddings, about a million parameters."""
    torch.manual_seed(int.from_bytes(SEED.encode()[-4:]))
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    model = LlamaForCausalLM(config)
    model.set_attn_implementation("eager")  # a fifth faster than the default on rows so short
    return model


def batches(found: dict[str, corpus.Source], tokenizer: Any, chunk: int) -> Iterator[TokenBatch]:
    """CHUNK batches; each row begins with a document's beginning."""
    late = chunk * CHUNK >= LATE_FROM
    changes = corpus.LATE if late else None
    texts = corpus.documents(found, Random(f"{SEED}:{chunk}"), changes, twice=late)
    for _ in range(CHUNK):
        yield packed(texts, tokenizer, *(LATE_ROWS if late else ROWS))


def packed(texts: Iterator[str], tokenizer: Any, count: int, length: int) -> TokenBatch:
    """A batch of `count` rows: documents one after another, cut where the row ends."""
    rows, weights = [], []
    for _ in range(count):
        row: list[int] = []
        weight: list[float] = []
        while len(row) < length:
            text = next(texts)
            parts = ANSWER.split(text)
            for place, ids in enumerate(tokenizer(parts).input_ids):
                row += ids
                asked = len(parts) > 1 and place % 2 == 0
                weight += [QUESTION_WEIGHT if asked else 1.0] * len(ids)
            row.append(0)
            weight.append(1.0)
        rows.append(row[:length])
        weights.append(weight[:length])
    return TokenBatch(torch.tensor(rows), torch.tensor(weights))


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(
        matrices, lr=PEAK_MATRIX, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(others, lr=PEAK_OTHER, betas=(0.9, 0.98), weight_decay=0.0)]


def rate(step: int) -> float:
    """Share of the peak rate at `step`: warm-up, plateau, linear decay."""
    return min(1.0, (step + 1) / WARM_UP, (STEPS - step) / (STEPS - LATE_FROM))


def update(
    model: LlamaForCausalLM, tools: list[torch.optim.Optimizer], batch: TokenBatch
) -> torch.Tensor:
    """One optimizer step at the rates that are set, gradients clipped to norm 1.

    Returns the weighted mean next-token loss; matrix products are in bfloat16.
    """
    with torch.autocast("cpu", torch.bfloat16):
        logits_BTV = model(input_ids=batch.ids_BT, use_cache=False).logits
    flat = logits_BTV[:, :-1].reshape(-1, logits_BTV.shape[-1]).float()
    each = cross_entropy(flat, batch.ids_BT[:, 1:].reshape(-1), reduction="none")
    weight = batch.weight_BT[:, 1:].reshape(-1)
    loss = (each * weight).sum() / weight.sum()
    loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for tool in tools:
        tool.step()
    model.zero_grad()
    return loss.detach()


def train(work: Path, steps: int, out: Path) -> None:
    """Train for `steps` of STEPS, from the state in `work` if there is one; save to `out`."""
    found = corpus.sources()
    tokenizer = train_tokenizer(found)
    model = new_model(len(tokenizer))
    tools, start = optimizers(model), 0
    state_file = work / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for tool, saved in zip(tools, state["optimizers"], strict=True):
            tool.load_state_dict(saved)
        start = state["step"]
    peaks, began = [PEAK_MATRIX, PEAK_OTHER], time.monotonic()
    for chunk in range(start // CHUNK, math.ceil(steps / CHUNK)):
        for offset, batch in enumerate(batches(found, tokenizer, chunk)):
            for tool, peak in zip(tools, peaks, strict=True):
                tool.param_groups[0]["lr"] = peak * rate(chunk * CHUNK + offset)
            loss = update(model, tools, batch)
        done = (chunk + 1) * CHUNK
        print(f"step {done} loss {loss:.3f} {time.monotonic() - began:.0f}s", flush=True)
        if done % SAVE_EVERY == 0:
            save_state(state_file, model, tools, done)
    save(model, tokenizer, out, steps)


def save_state(path: Path, model: Any, tools: list[Any], step: int) -> None:
    """Everything a restart needs; data follow from the step."""
    fresh = path.with_suffix(".new")
    saved = [tool.state_dict() for tool in tools]
    torch.save({"model": model.state_dict(), "optimizers": saved, "step": step}, fresh)
    fresh.replace(path)


def save(model: LlamaForCausalLM, tokenizer: Any, out: Path, steps: int) -> None:
    """Weights in bfloat16, tokenizer, configs and what they were built with."""
    out.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)
    packages = ("torch", "transformers", "tokenizers")
    record = {
        "steps": steps,
        "tokens": steps * math.prod(ROWS),
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {name: version(name) for name in packages} | {"python": sys.version.split()[0]},
    }
    (out / "build.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the embedded base fruitfly.")
    parser.add_argument("--work", type=Path, required=True, help="folder for the state")
    parser.add_argument("--out", type=Path, default=HERE, help="where the model goes")
    parser.add_argument("--steps", type=int, default=STEPS, help="stop after so many steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    train(arguments.work, arguments.steps, arguments.out)


if __name__ == "__main__":
    main()
