"""Dynamic sampling (DAPO, arXiv:2503.14476): other prompts instead of groups of equal rewards.

A group whose completions all earn the same has no advantage, so it costs its sampling and teaches
nothing. Such groups are replaced by those of further prompts, up to a number of attempts; where
they do not suffice, the last places keep groups without variance. Everything that is sampled is
charged to the meter.

Deviation from DAPO: each attempt samples as many prompts as are missing, not a batch of fixed size.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from retainbench.trainers._gradient.trl_patches import Tokens
from retainbench.trainers._shared import rollout as _rollout

if TYPE_CHECKING:
    from retainbench.trainers._shared.contract import Item
    from retainbench.trainers._shared.rollout import Sampler

FAR = 10_000_000
"""Places in the shared order between a prompt and the one that replaces it: an epoch that no run
reaches, so that the prompts of later steps stay the same."""
Row = dict[str, Any]


class Refill:
    """The rows of a step with their completions, groups without variance replaced."""

    def __init__(
        self,
        sampler: Sampler,
        generate: Callable[[Tokens, int], Tokens],
        item: Callable[[int], Item],
        row: Callable[[int], Row],
        group: int,
        attempts: int,
    ) -> None:
        """Args:
        generate: (prompt ids of whole groups, number of the attempt) -> completions.
        item: position in the shared order -> item.
        row: position in the shared order -> TRL's row.
        group: completions of each prompt.
        attempts: of finding other prompts.
        """
        self._sampler, self._generate = sampler, generate
        self._item, self._row = item, row
        self._group, self._attempts = group, attempts
        self._tokens: list[list[int]] = []

    def varied(self, rows: list[Row]) -> list[Row]:
        """The rows to train on: each group `group` times, adjacent, as many as given."""
        numbers = [row["number"] for row in rows[:: self._group]]
        kept: list[tuple[int, list[list[int]]]] = []
        flat: list[tuple[int, list[list[int]]]] = []
        for attempt in range(self._attempts + 1):
            asked = [number + attempt * FAR for number in numbers[len(kept) :]]
            for number, tokens, differ in self._sampled(asked, attempt):
                (kept if differ else flat).append((number, tokens))
            if len(kept) == len(numbers):
                break
        chosen = [*kept, *flat][: len(numbers)]
        self._tokens = [tokens for _, group in chosen for tokens in group]
        return [self._row(number) for number, _ in chosen for _ in range(self._group)]

    def take(self) -> list[list[int]]:
        """The completions of the rows that `varied` has returned."""
        return self._tokens

    def _sampled(self, numbers: list[int], attempt: int) -> list[tuple[int, list[list[int]], bool]]:
        """Number, completions and whether their rewards differ, for each prompt."""
        items = [self._item(number) for number in numbers]
        prompts = [p for p in _rollout.prompts(self._sampler, items) for _ in range(self._group)]
        tokens = self._generate(prompts, attempt)
        repeated = [item for item in items for _ in range(self._group)]
        samples = _rollout.score(self._sampler, repeated, prompts, tokens)
        rewards = _rollout.rewards(samples).reshape(len(numbers), self._group)
        groups = [tokens[n * self._group : (n + 1) * self._group] for n in range(len(numbers))]
        differ = (rewards.max(1) > rewards.min(1)).tolist()
        return list(zip(numbers, groups, differ, strict=True))
