"""The base's side of a run: its records, its noise floor, and what the items ask.

Writes `items/` and `bases/`. What is there and intact is left as it is.
"""

from __future__ import annotations

from retainbench.harness.core.files.storage import intact, write_jsonl
from retainbench.harness.running.context import Context
from retainbench.harness.scoring import evaluate, item_records, stored
from retainbench.harness.suites.plan import targets_of


def prepare(run: Context) -> None:
    """Score the base on everything once, and store what the items ask."""
    names = [*run.plan.retention, *targets_of(run.plan.suite)]
    for name in names:
        if not intact(run.folder.items(name)):
            texts = item_records.item_texts(run.tasks.tasks[name])
            write_jsonl(run.folder.items(name), texts, checked=True)
    records = run.base_point.records
    if not intact(records):
        scored = stored.evaluate_stored(run.reference(), names, run.store, tasks=run.tasks)
        write_jsonl(records, scored, checked=True)
    _repeat_scoring(run)


def _repeat_scoring(run: Context) -> None:
    """Store the repeat scorings of the base on the retention tasks that the suite asks for.

    A repeat scoring that no task can be scored in leaves no file.
    """
    for name in run.plan.suite.noise_floor:
        file = run.base_point.noise(name)
        if intact(file):
            continue
        repeat = evaluate.REPEAT_SCORINGS[name]
        scored = stored.evaluate_stored(
            run.reference(), run.plan.retention, run.store, repeat, run.tasks
        )
        if scored:
            write_jsonl(file, scored, checked=True)
