"""A rule of a contract and its result. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from retainbench.harness.core.errors import RetainbenchError


class Rule(NamedTuple):
    """One line of `retainbench check`."""

    name: str
    passed: bool
    why: str = ""
    """What is wrong, where, and what to do; empty where it passed."""


def ruled(name: str, find: Callable[[], str]) -> Rule:
    """A rule from a function that returns what is wrong; an error of the user's code counts."""
    try:
        why = find()
    except Exception as error:  # noqa: BLE001 - the user's code: anything can come out of it
        why = one_line(error)
    return Rule(name, not why, why)


def one_line(error: BaseException) -> str:
    """An error on one line; ours say what is wrong without their type's name."""
    if isinstance(error, RetainbenchError):
        return str(error)
    return " ".join(f"{type(error).__name__}: {error}".split())


def all_of(found: Iterable[tuple[str, Callable[[], str]]]) -> Iterator[Rule]:
    """Rules one after another, as they are checked."""
    for name, find in found:
        yield ruled(name, find)
