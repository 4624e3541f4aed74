"""When a completion ends: at a token, or as soon as its text contains a string.

Stop strings are looked for in the tokens' own texts, and in the decoded end of the response only
after a token that could complete one. Reads and writes nothing.

Letters: B rows in flight, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

import torch


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

    def to(self, device: Any) -> Stops:
        """The rule with its tensors on a device."""
        suspects = None if self.suspects_V is None else self.suspects_V.to(device)
        return self._replace(ends_V=self.ends_V.to(device), suspects_V=suspects)

    def completed(self, tokens: Sequence[int]) -> bool:
        """Whether the text that the tokens end with contains a stop string."""
        end = self.decode(list(tokens[-self.reach :])) if self.decode else ""
        return any(string in end for string in self.strings)


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
