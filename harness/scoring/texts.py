"""Contexts and continuations -> token requests, as lm-eval's HFLM makes them, and their layout.

A process scores the same texts again and again: every checkpoint of a run, base and candidate and
the base's repeats of a certificate. On a small model their tokenisation and layout take longer than
its arithmetic, so both are remembered, by the texts and by everything that determines the tokens.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.scoring.packing.layout import TrieLayout, lay_out
from retainbench.harness.scoring.packing.single import TokenRequest
from retainbench.harness.scoring.packing.trie import Costs
from retainbench.harness.tasks.rendering.encoding import Tokens, continued, encode

StringPair = tuple[str, str]
"""Context and continuation."""


@dataclass(frozen=True)
class Encoder:
    """How texts become tokens; equal encoders give equal tokens, for any model."""

    tokenizer: Any = field(compare=False, repr=False)
    state: str
    """Digest of the tokenizer's whole state; of its identity where it cannot be written out."""
    begin: bool | None
    """lm-eval's `add_bos_token`."""
    prefix: int
    """The token that represents an empty context."""
    window: int
    """Most tokens of an input."""

    def requests(self, pairs: Sequence[StringPair]) -> EncodedRequests:
        """Token requests of the pairs, in their order."""
        tokens = list(self._pairs(pairs))
        made = [self.request(*both, pair) for both, pair in zip(tokens, pairs, strict=True)]
        return EncodedRequests(made, any(len(a) + len(b) > self.window + 1 for a, b in tokens))

    def request(self, context: Tokens, continuation: Tokens, pair: object = None) -> TokenRequest:
        """One request; a context that does not fit is cut from the left, as lm-eval does.

        Raises:
            IntegrityError: there is nothing to score, or more than the window holds.
        """
        if not 0 < len(continuation) <= self.window or not context:
            raise IntegrityError(
                f"cannot score {len(continuation)} tokens after {len(context)} with a window of "
                f"{self.window}: {pair!r}"
            )
        excess = len(context) + len(continuation) - self.window - 1
        return TokenRequest((context + continuation)[max(0, excess) : -1], continuation)

    def _pairs(self, pairs: Sequence[StringPair]) -> Iterator[tuple[Tokens, Tokens]]:
        known = self.texts(
            text
            for context, continuation in pairs
            if context
            for text in (context.rstrip(), context + continuation)
        )
        alone = [continuation for context, continuation in pairs if not context]
        bare = dict(zip(alone, continued(self.tokenizer, alone), strict=True))
        for context, continuation in pairs:
            if context:
                # Spaces at the end of a context belong to the continuation.
                head = known[context.rstrip()]
                yield head, known[context + continuation][len(head) :]
                continue
            tokens = bare[continuation]
            apart = self.prefix != tokens[0]
            yield ([self.prefix], tokens) if apart else (tokens[:1], tokens[1:])

    def texts(self, texts: Iterable[str]) -> dict[str, Tokens]:
        """What HFLM's `tok_encode` gives for each text."""
        distinct = list(dict.fromkeys(texts))
        return dict(zip(distinct, encode(self.tokenizer, distinct, self.begin), strict=True))


class EncodedRequests(NamedTuple):
    """Requests of one call."""

    requests: list[TokenRequest]
    cut: bool
    """A context did not fit."""


class PreparedCall(NamedTuple):
    """What a call asks, ready to run."""

    layout: TrieLayout
    cut: bool


def encoder(lm: Any) -> Encoder:
    """Of an HFLM."""
    backend = getattr(lm.tokenizer, "backend_tokenizer", None)
    state = backend.to_str() if backend is not None else f"object {id(lm.tokenizer)}"
    digest = hashlib.sha256(state.encode()).hexdigest()
    return Encoder(lm.tokenizer, digest, lm.add_bos_token, lm.prefix_token_id, lm.max_length)


@lru_cache(maxsize=4)
def ask(encoder: Encoder, costs: Costs, pairs: tuple[StringPair, ...]) -> PreparedCall:
    """Layout of the pairs' requests, in their order; remembered for the last four calls."""
    encoded = encoder.requests(pairs)
    return PreparedCall(lay_out(encoded.requests, costs), encoded.cut)
