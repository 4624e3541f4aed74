"""Which tokens of a conversation the assistant wrote: the training mask of several turns.

Where the template marks the assistant's words (`{% generation %}`) the mask is that of
`tokenizer.apply_chat_template(return_assistant_tokens_mask=True)`. Elsewhere a turn begins where
the template opens it after the messages before it, and ends with what ends a turn. The conversation
is encoded as one text, as that method does; special tokens part the turns. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.tasks.rendering import chat as chats
from retainbench.harness.tasks.rendering.chat import Chat, Conversation
from retainbench.harness.tasks.rendering.encoding import Tokens


class Masked(NamedTuple):
    """Token ids of a conversation, and 1 where the assistant wrote."""

    ids: Tokens
    mask: list[int]


def assistant_tokens(chat: Chat, tokenizer: Any, conversation: Conversation) -> Masked:
    """The ids of a conversation with the assistant's turns marked, their ends included.

    Raises:
        UsageError: the template rewrites an earlier turn, or the tokenizer gives no offsets.
    """
    (whole,) = chats.written(chat, [(conversation, False)])
    spans = whole.spans or list(_spans(chat, conversation, whole.text))
    if not tokenizer.is_fast:
        raise UsageError(
            "a conversation with several turns of the assistant needs a tokenizer with offsets "
            "(tokenizer.json). Save the base with a fast tokenizer"
        )
    encoded = tokenizer(whole.text, add_special_tokens=False)
    ids: Tokens = encoded["input_ids"]
    return Masked(ids, _mask(encoded, spans, len(ids)))


def _mask(encoded: Any, spans: Sequence[tuple[int, int]], size: int) -> list[int]:
    """1 on every token from that of a span's first character to that of its last."""
    mask = [0] * size
    for begin, end in spans:
        first, last = encoded.char_to_token(begin), encoded.char_to_token(end - 1)
        if first is not None and last is not None:
            mask[first : last + 1] = [1] * (last + 1 - first)
    return mask


def _spans(chat: Chat, conversation: Conversation, whole: str) -> Iterator[tuple[int, int]]:
    """Where each turn of the assistant is in the text, with what ends it."""
    places = [n for n, turn in enumerate(conversation) if turn["role"] == "assistant"]
    opened = chats.render(chat, [(conversation[:n], True) for n in places])
    for place, before in zip(places, opened, strict=True):
        words = conversation[place]["content"].strip()
        at = whole.find(words, len(before)) if whole.startswith(before) else -1
        end = at + len(words)
        if at < 0 or not whole.startswith(chat.end, end):
            raise UsageError(
                f"the chat template writes turn {place + 1} of a conversation in another way than "
                "it asks for it, so what is trained would not be what is asked; train on single "
                "answers ({query, answer}), or use another template"
            )
        yield len(before), end + len(chat.end)
