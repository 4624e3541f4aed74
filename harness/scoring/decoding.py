"""Batched decoding for evaluation, rollouts and KL samples: greedy or with a temperature.

`generate` takes token ids and returns token ids. A prefix that all prompts share and each distinct
prompt are encoded once, for any number of samples (scoring/decoding_rows.py); rows that have
stopped (scoring/stops.py) leave the batch. A batch that runs out of memory is done again in halves.
`generate_together` does the same for many models in one batch (EGGROLL's population). How a token
is chosen does not depend on the batch: scoring/completions.py.

Left out: beams, penalties and top-k, which no method or task here uses. Models with a
recurrent state or a sliding window in use are decoded row by row without a cache, slowly.

Letters: B rows in flight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from retainbench.harness.models.inference import frozen, ran_out_of_memory
from retainbench.harness.scoring.completions import Completions, Decoded
from retainbench.harness.scoring.decoding_rows import Forward, Rows
from retainbench.harness.scoring.probe import configured_obstacle
from retainbench.harness.scoring.stops import Stops
from retainbench.harness.scoring.transformers_patches import has_attention_interface

SHARED = 8
"""Shortest prefix common to all prompts that is worth a forward pass of its own."""
CACHE_BYTES = {"cpu": 2**30, "cuda": 2**33}
"""Most bytes of keys and values in one batch."""
MOST_ROWS = {"cpu": 512, "cuda": 4096}
CHECK_EVERY = {"cpu": 1, "cuda": 8}
"""Steps between looks at which rows have stopped; each look makes the host wait for the device."""
KEEP = 0.75
"""Stopped rows leave once at most this share of the batch is still running."""


def generate(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    stops: Stops,
    samples: int = 1,
    temperature: float = 0.0,
    top_p: float = 1.0,
    generator: torch.Generator | None = None,
    logprobs: bool = False,
    rows: int | None = None,
) -> Completions:
    """Continue each prompt `samples` times by at most `max_new_tokens` tokens.

    temperature: 0 is greedy; otherwise `generator` is required.
    top_p: draws from the most probable tokens that together have this probability; 1 is all.
    rows: most completions in flight; None takes what CACHE_BYTES of keys and values allow.

    Raises:
        ValueError: an empty prompt, no token to generate, or sampling without a generator.
        MemoryError: a single completion does not fit.
    """
    if any(len(prompt) == 0 for prompt in prompts) or max_new_tokens < 1:
        raise ValueError("every prompt needs a token, and max_new_tokens must be at least 1")
    count, device, uniforms = len(prompts) * samples, model.device, None
    if temperature > 0:
        if generator is None:
            raise ValueError("sampling needs a torch.Generator")
        uniforms = torch.rand(
            count, max_new_tokens, generator=generator, device=generator.device
        ).to(device)
    decoded = Decoded(
        count,
        max_new_tokens,
        stops,
        device,
        temperature=temperature,
        top_p=top_p,
        uniforms_NT=uniforms,
        logprobs=logprobs,
    )
    if not count:
        return decoded.result(0)
    with frozen(model):
        return decoded.result(_decode_all(model, prompts, samples, decoded, rows))


def generate_together(
    forward: Forward, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stops: Stops
) -> Completions:
    """Greedy completions by several models in one batch, those of a model next to each other.

    Every model answers all prompts; what they share is read once per model, however short it is.
    """
    count, device = forward.groups * len(prompts), forward.model.device
    decoded = Decoded(count, max_new_tokens, stops, device)
    index_B = torch.arange(count, device=device)
    with torch.inference_mode():
        rows = Rows(forward, prompts, shared_length(prompts), max_new_tokens)
        _decode_batch(rows, index_B, decoded)
    return decoded.result(count)


def _decode_all(
    model: Any, prompts: Sequence[Sequence[int]], samples: int, decoded: Decoded, rows: int | None
) -> int:
    """Decode all completions; returns the most that were in flight at the end."""
    longest = max(map(len, prompts)) + decoded.steps
    if configured_obstacle(model, longest) or not has_attention_interface(model):
        for i in range(len(decoded)):
            _decode_uncached(model, prompts[i // samples], i, decoded)
        return 1
    distinct = sorted({tuple(prompt) for prompt in prompts}, key=lambda p: (len(p), p))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    waiting = sorted(range(len(decoded)), key=lambda i: place[tuple(prompts[i // samples])])
    common = shared_length(distinct) if len(distinct) > 1 else 0
    shared = common if common >= SHARED else 0
    rows = min(len(waiting), rows or _most_rows(model, longest))
    while waiting:
        batch = waiting[:rows]
        # Neighbours in length, so little padding; several samples of a prompt share its encoding.
        prompt_of_row = [place[tuple(prompts[i // samples])] for i in batch]
        first = prompt_of_row[0]
        needed = distinct[first : prompt_of_row[-1] + 1]
        chosen = [prompt - first for prompt in prompt_of_row]
        index_B = torch.tensor(batch, device=model.device)
        if _fits(model, needed, shared, chosen, index_B, decoded):
            waiting = waiting[rows:]
        elif rows == 1:
            raise MemoryError(f"one completion of {longest} tokens does not fit in memory")
        else:
            rows = max(1, len(batch) // 2)
    return rows


def _fits(
    model: Any,
    prompts: Sequence[Sequence[int]],
    shared: int,
    prompt_of_row: Sequence[int],
    index_B: torch.Tensor,
    decoded: Decoded,
) -> bool:
    """Decode one batch; False, with its rows unchanged, if memory ran out."""
    try:
        rows = Rows(Forward(model), prompts, shared, decoded.steps)
        if list(prompt_of_row) != list(range(len(prompts))):
            rows.take(torch.tensor(prompt_of_row, device=model.device))
        _decode_batch(rows, index_B, decoded)
        return True
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
    decoded.restart(index_B)
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return False


def _decode_batch(rows: Rows, index_B: torch.Tensor, decoded: Decoded) -> None:
    """Decode until all rows have stopped; row b is completion index_B[b]."""
    running_B = torch.ones_like(index_B, dtype=torch.bool)
    every = CHECK_EVERY.get(index_B.device.type, CHECK_EVERY["cuda"])
    for step in range(decoded.steps):
        token_B = decoded.append(rows.logits_BV, index_B, running_B, step)
        if step + 1 == decoded.steps:
            break
        if (step + 1) % every == 0:
            left = int(running_B.sum())
            if left == 0:
                break
            if left <= KEEP * len(running_B):
                kept = running_B.nonzero()[:, 0]
                rows.take(kept)
                index_B, token_B, running_B = index_B[kept], token_B[kept], running_B[kept]
        rows.step(token_B, step)
    decoded.cache_bytes.append(rows.most_bytes)


def _decode_uncached(model: Any, prompt: Sequence[int], i: int, decoded: Decoded) -> None:
    """One completion; every step computes the whole sequence again."""
    index = torch.tensor([i], device=model.device)
    running = torch.ones_like(index, dtype=torch.bool)
    ids = torch.tensor([list(prompt)], device=model.device)
    for step in range(decoded.steps):
        logits = model(input_ids=ids, use_cache=False).logits[:, -1]
        token = decoded.append(logits, index, running, step)
        if not bool(running):
            return
        ids = torch.cat([ids, token[None]], dim=1)


def shared_length(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, at least one short of the shortest.

    >>> shared_length([[1, 2, 3], [1, 2, 4, 5]])
    2
    """
    low, high = (
        min(prompts, key=tuple),
        max(prompts, key=tuple),
    )  # all others are between them, so they share as much
    size = min(map(len, prompts)) - 1
    return next((i for i in range(size) if low[i] != high[i]), size)


def _most_rows(model: Any, length: int) -> int:
    config = model.config.get_text_config()
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    keys = getattr(config, "num_key_value_heads", None) or heads
    each = 2 * config.num_hidden_layers * keys * size * length * model.dtype.itemsize
    kind = "cpu" if model.device.type == "cpu" else "cuda"
    return max(1, min(MOST_ROWS[kind], CACHE_BYTES[kind] // each))
