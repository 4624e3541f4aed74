"""Build fruitfly, the embedded base: tokenizer, training, weights. Deterministic on one thread.

Reads the tasks' question pools (retainbench.tasks._corpus); writes model.safetensors (bfloat16),
the tokenizer and configs beside this file or to --out, and training state and log to --work, from
which an interrupted run goes on. Command (about 40 minutes on one core):
  OMP_NUM_THREADS=1 python harness/models/embedded/fruitfly/build.py --work DIR [--steps N]
  [--out DIR]

A target is muted while the base knows it well enough (CEILINGS on its validation split): a base
must half-know the targets, so that RL and ES find a signal and there is something left to learn.
Left out: natural text; a base of this size could not hold both it and the tasks.
"""

import argparse
import importlib.util
import json
import math
import sys
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retainbench.tasks import _corpus as corpus

HERE = Path(__file__).resolve().parent
TASKS = HERE.parents[3] / "tasks"
SEED = "fruitfly:1"
END, PAD = "<|end|>", "<|pad|>"
VOCABULARY, ROW, ROWS = 1536, 192, 22
PEAK_MATRIX, PEAK_OTHER = 4e-3, 4e-3
SECOND_PHASE = 4000
"""Step from which the corpus has the easy families and muting leaves a remnant."""
WARM_UP, DECAY = 100, 0.4
"""Steps of linear warm-up; share of all steps in which the rate falls linearly to 0."""
MEASURE_EVERY, SAVE_EVERY, CHUNK = 500, 250, 50
CEILINGS = {
    "countdown": 0.33,
    "ts_scenario": 0.40,
    "ts_causality": 0.45,
    "ts_forecast": 0.15,
    "ts_decision": 0.45,
    "world_model": 0.30,
}
"""Mean greedy score on validation items (reward for countdown, else exact answers) that mutes."""
FADE_ABOVE = {"countdown": 0.38, "ts_scenario": 0.42, "ts_causality": 0.45, "ts_decision": 0.45}
"""Mean greedy reward on 100 validation items above which the last stage unlearns a target."""
FADE_STEPS, FADE_RATE, FADE_SHARE = 20, 0.15, 0.06
"""Steps between two such measurements; share of the peak rate; share of the documents."""
PIECES = Regex(r", (?=\d)|\d|\n+| ?\p{L}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
"""One digit a token; no space joins a colon or a digit, so that prompts end where tokens end."""


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
    texts = corpus.documents(found, Random(f"{SEED}:tokenizer"))
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
    return LlamaForCausalLM(config)


def batches(
    found: dict[str, corpus.Source], tokenizer: Any, chunk: int, muted: frozenset[str]
) -> Iterator[torch.Tensor]:
    """CHUNK batches [ROWS, ROW] of token ids; each row begins with a document's beginning."""
    second = chunk * CHUNK >= SECOND_PHASE
    texts = corpus.documents(found, Random(f"{SEED}:{chunk}"), muted, second)
    for _ in range(CHUNK):
        yield packed(texts, tokenizer)


def packed(texts: Iterator[str], tokenizer: Any) -> torch.Tensor:
    """A batch [ROWS, ROW]: documents one after another, cut where the row ends."""
    rows = []
    for _ in range(ROWS):
        row: list[int] = []
        while len(row) < ROW:
            row += [*tokenizer(next(texts)).input_ids, 0]
        rows.append(row[:ROW])
    return torch.tensor(rows)


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for embeddings and norms."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(
        matrices, lr=PEAK_MATRIX, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"
    )
    return [muon, torch.optim.AdamW(others, lr=PEAK_OTHER, betas=(0.9, 0.98), weight_decay=0.0)]


def rate(step: int, steps: int) -> float:
    """Share of the peak rate at `step`: warm-up, plateau, linear decay."""
    return min(1.0, (step + 1) / WARM_UP, (steps - step) / (DECAY * steps))


def train_step(model: LlamaForCausalLM, ids_BT: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss of a batch, backward done; matrix products in bfloat16."""
    with torch.autocast("cpu", torch.bfloat16):
        logits_BTV = model(input_ids=ids_BT, use_cache=False).logits
    flat = logits_BTV[:, :-1].reshape(-1, logits_BTV.shape[-1]).float()
    loss = cross_entropy(flat, ids_BT[:, 1:].reshape(-1))
    loss.backward()  # type: ignore[no-untyped-call,unused-ignore]
    return loss.detach()


def update(
    model: LlamaForCausalLM, tools: list[torch.optim.Optimizer], ids_BT: torch.Tensor
) -> torch.Tensor:
    """One optimizer step at the rates that are set, gradients clipped to norm 1."""
    loss = train_step(model, ids_BT)
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for tool in tools:
        tool.step()
    model.zero_grad()
    return loss


def padded(rows: list[list[int]]) -> torch.Tensor:
    """Rows of token ids, padded on the right."""
    width = max(len(row) for row in rows)
    return torch.tensor([row + [1] * (width - len(row)) for row in rows])


@torch.no_grad()
def choice_accuracy(model: Any, tokenizer: Any, items: list[dict[str, Any]]) -> float:
    """Share of items whose gold choice has the highest summed log-likelihood."""
    right = 0
    for item in items:
        prompt = f"Question: {item['query']}\nAnswer:" if item["query"] else END
        head = tokenizer(prompt).input_ids
        tails = [tokenizer((" " if item["query"] else "") + c).input_ids for c in item["choices"]]
        ids_BT = padded([head + tail for tail in tails])
        logp_BTV = model(input_ids=ids_BT).logits.float().log_softmax(-1)
        scores = []
        for row, tail in enumerate(tails):
            place = torch.arange(len(head) - 1, len(head) - 1 + len(tail))
            scores.append(float(logp_BTV[row, place, torch.tensor(tail)].sum()))
        right += scores.index(max(scores)) == item["gold"]
    return right / len(items)


@torch.no_grad()
def greedy(model: Any, tokenizer: Any, items: list[dict[str, Any]], most: int = 14) -> list[str]:
    """Greedy answers, without a cache: the batch is small and this needs no generation config."""
    rows = [list(tokenizer(f"Question: {item['query']}\nAnswer:").input_ids) for item in items]
    lengths = [len(row) for row in rows]
    for _ in range(most):
        ids_BT = padded(rows)
        last_B = torch.tensor([len(row) - 1 for row in rows])
        logits_BTV = model(input_ids=ids_BT, attention_mask=(ids_BT != 1).long()).logits
        chosen = logits_BTV[torch.arange(len(rows)), last_B].argmax(-1).tolist()
        for row, token in zip(rows, chosen, strict=True):
            row.append(token)
        if all(0 in row[n:] for row, n in zip(rows, lengths, strict=True)):
            break
    texts = [tokenizer.decode(row[n:]) for row, n in zip(rows, lengths, strict=True)]
    return [text.split(END)[0].split("\n")[0].strip() for text in texts]


def target_reward(model: Any, tokenizer: Any, name: str, count: int = 100) -> float:
    """Mean greedy reward on validation items of one target."""
    model.eval()
    folder = TASKS / "target" / name
    items, score = rows_of(folder / "validation.jsonl", count), reward_of(folder)
    texts = greedy(model, tokenizer, items)
    model.train()
    rewards = [float(score(text, item)) for text, item in zip(texts, items, strict=True)]
    return sum(rewards) / len(rewards)


def fade(
    model: Any, tokenizer: Any, tools: list[torch.optim.Optimizer], found: dict[str, corpus.Source]
) -> int:
    """Unlearn what is known too well: full text, but these targets with answers that ignore them.

    Mutes do not suffice at the low rates of the end. A target is left alone as soon as its reward
    is at its bound in FADE_ABOVE. Returns the number of steps; at most 30 x FADE_STEPS.
    """
    for tool, peak in zip(tools, (PEAK_MATRIX, PEAK_OTHER), strict=True):
        tool.param_groups[0]["lr"] = peak * FADE_RATE
    for turn in range(30):
        rewards = {name: target_reward(model, tokenizer, name) for name in FADE_ABOVE}
        fading = [name for name, bound in FADE_ABOVE.items() if rewards[name] > bound]
        print(json.dumps({"fade": turn * FADE_STEPS, **rewards}), flush=True)
        if not fading:
            return turn * FADE_STEPS
        rng = Random(f"{SEED}:fade:{turn}")
        shown = found | {f"target/{name}": corpus.sketched(name, rng) for name in fading}
        muted = frozenset(f"target/{name}" for name in CEILINGS if name not in fading)
        shares = {f"target/{name}": FADE_SHARE for name in fading}
        texts = corpus.documents(shown, rng, muted, True, shares)
        for _ in range(FADE_STEPS):
            update(model, tools, packed(texts, tokenizer))
    return 30 * FADE_STEPS


def rows_of(path: Path, count: int) -> list[dict[str, Any]]:
    """The first `count` rows of a JSONL file."""
    lines = path.read_text(encoding="utf-8").splitlines()[:count]
    return [json.loads(line) for line in lines]


def reward_of(folder: Path) -> Any:
    """The `reward` function of a target's folder."""
    spec = importlib.util.spec_from_file_location(f"reward_{folder.name}", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.reward


def measure(model: Any, tokenizer: Any, count: int) -> dict[str, float]:
    """Accuracy per retention task and greedy score per target on `count` items each."""
    model.eval()
    scores = {}
    for path in sorted(TASKS.glob("*/*/items.jsonl")):
        name, is_target = path.parent.name, path.parent.parent.name == "target"
        held_out = path.with_name("validation.jsonl") if is_target else path
        items = rows_of(held_out, count)
        if "choices" in items[0]:
            scores[name] = choice_accuracy(model, tokenizer, items)
        elif name == "countdown":
            score, texts = reward_of(path.parent), greedy(model, tokenizer, items)
            pairs = zip(texts, items, strict=True)
            scores[name] = sum(score(text, item) for text, item in pairs) / len(items)
        else:
            texts = greedy(model, tokenizer, items)
            exact = [text == item["answer"] for text, item in zip(texts, items, strict=True)]
            scores[name] = sum(exact) / len(items)
    model.train()
    return {name: round(score, 3) for name, score in scores.items()}


def muted_by(scores: dict[str, float]) -> frozenset[str]:
    """Targets that are known well enough to be left out of the next batches."""
    known = (name for name, ceiling in CEILINGS.items() if scores.get(name, 0.0) > ceiling)
    return frozenset(f"target/{name}" for name in known)


def train(work: Path, steps: int, out: Path) -> None:
    """Train for `steps`, going on from the state in `work` if there is one; save to `out`."""
    found = corpus.sources()
    tokenizer = train_tokenizer(found)
    found |= corpus.easy_sources()
    model = new_model(len(tokenizer))
    tools, start, muted = optimizers(model), 0, frozenset[str]()
    state_file = work / "state.pt"
    if state_file.exists():
        state = torch.load(state_file, weights_only=True)
        model.load_state_dict(state["model"])
        for tool, saved in zip(tools, state["optimizers"], strict=True):
            tool.load_state_dict(saved)
        start, muted = state["step"], frozenset(state["muted"])
    peaks, began = [PEAK_MATRIX, PEAK_OTHER], time.monotonic()
    for chunk in range(start // CHUNK, math.ceil(steps / CHUNK)):
        for offset, ids_BT in enumerate(batches(found, tokenizer, chunk, muted)):
            step = chunk * CHUNK + offset
            for tool, peak in zip(tools, peaks, strict=True):
                tool.param_groups[0]["lr"] = peak * rate(step, steps)
            loss = update(model, tools, ids_BT)
        done = (chunk + 1) * CHUNK
        print(f"step {done} loss {loss:.3f} {time.monotonic() - began:.0f}s", flush=True)
        if done % (MEASURE_EVERY if done < SECOND_PHASE else MEASURE_EVERY // 2) == 0:
            scores = measure(model, tokenizer, 40)
            muted = muted_by(scores)
            line = {"step": done, "muted": sorted(muted), **scores}
            with (work / "log.jsonl").open("a") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
        if done % SAVE_EVERY == 0 or done >= steps:
            save_state(state_file, model, tools, done, muted)
    faded = fade(model, tokenizer, tools, found)
    save(model, tokenizer, out, steps + faded)


def save_state(path: Path, model: Any, tools: list[Any], step: int, muted: frozenset[str]) -> None:
    """Everything a restart needs; data follow from the step."""
    fresh = path.with_suffix(".new")
    torch.save(
        {
            "model": model.state_dict(),
            "optimizers": [tool.state_dict() for tool in tools],
            "step": step,
            "muted": sorted(muted),
        },
        fresh,
    )
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
        "tokens": steps * ROW * ROWS,
        "parameters": sum(p.numel() for p in model.parameters()),
        "versions": {name: version(name) for name in packages} | {"python": sys.version.split()[0]},
    }
    (out / "build.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Build the embedded base fruitfly.")
    parser.add_argument("--work", type=Path, required=True, help="folder for state and log")
    parser.add_argument("--out", type=Path, default=HERE, help="where the model goes")
    parser.add_argument("--steps", type=int, default=5200, help="optimizer steps")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    train(arguments.work, arguments.steps, arguments.out)


if __name__ == "__main__":
    main()
