"""Every use of lm-eval's private parts, in one place.

They were tested on `TESTED`, and pyproject.toml has the upper bound. The model class that lm-eval
calls (scoring/backend.py) overrides `_loglikelihood_tokens`, which lm-eval asks its models for.
lm_eval is imported when a function runs.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

TESTED = {"lm-eval": "0.4.13"}
"""The version that this file was tested on."""


@contextmanager
def templates_compiled_once() -> Iterator[None]:
    """lm-eval compiles a task's template for every item, which is most of its preparation."""
    from lm_eval.utils import env

    env.from_string = cache(env.from_string)
    try:
        yield
    finally:
        del env.from_string


@contextmanager
def without_warnings(name: str, wanted: bool = True) -> Iterator[None]:
    """Silence one of lm-eval's loggers: HFLM warns twice of a loaded model, which is meant here."""
    logger = logging.getLogger(name)
    before = logger.disabled
    logger.disabled = before or wanted
    try:
        yield
    finally:
        logger.disabled = before


def build(manager: Any, name: str, changes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Tasks of a task, group or tag by name, each with changed keys of its YAML."""
    from lm_eval.tasks._factory import TaskFactory

    known = manager.task_index
    # `load` of a dict hands its keys down to the tasks of a group, their list included.
    built = TaskFactory().build(known[name], overrides=changes, registry=known)
    loaded = manager.load(built if isinstance(built, list) else [built])
    return dict(loaded["tasks"])


def apply_filters(task: Any, instances: list[Any]) -> None:
    """What `task.apply_filters()` does with all requests, for some."""
    for ensemble in task._filters:
        ensemble.apply(instances)


def default_metrics(task: Any) -> list[str]:
    """Metrics of a task whose YAML names none."""
    return list(task._metric_fn_list)
