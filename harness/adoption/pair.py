"""Results that other harnesses wrote, for base and candidate -> item records that can be judged.

Reads lm-eval (`samples_*.jsonl` + results JSON), lighteval (details Parquet + results JSON) and
Inspect (`.eval`, `.json`) without running a model, and without torch. Two results are a pair only
if the same tasks were asked with the same prompts and scored alike, else `IntegrityError`. What
differs without changing the questions, as far as the files show, becomes remarks next to the
verdict. Results of a limited run are marked as a part of the items, with which nothing passes.

Command: `retainbench compare --base-results DIR --candidate-results DIR [--axis TASK=AXIS] ...`
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from retainbench.harness.adoption import inspect_ai, lighteval, lm_eval
from retainbench.harness.adoption.choices import DEFAULT_CHOICES, AdoptionChoices, applies
from retainbench.harness.adoption.items import Adopted
from retainbench.harness.adoption.settings import refused, remarked
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.verdicts import FULL

__all__ = ["Adopted", "AdoptedPair", "AdoptionChoices", "pair", "read"]

READERS = {
    "lm-eval": (lm_eval.results_files, lm_eval.read),
    "lighteval": (lighteval.details_files, lighteval.read),
    "Inspect": (inspect_ai.log_files, inspect_ai.read),
}


class AdoptedPair(NamedTuple):
    """Results of base and candidate that were made alike."""

    base: Adopted
    candidate: Adopted
    remarks: list[str]
    """One line each: what was decided while reading, and what differs without being refused."""

    @property
    def part(self) -> str:
        """Which items were scored: `full`, or what a limit left."""
        return self.candidate.part if self.base.part == FULL else self.base.part


def read(path: Path, choices: AdoptionChoices = DEFAULT_CHOICES) -> Adopted:
    """Read the results of one model in whichever of the three forms they have.

    Raises:
        UsageError: no known results there, several runs, or files that cannot be read.
        IntegrityError: broken, incomplete or hostile files.
    """
    try:
        if not path.exists():
            raise UsageError(f"{path} does not exist: give a folder or file of results")
        kinds = [kind for kind, (files, _) in READERS.items() if files(path)]
        if len(kinds) != 1:
            what = " and ".join(kinds) or "neither lm-eval, lighteval nor Inspect"
            raise UsageError(f"{path}: holds {what} results: name a folder with those of one run")
        adopted = READERS[kinds[0]][1](path, choices)
    except OSError as error:
        raise UsageError(f"{error.filename or path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:  # what parses can still be too deep for a hash or a setting
        raise IntegrityError(f"{path}: nested too deeply") from error
    if not adopted.tasks:
        why = "; ".join(adopted.unscored.values()) or "no task was chosen"
        raise UsageError(f"{path}: nothing to judge: {why}")
    return adopted


def pair(base: Path, candidate: Path, choices: AdoptionChoices = DEFAULT_CHOICES) -> AdoptedPair:
    """Read both sides and refuse them unless they were made alike.

    Raises:
        UsageError: as `read`, or a choice about a task that is not there.
        IntegrityError: as `read`, or naming the task, item or setting that differs.
    """
    one, other = read(base, choices), read(candidate, choices)
    _check_used(choices, one, other)
    check_alike(one, other)
    return AdoptedPair(one, other, remarks(one, other))


def _check_used(choices: AdoptionChoices, base: Adopted, candidate: Adopted) -> None:
    """Refuse a choice for a task that is not there: a mistyped name would decide something."""
    tasks = {*base.listed, *candidate.listed, *base.tasks, *base.unscored}
    present = sorted(tasks)
    for name in choices.named():
        if not any(applies(name, task) for task in present):
            raise UsageError(f"{base.path}: no task is called {name!r}; has {', '.join(present)}")


def check_alike(base: Adopted, candidate: Adopted) -> None:
    """Raise `IntegrityError` for the first task, setting or item in which two results differ."""
    place = f"{base.path} and {candidate.path}"
    kinds = [side.harness.split()[0] for side in (base, candidate)]
    if kinds[0] != kinds[1]:
        raise IntegrityError(f"{place}: made by different harnesses: {kinds[0]} and {kinds[1]}")
    _check_tasks(place, base, candidate)
    scopes = [("run", base.settings, candidate.settings)]
    scopes += [(t, base.tasks[t].settings, candidate.tasks[t].settings) for t in sorted(base.tasks)]
    for scope, one, other in scopes:
        if differences := refused(one, other):
            raise IntegrityError(f"{place}: {scope}: {differences[0]}")
    for task in sorted(base.tasks):
        asked, also = base.tasks[task].asked, candidate.tasks[task].asked
        for key in asked.keys() & also.keys():
            if asked[key] != also[key]:
                raise IntegrityError(
                    f"{place}: {task}: the model was sent other requests for the item with "
                    f"doc_hash {key[0]}"
                )


def _check_tasks(place: str, base: Adopted, candidate: Adopted) -> None:
    """Both sides must have scores for the same tasks: a missing one could hide a loss."""
    for side, one, other in (
        ("base", base, candidate),
        ("candidate", candidate, base),
    ):
        for task in sorted(one.tasks.keys() - other.tasks.keys()):
            why = other.unscored.get(task, "it is not there for the other side")
            raise IntegrityError(
                f"{place}: only the {side} has scores for {_listed(one, other)}: {task}: {why}. "
                "Leave tasks out with --leave-out TASK, or choose some with --task TASK"
            )


def _listed(one: Adopted, other: Adopted) -> str:
    return ", ".join(sorted(one.tasks.keys() - other.tasks.keys()))


def remarks(base: Adopted, candidate: Adopted) -> list[str]:
    """Notes of the readers, then the differences that are allowed but should be seen."""
    lines = [*base.notes, *candidate.notes]
    for task in sorted(base.tasks):
        lines += [*base.tasks[task].notes, *candidate.tasks[task].notes]
    for task in sorted(base.unscored.keys() & candidate.unscored.keys()):
        lines.append(f"{task}: not judged: {base.unscored[task]}")
    if base.harness != candidate.harness:
        lines.append(f"harness: base {base.harness}, candidate {candidate.harness}")
    lines += remarked(base.settings, candidate.settings)
    for task in sorted(base.tasks):
        one, other = base.tasks[task].settings, candidate.tasks[task].settings
        lines += [f"{task}: {line}" for line in remarked(one, other)]
    return list(dict.fromkeys(lines))
