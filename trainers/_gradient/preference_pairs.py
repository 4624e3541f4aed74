"""Pairs of answers made from the target's reward, for the methods that prefer one of them.

They are on-policy with respect to the stage's starting point, which answers every prompt
`samples_per_prompt` times: y- is the answer with the lowest reward, y+ the reference answer
(`gold`) or the sample with the highest (`best`). Prompts without two different rewards, or with
rewards nearer than `least_gap`, give no pair. Sampling is charged to the budget.

Writes `pairs-<stage>.jsonl`, from which a resumed run goes on.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from pydantic import Field

from retainbench.harness.core.files.atomic import write_bytes
from retainbench.harness.core.files.storage import canonical, digest
from retainbench.trainers._gradient.gradient import GradientOptions
from retainbench.trainers._shared.contract import Item, Job, TrainingError, added
from retainbench.trainers._shared.data import batch_at, example_of, generator

if TYPE_CHECKING:
    from retainbench.harness.core.records import Ledger
    from retainbench.trainers._shared.model import PolicyModel
    from retainbench.trainers._shared.rollout import Sample
    from retainbench.trainers._shared.trajectory import Trajectory

BLOCK = 32
"""Prompts that are answered at once."""
PATIENCE = 20
"""Number of successive blocks without a pair after which a run fails."""


class PairOptions(GradientOptions):
    """Options of the methods that learn from pairs."""

    least_gap: float = added(0.0, ge=0, le=1)
    """Least difference of the rewards of a pair (`gold` counts as 1)."""
    chosen: Literal["gold", "best"] = "gold"
    """Where the preferred answer comes from."""
    samples_per_prompt: int = Field(4, ge=1)
    """Answers of the starting point per prompt (arXiv:2508.05629 draws 4)."""
    temperature: float = Field(1.0, gt=0)
    """Sampling temperature."""


class PreferencePair(NamedTuple):
    """A row of the training data, and what has been spent on sampling up to it."""

    row: dict[str, list[int]]
    prompt_tokens: int
    new_tokens: int


class PreferencePairs:
    """The endless list of pairs, sampled block by block when a pair is needed.

    Pair k depends on (job, k) alone. What sampling cost is charged when the step that uses a pair
    is taken, not when a prefetching loader asks for it, so a resumed run is charged the same. Each
    block is kept in `pairs-<stage>.jsonl`, from which a resumed run takes it.
    """

    def __init__(
        self, job: Job, reference: Any, policy: PolicyModel, per_step: int | None = None
    ) -> None:
        """Args:
        per_step: pairs that a step uses; None is `batch_size`.
        """
        from retainbench.trainers._shared import rollout
        from retainbench.trainers._shared.budget import Meter

        self._job = job
        self._per_step = per_step or job.options.batch_size
        self._file = job.out / f"pairs-{job.stage}.jsonl"
        self._known: list[PreferencePair] = []
        self._blocks = 0
        self._barren = 0
        self._charged = -1
        spent = self._restore()
        unlimited = job.budget.model_copy(update={"amount": 1e30})
        self._account = Meter(unlimited, policy.parameters, 0, spent, spent)
        frozen = policy._replace(model=reference)
        self._sampler = rollout.sampler(job, frozen, self._account, BLOCK * 8)

    def at(self, position: int) -> PreferencePair:
        """The pair of one row."""
        while len(self._known) <= position:
            self._sample_block()
        return self._known[position]

    def charge_for_step(self, trajectory: Trajectory) -> None:
        """Charge the sampling of the current step's rows, at the first of its parts."""
        if trajectory.step == self._charged:
            return
        self._charged = trajectory.step
        size = self._per_step
        first, last = trajectory.step * size, (trajectory.step + 1) * size - 1
        before = self.at(first - 1) if first else PreferencePair({}, 0, 0)
        after = self.at(last)
        trajectory.meter.forward(after.prompt_tokens - before.prompt_tokens)
        trajectory.meter.generated(after.new_tokens - before.new_tokens)

    def _sample_block(self) -> None:
        from retainbench.trainers._shared import rollout

        options = self._job.options
        items = batch_at(self._job.target.train, self._job.seed, self._blocks, BLOCK)
        with rollout.autocast(self._job):
            samples = rollout.rollout(
                self._sampler,
                items,
                copies=options.samples_per_prompt,
                temperature=options.temperature,
                generator=generator(self._job.seed, f"pairs/{self._job.stage}/{self._blocks}"),
            )
        copies = options.samples_per_prompt
        rows = [
            self._row(item, samples[number * copies : (number + 1) * copies])
            for number, item in enumerate(items)
        ]
        spent = self._account.ledger()
        block: dict[str, Any] = {
            "rows": [row for row in rows if row],
            "prompt_tokens": spent.forward_tokens - spent.generated_tokens,
            "new_tokens": spent.generated_tokens,
        }
        self._file.parent.mkdir(parents=True, exist_ok=True)
        with self._file.open("a", encoding="utf-8") as file:
            file.write(canonical(block | {"sha256": digest(block)}) + "\n")
        self._add(**block)
        if self._barren >= PATIENCE:
            raise TrainingError(
                f"no pair of answers with different rewards in {PATIENCE * BLOCK} prompts"
            )

    def _restore(self) -> Ledger:
        """Take the blocks that an interrupted run has kept; returns what they cost.

        The file is cut before the first incomplete line, which a kill or damage can leave; the
        pairs after it are sampled again.
        """
        from retainbench.harness.core.records import Ledger

        kept = self._file.read_bytes() if self._file.exists() else b""
        block: dict[str, Any] = {"prompt_tokens": 0, "new_tokens": 0}
        whole = 0
        for line in kept.splitlines(keepends=True):
            if (read := _block(line)) is None:
                write_bytes(self._file, kept[:whole])
                break
            block = read
            whole += len(line)
            self._add(**block)
        return Ledger(
            forward_tokens=block["prompt_tokens"] + block["new_tokens"],
            generated_tokens=block["new_tokens"],
        )

    def _add(self, rows: list[dict[str, list[int]]], prompt_tokens: int, new_tokens: int) -> None:
        self._blocks += 1
        self._known += [PreferencePair(row, prompt_tokens, new_tokens) for row in rows]
        self._barren = 0 if rows else self._barren + 1

    def _row(self, item: Item, samples: list[Sample]) -> dict[str, list[int]] | None:
        worst = min(samples, key=_reward)
        best = max(samples, key=_reward)
        example = example_of(self._sampler.policy.tokenizer, self._job.target, item)
        gold = self._job.options.chosen == "gold"
        chosen = example.completion if gold else best.tokens
        gap = (1.0 if gold else best.reward) - worst.reward
        if gap <= 0 or gap < self._job.options.least_gap:
            return None
        return {
            "prompt_ids": example.prompt,
            "chosen_ids": chosen,
            "rejected_ids": worst.tokens,
        }


def _block(line: bytes) -> dict[str, Any] | None:
    """A parsed line of the file of pairs; None if it is damaged."""
    try:
        block = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(block, dict):
        return None
    sha256 = block.pop("sha256", None)
    return block if line.endswith(b"\n") and sha256 == digest(block) else None


def _reward(sample: Sample) -> float:
    return sample.reward
