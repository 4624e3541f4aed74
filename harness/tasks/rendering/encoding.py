"""Texts -> token ids, the same for training, rollouts, evaluation and KL.

A text that begins a sequence gets what the tokenizer puts in front of every sequence (a BOS token
for many models, nothing for others), exactly once: as lm-eval's HFLM does. What continues a
sequence gets nothing. Without this rule a model that was trained without BOS is scored with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Tokens = list[int]


def encode(tokenizer: Any, texts: Sequence[str], begin: bool | None = None) -> list[Tokens]:
    """Token ids of texts that begin a sequence; each distinct text is encoded once.

    Args:
        begin: whether the tokenizer adds its special tokens; None leaves that to the tokenizer.
    """
    distinct = list(dict.fromkeys(texts))
    prefix = tokenizer.decode(first_token(tokenizer))
    started = [text for text in distinct if text.startswith(prefix)]
    fresh = [text for text in distinct if not text.startswith(prefix)]
    own = {} if begin is None else {"add_special_tokens": begin}
    ids = dict(zip(started, continued(tokenizer, started), strict=True))
    ids |= dict(zip(fresh, _ids(tokenizer, fresh, **own), strict=True))
    return [list(ids[text]) for text in texts]


def continued(tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
    """Token ids of texts that continue a sequence: no special tokens are added."""
    return _ids(tokenizer, texts, add_special_tokens=False)


def first_token(tokenizer: Any) -> int:
    """The token that represents an empty context: BOS, or EOS where there is none."""
    bos = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if bos is None else bos)


def _ids(tokenizer: Any, texts: Sequence[str], **special: bool) -> list[Tokens]:
    if not texts:
        return []
    encoded = tokenizer(list(texts), return_attention_mask=False, **special)
    ids: list[Tokens] = encoded["input_ids"]
    return ids
