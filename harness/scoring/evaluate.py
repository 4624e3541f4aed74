"""A checkpoint and tasks -> one record per item.

Retention tasks and target tests are ordinary lm-eval tasks; lm-eval makes their prompts and metrics
and an engine answers (`scoring/engines/`; ours gives the same numbers as lm-eval's own). The result
is checked against the task's lock (`scoring/item_records.py`).

Results are content-addressed (`Store`): weights, tokenizer, backend, versions, dtype, task lock and
repeat scoring make the key. lm-eval's own response cache is not keyed by the model and is never
used (OUTPUTS 8). A `RepeatScoring` scores the same model again, for the noise floor.

Command: `retainbench evaluate MODEL TASK...`
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Sampling
from retainbench.harness.models import seeds
from retainbench.harness.models.checked import Base
from retainbench.harness.models.loading import Loaded
from retainbench.harness.models.placement import ON_CPU, Placement
from retainbench.harness.scoring.blocks import BLOCK, ItemBlock, blocks
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, opened
from retainbench.harness.scoring.engines.protocol import Engine
from retainbench.harness.scoring.engines.requests import RequestAnswers
from retainbench.harness.scoring.item_records import to_records
from retainbench.harness.tasks import catalogue, pack
from retainbench.harness.tasks.catalogue import OWN, Catalogue, TaskInfo
from retainbench.harness.tasks.lm_eval_patches import apply_filters, templates_compiled_once
from retainbench.harness.tasks.rendering import answers
from retainbench.harness.tasks.rendering.answers import FIRST_LINE
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
    prepared = [
        _prepared(info, catalogue.lock_digest(info), limit, allow_code, rendering) for info in infos
    ]
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
    lock = catalogue.lock_digest(info)
    prepared = _prepared(info, lock, limit, allow_code, rendering)
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
    """What lm-eval's `evaluate` does with a task and a model, without its global effects.

    lm-eval's tasks make the prompts, filter the responses and compute the metrics; the requests of
    a task are built once per process: rendering them takes longer than scoring a small model.
    """
    calls: dict[tuple[str, str], list[Any]] = {}
    instances = [r for r in prepared.task.instances if r.doc_id // BLOCK == block.number]
    for request in _rotated_requests(instances, repeat.shift):
        request.resps, request.filtered_resps = [], {}
        generates = request.request_type == "generate_until"
        options = json.dumps(request.args[1], sort_keys=True) if generates else ""
        calls.setdefault((request.request_type, options), []).append(request)
    answered = RequestAnswers()
    with seeds.isolated():
        for (kind, options), requests in calls.items():
            answered.ask(engine, kind, requests, options, block.seed)
    return _rows(prepared, instances, repeat.shift, answered)


def judged(info: TaskInfo, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A target's rows, judged by the part of each response that is its answer."""
    if info.kind != "target" or info.answer == FIRST_LINE:
        return rows
    module = catalogue.reward(info)
    reward = answers.judging(module.reward, info.answer)
    valid = answers.judging(module.valid, info.answer)
    for row in rows:
        response, item = row["resps"][0][0], row["doc"]
        row |= {"reward": float(reward(response, item)), "valid": bool(valid(response, item))}
    return rows


def _rotated_requests(requests: Sequence[Any], shift: int) -> list[Any]:
    """Requests, those of each item rotated; the requests of an item are neighbours."""
    if not shift:
        return list(requests)
    by_doc: dict[int, list[Any]] = {}
    for request in requests:
        by_doc.setdefault(request.doc_id, []).append(request)
    return [r for group in by_doc.values() for r in rotated(group, shift)]


def rotated(values: Sequence[Any], shift: int) -> list[Any]:
    """A list rotated to the left.

    >>> rotated(["a", "b", "c"], 1)
    ['b', 'c', 'a']
    """
    at = shift % len(values)
    return [*values[at:], *values[:at]]


def requests(
    info: TaskInfo,
    rendering: Rendering = PLAIN,
    limit: int | None = None,
    *,
    allow_code: bool = False,
) -> list[Any]:
    """The task's requests as the model gets them (lm-eval's `Instance`s)."""
    lock = catalogue.lock_digest(info)
    return list(_prepared(info, lock, limit, allow_code, rendering).task.instances)


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


class PreparedTask(NamedTuple):
    """An lm-eval task with its requests, and what its sample rows hold before any answer."""

    task: Any
    hashes: dict[int, dict[str, str]]
    """By lm-eval's number of the document, as in its own sample rows."""


@cache
def _prepared(
    info: TaskInfo, _lock: str, limit: int | None, allow_code: bool, rendering: Rendering
) -> PreparedTask:
    """The lock's digest is part of the cache's key."""
    if pack.is_packed(info):
        task = pack.lm_eval_task(info, allow_code=allow_code)
    else:
        found = _manager(info.folder.parents[1]).load([info.lm_eval_name])
        task = found["tasks"][info.lm_eval_name]
    with templates_compiled_once():
        task.build_all_requests(limit=limit)
        hashes = {r.doc_id: _hashes(task, r) for r in task.instances if r.idx == 0}
    if rendering.chat is not None:
        _speak(info, task.instances, rendering)
    if info.sampling is not None:
        _sample(task.instances, info.sampling)
    return PreparedTask(task, hashes)


def _sample(instances: Sequence[Any], sampling: Sampling) -> None:
    """Ask for drawn responses instead of greedy ones."""
    drawn = {"do_sample": True, **sampling.model_dump(exclude={"repeats"})}
    for request in instances:
        request.arguments = (request.args[0], {**request.args[1], **drawn})


def _speak(info: TaskInfo, instances: Sequence[Any], rendering: Rendering) -> None:
    """Send each prompt as a chat; as in lm-eval, a choice then follows without its delimiter."""
    if info.kind == "perplexity":  # a document is not a message
        return
    asked = [rendering.ask(request.args[0], request.doc) for request in instances]
    for request, prompt in zip(instances, rendering.prompts(info.template, asked), strict=True):
        following = request.args[1]
        if request.request_type == "loglikelihood" and info.kind == "multiple_choice":
            following = following.removeprefix(info.template.delimiter)
        request.arguments = (prompt, following)


@cache
def _manager(root: Path) -> Any:
    """lm-eval's index of the tasks below one folder, without its own (which takes 17 s)."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(root), include_defaults=False)


def _rows(
    prepared: PreparedTask,
    instances: list[Any],
    shift: int,
    answered: RequestAnswers,
) -> list[dict[str, Any]]:
    """Sample rows as lm-eval logs them, from requests of a task that have been answered.

    Args:
        instances: all requests of some items.
        answered: what the engine gave besides the answers.
    """
    task = prepared.task
    apply_filters(task, instances)
    by_doc: dict[int, list[Any]] = {}
    for request in sorted(instances, key=lambda r: r.idx):
        by_doc.setdefault(request.doc_id, []).append(request)
    return [
        _row(task, requests, name, shift)
        | prepared.hashes[requests[0].doc_id]
        | answered.besides(requests[0].doc_id)
        for name in instances[0].filtered_resps
        for requests in by_doc.values()
    ]


def _row(task: Any, requests: list[Any], name: str, shift: int) -> dict[str, Any]:
    """One sample; with a shift lm-eval judges the item with its options and answers rotated."""
    doc = asked = requests[0].doc
    answers = [request.filtered_resps[name] for request in requests]
    if shift:
        choices = doc["choices"]
        asked = {**doc, "choices": rotated(choices, shift)}
        asked["gold"] = (int(doc["gold"]) - shift) % len(choices)
        answers = rotated(answers, shift)
    return {
        "doc": doc,
        "filter": name,
        "resps": [request.resps for request in requests],
        **task.process_results(asked, answers),
    }


def _hashes(task: Any, request: Any) -> dict[str, str]:
    text = json.dumps(request.doc, indent=2, default=str, ensure_ascii=False)
    return {
        "doc_hash": _hash(text),
        "prompt_hash": _hash(request.arguments[0]),
        "target_hash": _hash(str(task.doc_to_target(request.doc))),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
