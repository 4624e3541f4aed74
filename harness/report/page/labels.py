"""Where the names of the marks in a figure go: near their own mark, and covering nothing.

Pure: rows in, rows with `label`, `label_x`, `label_y` and `label_side` out. Greedy, in the order of
distance from the crowd: the first free place of a few around each mark; a mark without one keeps an
empty label, for the legend names it too. Widths are estimates, so that no font is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from retainbench.harness.report.page.points import Datum

LETTER = 5.7  # pixels of an average letter at the labels' size of 10 pixels
HEIGHT = 11
SLACK = 0.5  # pixels by which a name may be nearer to another mark than to its own
MARK = 6  # half the side of a mark's square


class LabelBox(NamedTuple):
    """A rectangle in pixels, y downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: LabelBox) -> bool:
        """Whether the two share more than an edge."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def gap(self, other: LabelBox) -> float:
        """Pixels from this box to the other's centre."""
        x, y = (other.left + other.right) / 2, (other.top + other.bottom) / 2
        across = max(self.left - x, x - self.right, 0.0)
        along = max(self.top - y, y - self.bottom, 0.0)
        return math.hypot(across, along)


class LabelPlace(NamedTuple):
    """Offset of a label's anchor from its mark, and the side of the text that is anchored."""

    x: float
    y: float
    side: str


PLACES = (
    LabelPlace(7, -11, "left"),
    LabelPlace(7, 11, "left"),
    LabelPlace(-7, -11, "right"),
    LabelPlace(-7, 11, "right"),
    LabelPlace(0, -13, "center"),
    LabelPlace(0, 13, "center"),
    LabelPlace(0, -25, "center"),
    LabelPlace(0, 25, "center"),
    LabelPlace(9, 0, "left"),
    LabelPlace(-9, 0, "right"),
)
"""In order of preference: off the bars of an interval first, on them last."""


def labelled(
    rows: Sequence[Datum],
    name: str,
    place: Callable[[Datum], tuple[float, float]],
    frame: LabelBox,
    wanted: Sequence[int],
) -> list[Datum]:
    """The rows of one panel, each with the text and the offset of its label.

    Args:
        name: field whose value is written.
        place: pixels of a row's mark.
        frame: the panel; labels stay inside.
        wanted: numbers of the rows that want a label; the others only take up room.
    """
    marks = [_around(*place(row)) for row in rows]
    order = sorted(wanted, key=lambda n: sum(_near(marks[n], one) for one in marks))
    taken = list(marks)
    found: dict[int, LabelPlace] = {}
    for n in order:
        text, (x, y) = str(rows[n][name]), place(rows[n])
        for candidate in PLACES:
            box = _text(x + candidate.x, y + candidate.y, candidate.side, LETTER * len(text))
            free = not any(box.meets(one) for one in taken)
            own = all(box.gap(marks[n]) <= box.gap(one) + SLACK for one in marks)
            if free and own and _inside(box, frame):
                found[n] = candidate
                taken.append(box)
                break
    return [{**row, **_fields(row, name, found.get(n))} for n, row in enumerate(rows)]


def domain(values: Iterator[float], room: float = 0.05) -> tuple[float, float]:
    """Limits of an axis that holds all values and zero, with a margin of a twentieth.

    Args:
        room: margin at the upper end, as a share; names of the last marks need more.
    """
    found = [0.0, *values]
    span = max(max(found) - min(found), 1.0)
    return min(found) - span / 20, max(found) + span * room


def _fields(row: Datum, name: str, place: LabelPlace | None) -> Datum:
    if place is None:
        return {"label": "", "label_x": 0.0, "label_y": 0.0, "label_side": "left"}
    offsets: Datum = {"label_x": place.x, "label_y": place.y, "label_side": place.side}
    return {"label": row[name], **offsets}


def _around(x: float, y: float) -> LabelBox:
    return LabelBox(x - MARK, y - MARK, x + MARK, y + MARK)


def _near(one: LabelBox, other: LabelBox) -> bool:
    return abs(one.left - other.left) < 60 and abs(one.top - other.top) < 2 * HEIGHT


def _text(x: float, y: float, side: str, width: float) -> LabelBox:
    left = x - {"left": 0.0, "center": width / 2, "right": width}[side]
    return LabelBox(left, y - HEIGHT / 2, left + width, y + HEIGHT / 2)


def _inside(box: LabelBox, frame: LabelBox) -> bool:
    return (
        box.left >= frame.left
        and box.right <= frame.right
        and box.top >= frame.top
        and box.bottom <= frame.bottom
    )
