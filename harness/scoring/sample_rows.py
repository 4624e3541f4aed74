"""An lm-eval task as requests to a model, and its sample rows once they are answered.

lm-eval's tasks make the prompts, filter the responses and compute the metrics. The requests of a
task are built once per process: rendering them takes longer than scoring a small model. Nothing
here asks a model; `scoring/evaluate.py` does.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.schema import Sampling
from retainbench.harness.scoring.engines.requests import RequestAnswers
from retainbench.harness.tasks import catalogue, pack
from retainbench.harness.tasks.catalogue import TaskInfo
from retainbench.harness.tasks.lm_eval_patches import apply_filters, templates_compiled_once
from retainbench.harness.tasks.rendering import answers as answer_rules
from retainbench.harness.tasks.rendering.answers import FIRST_LINE
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering


class PreparedTask(NamedTuple):
    """An lm-eval task with its requests, and what its sample rows hold before any answer."""

    task: Any
    hashes: dict[int, dict[str, str]]
    """By lm-eval's number of the document, as in its own sample rows."""


def requests(
    info: TaskInfo,
    rendering: Rendering = PLAIN,
    limit: int | None = None,
    *,
    allow_code: bool = False,
) -> list[Any]:
    """The task's requests as the model gets them (lm-eval's `Instance`s)."""
    return list(prepared_task(info, rendering, limit, allow_code=allow_code).task.instances)


def prepared_task(
    info: TaskInfo,
    rendering: Rendering = PLAIN,
    limit: int | None = None,
    *,
    allow_code: bool = False,
) -> PreparedTask:
    """A task with its requests, from the cache unless its lock has changed.

    Arguments: as for `scoring.evaluate.by_task`.
    """
    return _prepared(info, catalogue.lock_digest(info), limit, allow_code, rendering)


@cache
def _prepared(
    info: TaskInfo, _lock: str, limit: int | None, allow_code: bool, rendering: Rendering
) -> PreparedTask:
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


@cache
def _manager(root: Path) -> Any:
    """lm-eval's index of the tasks below one folder, without its own (which takes 17 s)."""
    from lm_eval.tasks import TaskManager

    return TaskManager(include_path=str(root), include_defaults=False)


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


def _hashes(task: Any, request: Any) -> dict[str, str]:
    text = json.dumps(request.doc, indent=2, default=str, ensure_ascii=False)
    return {
        "doc_hash": _hash(text),
        "prompt_hash": _hash(request.arguments[0]),
        "target_hash": _hash(str(task.doc_to_target(request.doc))),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def rotated_requests(requests: Sequence[Any], shift: int) -> list[Any]:
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


def sample_rows(
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


def judged(info: TaskInfo, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A target's rows, judged by the part of each response that is its answer."""
    if info.kind != "target" or info.answer == FIRST_LINE:
        return rows
    module = catalogue.reward(info)
    reward = answer_rules.judging(module.reward, info.answer)
    valid = answer_rules.judging(module.valid, info.answer)
    for row in rows:
        response, item = row["resps"][0][0], row["doc"]
        row |= {"reward": float(reward(response, item)), "valid": bool(valid(response, item))}
    return rows
