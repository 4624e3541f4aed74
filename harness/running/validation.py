"""The reward of a cell's checkpoints on the target's validation items, and which one is kept.

A suite with `checkpoint: best_validation` reports each cell at the checkpoint of its last stage
with the highest mean reward on validation items, the earlier one of equals; later checkpoints are
not scored, as if training had stopped there. A sweep judges its variants by the same rewards.
Test and retention items are never looked at.

Writes `cells/<id>/validation.json`.
"""

from __future__ import annotations

from typing import NamedTuple

from retainbench.harness.core.files.storage import intact, read_json, write_json
from retainbench.harness.core.records import CheckpointRecord, Record, Share, TrainRecord
from retainbench.harness.models import loading
from retainbench.harness.running.context import Context
from retainbench.harness.running.training.damage import require_trained
from retainbench.harness.running.training.jobs import load_target
from retainbench.harness.suites.plan import Cell
from retainbench.trainers._shared.contract import Target


class Earned(Record):
    """`validation.json`: what a cell's checkpoints earned on the validation items."""

    reward: Share | None
    """Of the checkpoint that is kept; None where training failed."""
    points: dict[str, Share] = {}
    """Folder of each checkpoint that was judged -> its reward."""


class Kept(NamedTuple):
    """The checkpoints of a cell that are scored, in order of training; the last is reported."""

    checkpoints: list[CheckpointRecord]
    reward: float | None
    """Of the last one on validation items; None where none was chosen by it."""


def kept(run: Context, cell: Cell, trained: TrainRecord) -> Kept:
    """Checkpoints of a trained cell up to the one that the suite's rule reports.

    Raises:
        DamagedError: a checkpoint is not the one that was trained.
    """
    if run.plan.suite.checkpoint == "last" or trained.status == "failed":
        return Kept(trained.checkpoints, None)
    found = earned(run, cell, trained)
    best = max(found.points, key=lambda folder: found.points[folder])  # the first one of equals
    folders = [checkpoint.folder for checkpoint in trained.checkpoints]
    return Kept(trained.checkpoints[: folders.index(best) + 1], found.reward)


def earned(run: Context, cell: Cell, trained: TrainRecord) -> Earned:
    """Rewards of the last checkpoint, or of all of the last stage where the suite takes the best.

    Raises:
        DamagedError: a checkpoint is not the one that was trained.
    """
    where = run.folder.cell(cell.id)
    judged = _judged(run, trained)
    if intact(where.validation):
        known = read_json(where.validation, Earned)
        # Files of a sweep by an earlier version name no points; they judged the last one.
        if list(known.points) == [one.folder for one in judged] or not (known.points or judged[1:]):
            return known
    points: dict[str, float] = {}
    for checkpoint in judged:
        require_trained(where.root / checkpoint.folder, checkpoint)
        loaded = loading.load(where.root / checkpoint.folder, device=run.device)
        target = load_target(cell.target, run.tasks, run.rendering)
        points[checkpoint.folder] = validation_reward(loaded, target)
    found = Earned(reward=max(points.values(), default=None), points=points)
    write_json(where.validation, found, checked=True)
    return found


def _judged(run: Context, trained: TrainRecord) -> list[CheckpointRecord]:
    if trained.status == "failed":
        return []
    last = trained.checkpoints[-1]
    if run.plan.suite.checkpoint == "last":
        return [last]
    return [one for one in trained.checkpoints if one.stage == last.stage and one.fraction > 0]


def validation_reward(loaded: loading.Loaded, target: Target) -> float:
    """Mean reward of greedy answers to the target's validation items."""
    from retainbench.harness.scoring.decoding import generate
    from retainbench.harness.scoring.stops import stop_rule

    tokenizer = loaded.tokenizer
    vocabulary = loaded.model.config.get_text_config().vocab_size
    made = generate(
        loaded.model,
        target.rendering.encode(tokenizer, target.prompts(target.validation)),
        max_new_tokens=target.max_new_tokens,
        stops=stop_rule(target.rendering.ends(tokenizer), vocabulary, target.stop, tokenizer),
    )
    texts = tokenizer.batch_decode(made.tokens, skip_special_tokens=True)
    rewards = [
        target.reward(target.response(text), item)
        for text, item in zip(texts, target.validation, strict=True)
    ]
    return sum(rewards) / len(rewards)
