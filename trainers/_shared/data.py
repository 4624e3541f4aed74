"""Data order and encoding, the same for every method.

The k-th training sample of a cell depends on (items, seed, k) alone: methods with equal seeds see
the same items in the same order, and a resumed run needs no sampler state. Tensor shapes: B rows,
T tokens, right-padded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering
from retainbench.harness.tasks.rendering.encoding import continued
from retainbench.harness.tasks.rendering.turns import assistant_tokens
from retainbench.trainers._shared.contract import Item, Target

if TYPE_CHECKING:
    import torch


class Example(NamedTuple):
    """A prompt and the completion to learn or to score, as token ids; the end token included."""

    prompt: list[int]
    completion: list[int]


class Batch(NamedTuple):
    """Right-padded rows."""

    input_ids_BT: torch.Tensor
    attention_mask_BT: torch.Tensor
    completion_mask_BT: torch.Tensor
    """1 on completion tokens, 0 on prompt and padding."""


def seed_for(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose; different purposes give unrelated streams."""
    hashed = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(hashed[:8], "big") >> 1


def generator(seed: int, purpose: str) -> torch.Generator:
    """A CPU generator derived from (seed, purpose); every random draw takes one."""
    import torch

    return torch.Generator().manual_seed(seed_for(seed, purpose))


@lru_cache(maxsize=8)
def _permutation(number: int, seed: int, epoch: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.random.default_rng(seed_for(seed, f"order/{epoch}")).permutation(number)


def item_at(items: Sequence[Item], seed: int, position: int) -> Item:
    """The item at a position of the endless stream: every epoch is a new permutation."""
    epoch, within = divmod(position, len(items))
    return items[int(_permutation(len(items), seed, epoch)[within])]


def batch_at(items: Sequence[Item], seed: int, step: int, size: int) -> list[Item]:
    """The items of one step."""
    return [item_at(items, seed, step * size + row) for row in range(size)]


def example(tokenizer: Any, prompt: str, completion: str, rendering: Rendering = PLAIN) -> Example:
    """Token ids of a prompt and of its completion with what ends it.

    They are encoded separately: generation continues exactly these prompt ids.
    """
    (prompt_ids,) = rendering.encode(tokenizer, [prompt])
    (completion_ids,) = continued(tokenizer, [completion])
    return Example(prompt_ids, completion_ids + rendering.ending(tokenizer))


def example_of(tokenizer: Any, target: Target, item: Item) -> Example:
    """An item with its reference answer."""
    (completion,) = target.completions([item])
    return example(tokenizer, target.prompt(item), completion, target.rendering)


class Trained(NamedTuple):
    """A training row."""

    ids: list[int]
    mask: list[int]
    """1 on the tokens to learn: the reference answer with its end; of a conversation, every turn of
    the assistant."""


def trained(tokenizer: Any, target: Target, item: Item) -> Trained:
    """An item as supervised methods learn it.

    Raises:
        UsageError: the chat template rewrites earlier turns of a conversation.
    """
    turns = item.get("messages") or []
    if target.rendering.chat and any(turn["role"] == "assistant" for turn in turns):
        (conversation,) = target.conversations([item])
        return Trained(*assistant_tokens(target.rendering.chat, tokenizer, conversation))
    row = example_of(tokenizer, target, item)
    return Trained(row.prompt + row.completion, [0] * len(row.prompt) + [1] * len(row.completion))


def collate(examples: Sequence[Example], pad: int) -> Batch:
    """Right-pad examples to the longest; returns int64 tensors of shape [B, T]."""
    import torch

    width = max(len(e.prompt) + len(e.completion) for e in examples)
    ids_BT = torch.full((len(examples), width), pad)
    attention_BT = torch.zeros_like(ids_BT)
    completion_BT = torch.zeros_like(ids_BT)
    for row, example in enumerate(examples):
        ids = example.prompt + example.completion
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        attention_BT[row, : len(ids)] = 1
        completion_BT[row, len(example.prompt) : len(ids)] = 1
    return Batch(ids_BT, attention_BT, completion_BT)
