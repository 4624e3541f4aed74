"""A checkpoint and tasks -> one record per item.

Retention tasks and target tests are ordinary lm-eval tasks; lm-eval makes their prompts and metrics
(`scoring/sample_rows.py`) and an engine answers (`scoring/engines/`; ours gives the same numbers as
lm-eval's own). The result is checked against the task's lock (`scoring/item_records.py`).

Results are content-addressed (`Store`): weights, tokenizer, backend, versions, dtype, task lock and
repeat scoring make the key. lm-eval's own response cache is not keyed by the model and is never
used (OUTPUTS 8). A `RepeatScoring` scores the same model again, for the noise floor.

Command: `retainbench evaluate MODEL TASK...`
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models import seeds
from retainbench.harness.models.checked import Base
from retainbench.harness.models.loading import Loaded
from retainbench.harness.models.placement import ON_CPU, Placement
from retainbench.harness.scoring.blocks import BLOCK, ItemBlock, blocks
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, opened
from retainbench.harness.scoring.engines.protocol import Engine
from retainbench.harness.scoring.engines.requests import RequestAnswers
from retainbench.harness.scoring.item_records import to_records
from retainbench.harness.scoring.sample_rows import (
    PreparedTask,
    judged,
    prepared_task,
    rotated_requests,
    sample_rows,
)
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import OWN, Catalogue, TaskInfo
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering


class RepeatScoring(NamedTuple):
    """A repeat scoring of a model that should give equal answers: what differs from the first."""

    again: int = 0
    """Number of the repeat; nothing else changes."""
    batch: bool = False
    """A third of the tokens per pass, and a hundred responses in flight."""
    shift: int = 0
    """Rotates the answer options by this many places; tasks without options are left out."""


FIRST_SCORING = RepeatScoring()
REPEAT_SCORINGS = {
    "repeat": RepeatScoring(again=1),
    "batch": RepeatScoring(batch=True),
    "options": RepeatScoring(shift=1),
}
"""Repeat scorings of the A/A noise floor, by their names in a suite's `noise_floor`.

No prompt of these tasks shows its options, so every shift asks for the same log-likelihoods in
another order and one shift is as good as all k.
"""


def affects(repeat: RepeatScoring, info: TaskInfo) -> bool:
    """Whether it applies to a task: options rotate only where our own code scores them."""
    return not repeat.shift or (info.kind == "multiple_choice" and info.code is None)


def of_model(
    model: Base,
    names: Sequence[str],
    limit: int | None = None,
    *,
    placement: Placement = ON_CPU,
    repeat: RepeatScoring = FIRST_SCORING,
    tasks: Catalogue = OWN,
    rendering: Rendering = PLAIN,
    engine: EngineChoice = OURS,
) -> Iterator[list[ItemRecord]]:
    """`by_task` for a checked folder and those of the tasks that the repeat scoring affects.

    The model is loaded when the first task is asked for, and leaves memory after the last one.
    """
    infos = [info for info in tasks.find(names) if affects(repeat, info)]
    small = repeat.batch
    yield from by_task(
        opened(engine, model, placement, rendering, small_batches=small),
        infos,
        limit=limit,
        repeat=repeat,
        allow_code=tasks.allow_code,
        rendering=rendering,
    )


def evaluate(
    loaded: Loaded | Engine,
    infos: Sequence[TaskInfo],
    *,
    limit: int | None = None,
    repeat: RepeatScoring = FIRST_SCORING,
    allow_code: bool = False,
    rendering: Rendering = PLAIN,
) -> list[ItemRecord]:
    """Score a model on frozen tasks; records in order of task and item. Arguments: `by_task`."""
    tasks = by_task(
        loaded,
        infos,
        limit=limit,
        repeat=repeat,
        allow_code=allow_code,
        rendering=rendering,
    )
    return [record for records in tasks for record in records]


def by_task(
    loaded: Loaded | Engine,
    infos: Sequence[TaskInfo],
    *,
    limit: int | None = None,
    repeat: RepeatScoring = FIRST_SCORING,
    allow_code: bool = False,
    rendering: Rendering = PLAIN,
) -> Iterator[list[ItemRecord]]:
    """Score a model on frozen tasks, one task after another; the records of each when it is done.

    A task's records do not depend on the tasks next to it, not even in rounding: no pass of the
    model holds tokens of two tasks. Restores every random generator and the model's training flags.

    Args:
        loaded: a model for our own engine, or an engine that was opened with this rendering.
        limit: scores the first n items of each task only.
        allow_code: lets lm-eval's own code score the packs that name it.
        rendering: how prompts reach the model. With every rendering records have the hashes of
            the tasks' own prompts, so that they can be compared with the lock.

    Raises:
        UsageError: such a pack, without `allow_code`.
        IntegrityError: a task differs from its lock, before or after scoring.
    """
    if not infos:
        return
    for info in infos:
        catalogue.verify_lock(info)
    prepared = [prepared_task(info, rendering, limit, allow_code=allow_code) for info in infos]
    engine = _engine(loaded, repeat, rendering)
    for info, one in zip(infos, prepared, strict=True):
        rows: list[dict[str, Any]] = []
        for block in blocks(info, limit):
            rows += _block_rows(engine, info, one, repeat, block)
        yield to_records(info, rows, limit)


def block_rows(
    engine: Engine,
    info: TaskInfo,
    block: ItemBlock,
    *,
    limit: int | None,
    repeat: RepeatScoring,
    allow_code: bool,
    rendering: Rendering,
) -> list[dict[str, Any]]:
    """lm-eval's sample rows of one block; `to_records` of all blocks of a task gives its records.

    Arguments: as for `by_task`, which scores every block.
    """
    prepared = prepared_task(info, rendering, limit, allow_code=allow_code)
    return _block_rows(engine, info, prepared, repeat, block)


def _block_rows(
    engine: Engine,
    info: TaskInfo,
    prepared: PreparedTask,
    repeat: RepeatScoring,
    block: ItemBlock,
) -> list[dict[str, Any]]:
    rows = judged(info, _score(engine, prepared, repeat, block))
    return [row | {"repeat": block.seed} for row in rows]


def _engine(loaded: Loaded | Engine, repeat: RepeatScoring, rendering: Rendering) -> Engine:
    if not isinstance(loaded, Loaded):
        return loaded
    from retainbench.harness.scoring.engines.transformers import TransformersEngine

    return TransformersEngine(loaded, rendering.chat, small_batches=repeat.batch)


def _score(
    engine: Engine, prepared: PreparedTask, repeat: RepeatScoring, block: ItemBlock
) -> list[dict[str, Any]]:
    """What lm-eval's `evaluate` does with a task and a model, without its global effects."""
    calls: dict[tuple[str, str], list[Any]] = {}
    instances = [r for r in prepared.task.instances if r.doc_id // BLOCK == block.number]
    for request in rotated_requests(instances, repeat.shift):
        request.resps, request.filtered_resps = [], {}
        generates = request.request_type == "generate_until"
        options = json.dumps(request.args[1], sort_keys=True) if generates else ""
        calls.setdefault((request.request_type, options), []).append(request)
    answered = RequestAnswers()
    with seeds.isolated():
        for (kind, options), asked in calls.items():
            answered.ask(engine, kind, asked, options, block.seed)
    return sample_rows(prepared, instances, repeat.shift, answered)


def planned_tokens(
    loaded: Loaded, asked: Sequence[Any], rendering: Rendering = PLAIN
) -> int | None:
    """Tokens that scoring requests will compute; None where responses are generated."""
    if any(request.request_type != "loglikelihood" for request in asked):
        return None
    from retainbench.harness.scoring.engines.transformers import TransformersEngine

    engine = TransformersEngine(loaded, rendering.chat)
    by_block: dict[int, list[Any]] = {}
    for request in asked:
        by_block.setdefault(request.doc_id // BLOCK, []).append(request.args)
    planned = [engine.planned(prompts) for prompts in by_block.values()]
    return None if None in planned else sum(tokens or 0 for tokens in planned)
