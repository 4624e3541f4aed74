"""A drift report on a terminal: whole, module kinds, matrices where they were asked for, notes.

Reads and writes nothing; `retainbench drift` prints it. Left out: layers and single tensors without
a spectrum, which `--out` writes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from retainbench.harness.core.text import terminal as core_terminal
from retainbench.harness.core.text.escaping import terminal as printable
from retainbench.harness.core.text.formatting import NONE
from retainbench.harness.drift.records import DriftReport, GroupDrift, Spectrum, Subspace

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table

KINDS = ("kind", "tensors", "relative", "share of change", "unchanged")
SPECTRA = ("matrix", "shape", "norm", "stable rank", "numerical rank", "90 % rank")
SUBSPACES = ("matrix", "k", "left", "right", "overlap", "shift", "mask")
MEANING = (
    "left, right: share of the change inside the base's top-k singular subspaces; overlap: mean "
    "squared cosine between base's and candidate's; shift: of the singular values; mask: share of "
    "the changed entries where the base's rank-k part is largest. Brackets: a random change."
)


def terminal(report: DriftReport) -> Group:
    """Everything that was measured, and what was left out or counted once."""
    from rich.console import Group
    from rich.text import Text

    spectra = [_spectrum(t.name, t.shape, t.spectrum) for t in report.tensors if t.spectrum]
    subspaces = [_subspace(t.name, t.subspace) for t in report.tensors if t.subspace]
    parts: list[RenderableType] = [Text(_whole(report.overall)), _kinds(report.kinds)]
    if spectra:
        parts += [Text(), core_terminal.table(SPECTRA, spectra, "llrrrr", "Change of each matrix")]
    if subspaces:
        parts += [Text(), core_terminal.table(SUBSPACES, subspaces, "lrrrrrr", "Where it points")]
        parts.append(Text(MEANING, style="dim"))
    return Group(*parts, *map(Text, _remarks(report)))


def _whole(whole: GroupDrift) -> str:
    return (
        f"Frobenius {whole.frobenius:.6g}  relative {_number(whole.relative)}  "
        f"largest {whole.max_abs:.3g}  unchanged {whole.unchanged.exact:.4f}"
    )


def _kinds(kinds: Sequence[GroupDrift]) -> Table:
    rows = [
        (
            kind.group,
            str(kind.tensors),
            _number(kind.relative),
            f"{kind.squared_share:.3f}",
            f"{kind.unchanged.exact:.4f}",
        )
        for kind in kinds
    ]
    return core_terminal.table(KINDS, rows, "lrrrr")


def _spectrum(name: str, shape: list[int], found: Spectrum) -> tuple[str, ...]:
    return (
        name,
        " x ".join(map(str, shape)),
        _number(found.norm),
        _number(found.stable_rank),
        _number(found.numerical_rank),
        _number(found.energy_rank),
    )


def _subspace(name: str, found: Subspace) -> tuple[str, ...]:
    return (
        name,
        str(found.rank),
        f"{found.left:.3f} ({found.left_random:.3f})",
        f"{found.right:.3f} ({found.right_random:.3f})",
        f"{found.overlap:.3f} ({found.overlap_random:.3f})",
        _number(found.shift),
        f"{found.mask:.3f} ({found.mask_random:.3f})",
    )


def _remarks(report: DriftReport) -> list[str]:
    """Notes, and the names that are not counted."""
    lines = [f"Note: {printable(note)}" for note in report.notes]
    if report.tied:
        lines.append(f"Tied, counted once: {', '.join(map(printable, report.tied))}")
    if report.buffers:
        lines.append(f"Buffers, not counted: {', '.join(map(printable, report.buffers))}")
    return lines


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:.4g}"
