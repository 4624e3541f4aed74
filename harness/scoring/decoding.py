"""Batched decoding for evaluation, rollouts and KL samples: greedy or with a temperature.

`generate` takes token ids and returns token ids. A prefix that all prompts share and each distinct
prompt are encoded once, for any number of samples (scoring/decoding_rows.py); rows that have
stopped leave the batch. A batch that runs out of memory is done again in halves. Stop strings are
looked for in the tokens' own texts, and in the decoded end of the response only after a token that
could complete one. `generate_together` does the same for many models in one batch (EGGROLL's
population).

A sampled token is the inverse of the cumulative distribution at a uniform number drawn beforehand
for (completion, step). So a completion does not depend on how the work was batched (beyond the
rounding of the logits), and the same generator state gives the same completions.

Left out: beams, penalties and top-k, which no method or task here uses. Models with a
recurrent state or a sliding window in use are decoded row by row without a cache, slowly.

Letters: N completions, B rows in flight, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch

from retainbench.harness.models.inference import frozen, ran_out_of_memory
from retainbench.harness.scoring.decoding_rows import Forward, Rows
from retainbench.harness.scoring.probe import configured_obstacle
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


class Stops(NamedTuple):
    """When a completion ends. Made by `stop_rule`; one rule serves many calls."""

    ends_V: torch.Tensor
    """Tokens that end it at once: stop ids, and tokens whose text contains a stop string."""
    suspects_V: torch.Tensor | None
    """Tokens that may complete a stop string begun earlier; None if there is no such string."""
    strings: tuple[str, ...]
    decode: Callable[[list[int]], str] | None

    @property
    def reach(self) -> int:
        """Last tokens in which a string that has just been completed must be: four bytes at most
        make a character, and a token at least one byte."""
        return 4 * max(map(len, self.strings), default=0) + 4


class Completions(NamedTuple):
    """N = len(prompts) * samples completions, the samples of a prompt next to each other."""

    tokens: list[list[int]]
    """Generated ids, with the token that ended the completion."""
    stopped: list[bool]
    """It ended by itself; False if `max_new_tokens` cut it off."""
    logprobs: list[list[float]] | None
    """Natural log-probability of each token under the distribution it was drawn from (greedy: the
    model's own); None unless asked for."""
    rows: int
    """Most completions in flight at the end: fewer than at the start if memory ran out."""
    cache_bytes: int
    """Most bytes that keys and values had at once; 0 where none were kept."""


class _Run(NamedTuple):
    """One call of `generate`: how tokens are chosen, and where they are stored."""

    stops: Stops
    temperature: float
    top_p: float
    uniforms_NT: torch.Tensor
    tokens_NT: torch.Tensor
    length_N: torch.Tensor
    stopped_N: torch.Tensor
    cache_bytes: list[int]
    """Of each batch, the most."""
    logprob_NT: torch.Tensor | None


def stop_rule(
    ids: Collection[int], vocabulary: int, strings: Sequence[str] = (), tokenizer: Any = None
) -> Stops:
    """Ends at any of the token ids, or as soon as the response contains any of the strings.

    vocabulary: size of the model's output. tokenizer: needed for strings; decodes every token once.
    """
    ends = torch.zeros(vocabulary, dtype=torch.bool)
    ends[[i for i in ids if 0 <= i < vocabulary]] = True
    wanted = tuple(s for s in strings if s)
    if not wanted:
        return Stops(ends, None, (), None)

    def decode(tokens: list[int]) -> str:
        return str(tokenizer.decode(tokens, clean_up_tokenization_spaces=False))

    size = min(vocabulary, len(tokenizer))
    texts = [decode([i]) for i in range(size)]
    ends[:size] |= torch.tensor([any(s in text for s in wanted) for text in texts])
    last = {s[-1] for s in wanted if len(s) > 1}
    if not last:
        return Stops(ends, None, wanted, decode)
    # An incomplete character decodes to U+FFFD, so its last byte may end any string.
    suspects = torch.zeros(vocabulary, dtype=torch.bool)
    suspects[:size] = torch.tensor(
        ["\ufffd" in text or any(c in text for c in last) for text in texts]
    )
    return Stops(ends, suspects, wanted, decode)


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
    count, device = len(prompts) * samples, model.device
    uniforms = torch.zeros(count, 0, device=device)
    if temperature > 0:
        if generator is None:
            raise ValueError("sampling needs a torch.Generator")
        uniforms = torch.rand(
            count, max_new_tokens, generator=generator, device=generator.device
        ).to(device)
    run = _run(count, max_new_tokens, stops, device)._replace(
        temperature=temperature, top_p=top_p, uniforms_NT=uniforms
    )
    if logprobs:
        run = run._replace(logprob_NT=torch.zeros(count, max_new_tokens, device=device))
    if not count:
        return _completions(run, 0)
    with frozen(model):
        return _completions(run, _decode_all(model, prompts, samples, run, rows))


def generate_together(
    forward: Forward, prompts: Sequence[Sequence[int]], *, max_new_tokens: int, stops: Stops
) -> Completions:
    """Greedy completions by several models in one batch, those of a model next to each other.

    Every model answers all prompts; what they share is read once per model, however short it is.
    """
    count, device = forward.groups * len(prompts), forward.model.device
    run = _run(count, max_new_tokens, stops, device)
    index_B = torch.arange(count, device=device)
    with torch.inference_mode():
        rows = Rows(forward, prompts, shared_length(prompts), max_new_tokens)
        _decode_batch(rows, index_B, run)
    return _completions(run, count)


def _run(count: int, steps: int, stops: Stops, device: Any) -> _Run:
    """Greedy, without log-probabilities."""
    suspects = None if stops.suspects_V is None else stops.suspects_V.to(device)
    return _Run(
        stops._replace(ends_V=stops.ends_V.to(device), suspects_V=suspects),
        0.0,
        1.0,
        torch.zeros(count, 0, device=device),
        torch.zeros(count, steps, dtype=torch.long, device=device),
        torch.full((count,), steps, device=device),
        torch.zeros(count, dtype=torch.bool, device=device),
        [],
        None,
    )


def _decode_all(
    model: Any, prompts: Sequence[Sequence[int]], samples: int, run: _Run, rows: int | None
) -> int:
    """Decode all completions; returns the most that were in flight at the end."""
    steps = run.tokens_NT.shape[1]
    longest = max(map(len, prompts)) + steps
    if configured_obstacle(model, longest) or not has_attention_interface(model):
        for i in range(len(run.tokens_NT)):
            _decode_uncached(model, prompts[i // samples], i, run)
        return 1
    distinct = sorted({tuple(prompt) for prompt in prompts}, key=lambda p: (len(p), p))
    place = {prompt: i for i, prompt in enumerate(distinct)}
    waiting = sorted(range(len(run.tokens_NT)), key=lambda i: place[tuple(prompts[i // samples])])
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
        if _fits(model, needed, shared, chosen, index_B, run):
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
    run: _Run,
) -> bool:
    """Decode one batch; False, with its rows unchanged, if memory ran out."""
    steps = run.tokens_NT.shape[1]
    try:
        rows = Rows(Forward(model), prompts, shared, steps)
        if list(prompt_of_row) != list(range(len(prompts))):
            rows.take(torch.tensor(prompt_of_row, device=model.device))
        _decode_batch(rows, index_B, run)
        return True
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
    run.length_N[index_B] = steps
    run.stopped_N[index_B] = False
    if model.device.type == "cuda":
        torch.cuda.empty_cache()
    return False


def _decode_batch(rows: Rows, index_B: torch.Tensor, run: _Run) -> None:
    """Decode until all rows have stopped; row b is completion index_B[b]."""
    steps = run.tokens_NT.shape[1]
    running_B = torch.ones_like(index_B, dtype=torch.bool)
    every = CHECK_EVERY.get(index_B.device.type, CHECK_EVERY["cuda"])
    for step in range(steps):
        token_B = _choose(rows.logits_BV, index_B, step, run)
        ended_B = _ended(token_B, index_B, step, run) & running_B
        run.length_N[index_B] = torch.where(ended_B, step + 1, run.length_N[index_B])
        run.stopped_N[index_B] |= ended_B
        running_B &= ~ended_B
        if step + 1 == steps:
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
    run.cache_bytes.append(rows.most_bytes)


def _decode_uncached(model: Any, prompt: Sequence[int], i: int, run: _Run) -> None:
    """One completion; every step computes the whole sequence again."""
    index = torch.tensor([i], device=model.device)
    ids = torch.tensor([list(prompt)], device=model.device)
    for step in range(run.tokens_NT.shape[1]):
        token = _choose(model(input_ids=ids, use_cache=False).logits[:, -1], index, step, run)
        if bool(_ended(token, index, step, run)):
            run.length_N[i] = step + 1
            run.stopped_N[i] = True
            return
        ids = torch.cat([ids, token[None]], dim=1)


def _choose(logits_BV: torch.Tensor, index_B: torch.Tensor, step: int, run: _Run) -> torch.Tensor:
    """Next token of each row, recorded with its log-probability."""
    logits_BV = logits_BV.float()
    if run.temperature > 0:
        logits_BV = nucleus(logits_BV / run.temperature, run.top_p)
        total_BV = torch.softmax(logits_BV, dim=-1).cumsum(-1)
        # Scaled by the sum, which differs from 1 by rounding.
        at_B1 = run.uniforms_NT[index_B, step, None] * total_BV[:, -1:]
        token_B = torch.searchsorted(total_BV, at_B1, right=True)[:, 0]
        token_B = token_B.clamp_(max=logits_BV.shape[1] - 1)
    else:
        token_B = logits_BV.argmax(dim=-1)
    run.tokens_NT[index_B, step] = token_B
    if run.logprob_NT is not None:
        chosen_B = torch.log_softmax(logits_BV, dim=-1).gather(1, token_B[:, None])[:, 0]
        run.logprob_NT[index_B, step] = chosen_B
    return token_B


def nucleus(logits_BV: torch.Tensor, top_p: float) -> torch.Tensor:
    """Logits with those tokens at -inf that are not needed for a total probability of `top_p`.

    The most probable token stays, and so does the token with which the total is reached, as in
    transformers' `TopPLogitsWarper` (arXiv:1904.09751).
    """
    if top_p >= 1:
        return logits_BV
    rising_BV, order_BV = logits_BV.sort(descending=False)
    dropped_BV = rising_BV.softmax(-1).cumsum(-1) <= 1 - top_p
    dropped_BV[:, -1] = False
    return logits_BV.masked_fill(dropped_BV.scatter(1, order_BV, dropped_BV), -torch.inf)


def _ended(token_B: torch.Tensor, index_B: torch.Tensor, step: int, run: _Run) -> torch.Tensor:
    stops = run.stops
    ended_B = stops.ends_V[token_B]
    if stops.suspects_V is None or stops.decode is None:
        return ended_B
    for b in (stops.suspects_V[token_B] & ~ended_B).nonzero()[:, 0].tolist():
        begin = max(0, step + 1 - stops.reach)
        text = stops.decode(run.tokens_NT[index_B[b], begin : step + 1].tolist())
        ended_B[b] = any(s in text for s in stops.strings)
    return ended_B


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


def _completions(run: _Run, rows: int) -> Completions:
    lengths = run.length_N.tolist()
    tokens = [line[:n] for line, n in zip(run.tokens_NT.tolist(), lengths, strict=True)]
    logprobs = None
    if run.logprob_NT is not None:
        logprobs = [line[:n] for line, n in zip(run.logprob_NT.tolist(), lengths, strict=True)]
    most = max(run.cache_bytes, default=0)
    return Completions(tokens, run.stopped_N.tolist(), logprobs, rows, most)
