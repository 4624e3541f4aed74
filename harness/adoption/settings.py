"""Settings of two foreign runs compared: what changes the questions refuses, the rest is shown.

A setting matters by its effect. Prompts, ids and items are compared item by item elsewhere
(`adoption/pair.py`), so the texts of options that only make prompts are shown and decide nothing.
What acts without a trace in the rows (BOS, scoring code, decoding) must be equal. A key that one
release does not record cannot differ; memory addresses in the names of functions never do. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
LONGEST_SHOWN = 400
"""Characters of a value that are shown whole; of a longer one, the part around the difference."""
CONTEXT = 100


@dataclass(frozen=True)
class ComparedSettings:
    """The settings of a run or of one task, by what a difference means."""

    equal: Mapping[str, Any] = field(default_factory=dict)
    """A difference changes the questions or their scoring: it is refused."""
    shown: Mapping[str, Any] = field(default_factory=dict)
    """A difference is a remark."""


class SettingDifference(NamedTuple):
    """One value that differs, with the path of its keys."""

    path: str
    base: Any
    candidate: Any

    def __str__(self) -> str:
        base, candidate = _shown(self.base, self.candidate)
        return f"{self.path} differs: base {base}, candidate {candidate}"


def recorded(table: Mapping[str, Any] | None, keys: Iterable[str]) -> dict[str, Any]:
    """The values of those keys that a release recorded."""
    return {key: table[key] for key in keys if key in table} if table else {}


def refused(base: ComparedSettings, candidate: ComparedSettings) -> list[SettingDifference]:
    """Differences that make two results different measurements; both sides record the key."""
    both = sorted(base.equal.keys() & candidate.equal.keys())
    pairs = ((key, base.equal[key], candidate.equal[key]) for key in both)
    return [difference for pair in pairs for difference in _differences(*pair)]


def remarked(base: ComparedSettings, candidate: ComparedSettings) -> list[str]:
    """One line for each difference that is shown, and for each key that one side records."""
    lines = []
    for one, other, both in (
        (base.equal, candidate.equal, False),
        (base.shown, candidate.shown, True),
    ):
        for key in sorted(one.keys() | other.keys()):
            if key in one and key in other:
                lines += [str(d) for d in _differences(key, one[key], other[key]) if both]
            else:
                lines += _one_side(key, one, other)
    return lines


def _one_side(key: str, base: Mapping[str, Any], candidate: Mapping[str, Any]) -> list[str]:
    side = "base" if key in base else "candidate"
    value = (base if key in base else candidate)[key]
    if _is_empty(value):
        return []
    return [f"{key} is recorded for the {side} only: {_shown(value, value)[0]}"]


def _differences(path: str, base: Any, candidate: Any) -> Iterator[SettingDifference]:
    base, candidate = _plain(base), _plain(candidate)
    if base == candidate or (_is_empty(base) and _is_empty(candidate)):
        return
    if isinstance(base, Mapping) and isinstance(candidate, Mapping):
        for key in sorted(base.keys() | candidate.keys(), key=str):
            yield from _differences(f"{path}.{key}", base.get(key), candidate.get(key))
    elif isinstance(base, list) and isinstance(candidate, list) and len(base) == len(candidate):
        for place, (one, other) in enumerate(zip(base, candidate, strict=True)):
            yield from _differences(f"{path}[{place}]", one, other)
    else:
        yield SettingDifference(path, base, candidate)


def _is_empty(value: Any) -> bool:
    """Whether a value means the same as a key that is not recorded (0 does not)."""
    return value is None or value is False or (isinstance(value, (str, dict, list)) and not value)


def _plain(value: Any) -> Any:
    """A setting without memory addresses; functions as their names, tuples as lists."""
    if isinstance(value, str) or callable(value):
        return ADDRESS.sub("", str(value))
    return list(value) if isinstance(value, tuple) else value


def _shown(base: Any, candidate: Any) -> tuple[str, str]:
    """Both values; of long ones the parts around the first place where they differ."""
    texts = repr(base), repr(candidate)
    if max(map(len, texts)) <= LONGEST_SHOWN:
        return texts
    pairs = enumerate(zip(*texts, strict=False))
    place = next((at for at, (one, other) in pairs if one != other), min(map(len, texts)))
    start = max(0, place - CONTEXT)
    cut = [text[start : place + CONTEXT] for text in texts]
    return f"...{cut[0]}... (from character {start})", f"...{cut[1]}..."
