"""Other clocks and other random states, to find out whether a function depends on them.

While `elsewhere` is open, `time` and `datetime` show another time and the global random generators
have another state; both are put back. What bypasses them (a clock read through ctypes) is not seen.
"""

from __future__ import annotations

import datetime
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import numpy as np

CLOCKS = ("time", "monotonic", "perf_counter", "process_time")


@contextmanager
def elsewhere(seconds: float, seed: int) -> Iterator[None]:
    """Another time, `seconds` from now, and global generators seeded with `seed`."""
    before = (random.getstate(), np.random.get_state())
    kept = [(time, name, getattr(time, name)) for name in _names()]
    kept += [(datetime, name, getattr(datetime, name)) for name in ("datetime", "date")]
    try:
        for module, name, value in kept:
            setattr(module, name, _moved(module, name, value, seconds))
        random.seed(seed)
        np.random.seed(seed)
        yield
    finally:
        for module, name, value in kept:
            setattr(module, name, value)
        random.setstate(before[0])
        np.random.set_state(before[1])


def _names() -> list[str]:
    return [*CLOCKS, *(f"{name}_ns" for name in CLOCKS)]


def _moved(module: Any, name: str, value: Any, seconds: float) -> Any:
    if module is time:
        step = int(seconds * 1e9) if name.endswith("_ns") else seconds
        return lambda: value() + step
    return _datetime(seconds) if name == "datetime" else _date(seconds)


def _datetime(seconds: float) -> type[datetime.datetime]:
    later, real = datetime.timedelta(seconds=seconds), datetime.datetime

    class LaterDatetime(real):  # type: ignore[valid-type, misc]
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Self:
            return cls._of(real.now(tz) + later)

        @classmethod
        def utcnow(cls) -> Self:
            return cls._of(real.now(datetime.UTC).replace(tzinfo=None) + later)

        @classmethod
        def today(cls) -> Self:
            return cls.now()

        @classmethod
        def _of(cls, moment: datetime.datetime) -> Self:
            return cls.combine(moment.date(), moment.timetz())

    return LaterDatetime


def _date(seconds: float) -> type[datetime.date]:
    later, real, moment = datetime.timedelta(seconds=seconds), datetime.date, datetime.datetime

    class LaterDate(real):  # type: ignore[valid-type, misc]
        @classmethod
        def today(cls) -> Self:
            found = moment.now() + later
            return cls(found.year, found.month, found.day)

    return LaterDate
