"""Measure speed next to the tools people use today, in one run on one machine; publish the page.

`<what>.py` measures and says what its rows show; this file chooses, prints rows as they come and,
with `--out`, publishes (page.py). Each measurement alternates ours and the peer's, so that a
machine that is busy with other work slows both.

Command, from the repository's root: `python -m results.performance.build WHAT [--base BASE]
[--items N] [--task TASK] [--repeats N] [--pack FOLDER] [--device D] [--dtype T] [--out DIR]`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from results.performance import page
from results.performance.page import What
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.process import quieten

TAKES: dict[What, tuple[str, ...]] = {
    "scoring": ("base", "items", "task", "device", "dtype", "pack"),
    "growth": ("base", "device", "dtype"),
    "startup": (),
    "eggroll": ("base", "device"),
    "rollout": ("base", "items", "device", "dtype"),
    "drift": (),
    "matrix": (),
    "gate": (),
}
"""Which options a measurement has, in addition to `repeats`."""


class Options(NamedTuple):
    """What can be chosen; None keeps the measurement's own default."""

    repeats: int = 3
    base: str | None = None
    items: int | None = None
    device: str | None = None
    dtype: str | None = None
    pack: tuple[Path, ...] = ()
    """Packs whose tasks are timed too."""
    task: tuple[str, ...] = ()
    """Names of the tasks to time; empty takes all."""


def bench(what: What, options: Options, out: Path | None, show: Callable[[str], None]) -> None:
    """Measure, show rows as they come and what they mean, publish.

    Raises:
        UsageError: an option that the measurement does not have.
    """
    chosen = _chosen(what, options)
    module = page.module(what)
    rows: list[Any] = []
    for line in page.aligned(_kept(module.bench(repeats=options.repeats, **chosen), rows)):
        show(line)
    for line in module.findings([row._asdict() for row in rows]):
        show(line)
    if out:
        base = [Path(chosen["base"]).name] if "base" in chosen else []
        name = "-".join([what, *base, *options.task])
        how = page.measured(
            what, command(what, options, out), options.repeats, _accelerator(options.device)
        )
        page.write(out, name, rows, how)


def _chosen(what: What, options: Options) -> dict[str, Any]:
    """The options to pass on, by name."""
    names = ("base", "items", "task", "device", "dtype", "pack")
    given = {name: getattr(options, name) for name in names}
    given = {name: value for name, value in given.items() if value not in (None, ())}
    for name in given:
        if name not in TAKES[what]:
            raise UsageError(f"--{name} is not an option of {what}. Leave it out.")
    return ({"base": "fruitfly"} if "base" in TAKES[what] else {}) | given


def _kept(rows: Iterator[Any], kept: list[Any]) -> Iterator[Any]:
    for row in rows:
        kept.append(row)
        yield row


def command(what: What, options: Options, out: Path) -> str:
    """The command line that does the same, without paths of this machine."""
    parts = [f"python -m results.performance.build {what}"]
    for name in ("base", "items", "repeats", "device", "dtype"):
        value = getattr(options, name)
        if value is not None:
            parts.append(f"--{name} {Path(str(value)).name}")
    parts += [f"--task {name}" for name in options.task]
    parts += [f"--pack {folder.name}" for folder in options.pack]
    return " ".join([*parts, f"--out {out.parent.name}/{out.name}"])


def _accelerator(device: str | None) -> str | None:
    if device is None or not device.startswith("cuda"):
        return None
    import torch

    return str(torch.cuda.get_device_name(device))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(prog="python -m results.performance.build")
    parser.add_argument("what", choices=get_args(What))
    parser.add_argument("--base", help="model; default: the embedded fruitfly")
    parser.add_argument("--items", type=int, help="so many items per task, or prompts (rollout)")
    parser.add_argument("--task", action="append", default=[], help="time this task only; repeat")
    parser.add_argument("--repeats", type=int, default=3, help="rounds")
    parser.add_argument("--pack", type=Path, action="append", default=[], help="a pack; repeat")
    parser.add_argument("--device", help="torch device; default: cpu")
    parser.add_argument("--dtype", help="torch dtype; default: float32")
    parser.add_argument("--out", type=Path, help="folder to publish to: results/performance")
    given = parser.parse_args(arguments)
    quieten()
    packs = tuple(given.pack)
    options = Options(
        given.repeats, given.base, given.items, given.device, given.dtype, packs, tuple(given.task)
    )
    try:
        bench(given.what, options, given.out, print)
    except UsageError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
