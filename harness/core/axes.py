"""What a retention task is about: general, numeric and temporal by default, any word in a suite.

An axis groups retention tasks; tables, figures and the report show those that the scored tasks
have. `target` is not an axis of retention: it marks the new task. Reads and writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator, StringConstraints

TARGET = "target"
DEFAULT = ("general", "numeric", "temporal")
"""The axes of the package's own tasks, in the order of every table."""
MOST = 8
"""Axes of one suite; a table has a column for each."""
WORD = r"^[a-z][a-z0-9_]{0,29}$"
HELP = "general, numeric, temporal or any lower-case word such as safety"


def _of_retention(axis: str) -> str:
    if axis == TARGET:
        raise ValueError(f"'{TARGET}' is the new task, not an axis of retention. Write {HELP}")
    return axis


Axis = Annotated[str, StringConstraints(pattern=WORD)]
RetentionAxis = Annotated[Axis, AfterValidator(_of_retention)]


def ordered(axes: Iterable[str]) -> tuple[str, ...]:
    """The different retention axes among some: the default ones first, then others by name.

    >>> ordered(["safety", "target", "temporal", "code", "general", "code"])
    ('general', 'temporal', 'code', 'safety')
    """
    present = set(axes) - {TARGET}
    return (*(axis for axis in DEFAULT if axis in present), *sorted(present - set(DEFAULT)))
