"""Results that other harnesses wrote, for base and candidate -> item records that can be judged.

Reads lm-eval (`samples_*.jsonl` + `results_*.json`), lighteval (details Parquet + results JSON) and
Inspect (`.eval`, `.json`) without running a model, and without torch. Two results are a pair only
if they were made alike: the number of shots, chat template, tokenizer, task version and hash, limit
and generation settings must be equal, else `IntegrityError`. What may differ (versions of
libraries, dtype, batch size) is returned as remarks to print. Results of a limited run are marked
as a part of the items, with which nothing passes.

Command: `retainbench compare --base-results DIR --candidate-results DIR [--axis TASK=AXIS] ...`
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.adoption import inspect_ai, lighteval
from retainbench.harness.adoption import lm_eval as adopt_lm_eval
from retainbench.harness.adoption.items import DEFAULT_CHOICES, Adopted, Choices, applies
from retainbench.harness.adoption.json_files import shorten
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.verdicts import FULL

__all__ = ["Adopted", "Choices", "Pair", "pair", "read"]


class Pair(NamedTuple):
    """Results of base and candidate that were made alike."""

    base: Adopted
    candidate: Adopted
    remarks: list[str]
    """One line each: what was decided while reading, and what differs without being refused."""

    @property
    def part(self) -> str:
        """Which items were scored: `full`, or what a limit left."""
        return self.candidate.part if self.base.part == FULL else self.base.part


def read(path: Path, choices: Choices = DEFAULT_CHOICES) -> Adopted:
    """Read the results of one model in whichever of the three forms they have.

    Raises:
        UsageError: no known results there, or several runs.
        IntegrityError: broken, incomplete or hostile files.
    """
    if not path.exists():
        raise UsageError(f"{path} does not exist: give a folder or file of results")
    found = {
        "lm-eval": adopt_lm_eval.results_files(path),
        "lighteval": lighteval.details_files(path),
        "Inspect": inspect_ai.log_files(path),
    }
    kinds = [kind for kind, files in found.items() if files]
    if len(kinds) != 1:
        what = " and ".join(kinds) or "neither lm-eval, lighteval nor Inspect"
        raise UsageError(f"{path}: holds {what} results: name a folder with those of one run")
    readers = {
        "lm-eval": adopt_lm_eval.read,
        "lighteval": lighteval.read,
        "Inspect": inspect_ai.read,
    }
    return readers[kinds[0]](path, choices)


def pair(base: Path, candidate: Path, choices: Choices = DEFAULT_CHOICES) -> Pair:
    """Read both sides and refuse them unless they were made alike.

    Raises:
        UsageError: as `read`, or a choice about a task that is not there.
        IntegrityError: as `read`, or naming the setting that differs.
    """
    one, other = read(base, choices), read(candidate, choices)
    _check_used(choices, one)
    check_alike(one, other)
    return Pair(one, other, remarks(one, other))


def _check_used(choices: Choices, found: Adopted) -> None:
    """Refuse a choice for a task that is not there: a mistyped name would decide something."""
    present = sorted(found.settings.keys() - {"run"})
    for name in (name for table in vars(choices).values() for name in table):
        if not any(applies(name, task) for task in present):
            raise UsageError(f"{found.path}: no task is called {name!r}; has {', '.join(present)}")


def check_alike(base: Adopted, candidate: Adopted) -> None:
    """Raise `IntegrityError` for the first task or setting in which two results differ."""
    where = f"{base.path} and {candidate.path}"
    kinds = [side.harness.split()[0] for side in (base, candidate)]
    if kinds[0] != kinds[1]:
        raise IntegrityError(f"{where}: made by different harnesses: {kinds[0]} and {kinds[1]}")
    if base.settings.keys() != candidate.settings.keys():
        only = sorted(base.settings.keys() ^ candidate.settings.keys())
        raise IntegrityError(f"{where}: only one of them has {', '.join(only)}")
    for scope in sorted(base.settings):
        one, other = base.settings[scope], candidate.settings[scope]
        for key in sorted(one.keys() | other.keys()):
            if one.get(key) != other.get(key):
                raise IntegrityError(f"{where}: {scope}: {_difference(key, one, other)}")


def remarks(base: Adopted, candidate: Adopted) -> list[str]:
    """Notes of the readers, then the differences that are allowed but should be seen."""
    lines = list(dict.fromkeys([*base.notes, *candidate.notes]))
    if base.harness != candidate.harness:
        lines.append(f"harness: base {base.harness}, candidate {candidate.harness}")
    for key in sorted(base.remarks.keys() | candidate.remarks.keys()):
        if base.remarks.get(key) != candidate.remarks.get(key):
            lines.append(_difference(key, base.remarks, candidate.remarks))
    return lines


def _difference(key: str, one: dict[str, Any], other: dict[str, Any]) -> str:
    return f"{key} differs: base {shorten(one.get(key))}, candidate {shorten(other.get(key))}"
