"""Continuations of prompts by one model: what the KL is measured on.

Sampled at temperature 1 without top-k or top-p. Writes them to a cache if it is given one; a cached
file that was changed is refused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.storage import digest, intact, read_jsonl, write_jsonl
from retainbench.harness.divergence.records import Continuation
from retainbench.harness.models.identity import weights_digest
from retainbench.harness.models.loading import Loaded
from retainbench.harness.scoring.decoding import generate
from retainbench.harness.scoring.stops import stop_rule
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering
from retainbench.harness.tasks.rendering.prompts import STOP

SPARE = 1.1
"""More prompts than the mean length asks for, so that one more round is seldom needed."""


class Extent(NamedTuple):
    """How many prompts of a set are continued: the first ones, and more until there are tokens."""

    prompts: int = 0
    """The fewest; 0 means all of the set."""
    tokens: int = 0
    """Fewest tokens of all continuations, as far as the set's prompts reach."""


EVERY_PROMPT = Extent()


def continued(
    base: Loaded,
    prompts: Sequence[str],
    extent: Extent = EVERY_PROMPT,
    *,
    max_new_tokens: int,
    seed: int = 0,
    cache: Path | None = None,
    rendering: Rendering = PLAIN,
) -> list[Continuation]:
    """Continuations of the first prompts, of more of them until there are enough tokens.

    Each new number is sampled whole, so that equal prompts have one set of continuations in the
    cache, whichever number was tried before. Other arguments: `sample_continuations`.
    """
    available = len(prompts)
    number = min(extent.prompts or available, available)
    while True:
        found = sample_continuations(
            base,
            prompts[:number],
            max_new_tokens=max_new_tokens,
            seed=seed,
            cache=cache,
            rendering=rendering,
        )
        tokens = sum(len(one.ids) for one in found)
        if tokens >= extent.tokens or number == available:
            return found
        wanted = math.ceil(number * extent.tokens / max(tokens, 1) * SPARE)
        number = min(max(wanted, number + 1), available)


def sample_continuations(
    loaded: Loaded,
    prompts: Sequence[str],
    *,
    max_new_tokens: int,
    seed: int = 0,
    cache: Path | None = None,
    rendering: Rendering = PLAIN,
) -> list[Continuation]:
    """What a model writes after each prompt at temperature 1, up to its end.

    It ends at the end of text or, where prompts are sent as they are, at a newline; a chat's answer
    may have many lines and ends with its turn.

    Args:
        loaded: the sampler with its tokenizer.
        prompts: at least one text.
        max_new_tokens: longest continuation.
        seed: equal seeds give equal continuations, whatever the batch.
        cache: continuations are read from and written to `<stem>-<key>.jsonl` next to this path;
            the key covers the weights, the prompts' tokens, the length and the seed.

    Raises:
        IntegrityError: the cached file was changed.
    """
    ids = rendering.encode(loaded.tokenizer, prompts)
    decides: list[Any] = [
        weights_digest(loaded.model.named_parameters()),
        ids,
        max_new_tokens,
        seed,
    ]
    ends = rendering.ends(loaded.tokenizer)
    strings = [STOP] if rendering.chat is None else []
    key = digest(decides if rendering.chat is None else [*decides, ends, strings])
    file = cache.with_name(f"{cache.stem}-{key[:16]}.jsonl") if cache else None
    if file and intact(file):
        return _read_cached(file, key, len(prompts))
    stops = stop_rule(
        ends,
        loaded.model.config.get_text_config().vocab_size,
        strings,
        loaded.tokenizer,
    )
    written = generate(
        loaded.model,
        ids,
        max_new_tokens=max_new_tokens,
        stops=stops,
        temperature=1.0,
        generator=torch.Generator().manual_seed(seed),
    )
    drawn = zip(prompts, ids, written.tokens, written.stopped, strict=True)
    found = [
        Continuation(
            prompt=text,
            prompt_ids=before,
            ids=after,
            ended=ended,
            digest=digest([key, number, before, after, ended]),
        )
        for number, (text, before, after, ended) in enumerate(drawn)
    ]
    if file:
        write_jsonl(file, found, checked=True)
    return found


def _read_cached(file: Path, key: str, expected: int) -> list[Continuation]:
    found = read_jsonl(file, Continuation)
    if len(found) != expected:
        raise IntegrityError(f"{file}: {len(found)} continuations, expected {expected}; delete it")
    for number, row in enumerate(found):
        if row.digest != digest([key, number, row.prompt_ids, row.ids, row.ended]):
            raise IntegrityError(
                f"{file}:{number + 1}: was changed after sampling; delete the file"
            )
    return found
