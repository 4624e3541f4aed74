"""Speed measured beside the peers, in one run on one machine.

`bench_<what>.py` measures and says what its rows show; this file chooses, prints as rows come and,
with `--out`, publishes (bench/page.py). Each measurement alternates ours and the peer's, so that a
machine that is busy with other things slows both.

Command: `retainbench bench WHAT [--base BASE] [--items N] [--task TASK] [--repeats N] [--out DIR]`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.bench.page import What
from retainbench.harness.core.errors import UsageError

TAKES: dict[What, tuple[str, ...]] = {
    "scoring": ("base", "items", "task", "device", "dtype"),
    "growth": ("base", "device", "dtype"),
    "startup": (),
    "eggroll": ("base", "device"),
    "rollout": ("base", "items", "device", "dtype"),
    "drift": (),
    "matrix": (),
    "gate": (),
}
"""Which options a measurement has, beside `repeats`."""


class Options(NamedTuple):
    """What can be chosen; None where the measurement's own default holds."""

    repeats: int = 3
    base: str | None = None
    items: int | None = None
    device: str | None = None
    dtype: str | None = None
    packs: tuple[str, ...] = ()
    """Names of the packs in use, for the record."""
    task: tuple[str, ...] = ()
    """Names of the tasks to time; empty takes all."""


def bench(what: What, options: Options, out: Path | None, say: Callable[[str], None]) -> None:
    """Measure, print rows as they come, say what they show, publish.

    Raises:
        UsageError: an option that the measurement does not have.
    """
    from retainbench.harness.bench import page as bench_page

    chosen = _chosen(what, options)
    module = bench_page.module(what)
    rows: list[Any] = []
    for line in bench_page.aligned(_kept(module.bench(repeats=options.repeats, **chosen), rows)):
        say(line)
    stored = [row._asdict() for row in rows]
    for line in module.findings(stored):
        say(line)
    if out:
        named = [Path(chosen["base"]).name] if "base" in chosen else []
        name = "-".join([what, *named, *options.task])
        how = bench_page.measured(
            what, command(what, options, out), options.repeats, _accelerator(options.device)
        )
        bench_page.write(out, name, rows, how)


def _chosen(what: What, options: Options) -> dict[str, Any]:
    given = {"base": "fruitfly" if "base" in TAKES[what] else None}
    given |= {
        name: value
        for name in ("base", "items", "task", "device", "dtype")
        if (value := getattr(options, name)) not in (None, ())
    }
    found = {name: value for name, value in given.items() if value is not None}
    for name in found:
        if name not in TAKES[what]:
            raise UsageError(f"--{name} is not an option of `bench {what}`: leave it out")
    return found


def _kept(rows: Iterator[Any], kept: list[Any]) -> Iterator[Any]:
    for row in rows:
        kept.append(row)
        yield row


def command(what: What, options: Options, out: Path) -> str:
    """The command line that does the same, without paths of this machine."""
    parts = [f"retainbench bench {what}"]
    for name in ("base", "items", "repeats", "device", "dtype"):
        value = getattr(options, name)
        if value is not None:
            parts.append(f"--{name} {Path(str(value)).name}")
    parts += [f"--task {name}" for name in options.task]
    parts += [f"--pack {name}" for name in options.packs]
    return " ".join([*parts, f"--out {out.parent.name}/{out.name}"])


def _accelerator(device: str | None) -> str | None:
    if device is None or not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(device))
