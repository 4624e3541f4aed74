"""Options and arguments that several verbs share, each checked before the verb does anything."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from retainbench.harness.core import axes
from retainbench.harness.core.errors import UsageError
from retainbench.harness.models.placement import DeviceMap, Dtype

DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d{1,3})?")


def retention_axis(axis: str) -> str:
    """Callback of an option: refuse what is not the name of an axis."""
    if axis == axes.TARGET or not re.fullmatch(axes.WORD, axis):
        raise UsageError(f"--axis {axis}: not a retention axis. Write {axes.HELP}")
    return axis


def out_folder(folder: Path | None) -> Path | None:
    """Callback of an option: refuse a folder that cannot be made or written, before any work."""
    if folder is not None:
        _check_place(folder, folder)
    return folder


def out_file(file: Path | None) -> Path | None:
    """Callback of an option: refuse a file that cannot be written, before any work."""
    if file is not None:
        _check_place(file, file.parent)
        if file.is_dir():
            raise UsageError(f"cannot write {file}: it is a folder. Name a file")
    return file


def refuse_unused(context: typer.Context, asked: str, *names: str) -> None:
    """Refuse options that were given though what was asked for does not use them.

    Args:
        context: of the running verb.
        asked: what the user asked for, such as "a run folder" or "--jsonl".
        names: parameters of the verb that it does not use.

    Raises:
        UsageError: an option that is ignored would look as if it had an effect.
    """
    given = {name for name in names if _was_given(context, name)}
    options = [each.opts[0] for each in context.command.params if each.name in given]
    if options:
        raise UsageError(f"{', '.join(options)}: no effect with {asked}. Leave it out")


def _was_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _check_place(path: Path, folder: Path) -> None:
    """Raise `UsageError` unless `folder` is one, or can become one, and can be written."""
    try:
        os.lstat(path)  # looks the name up: too long, below a file, not readable
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot write {path}: {getattr(error, 'strerror', error)}") from error
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise UsageError(f"cannot write {path}: {nearest} is a file. Name a folder")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"cannot write {path}: no permission to write to {nearest}")


def _check_device(device: str) -> str:
    """Refuse what is not a device of this machine; only an accelerator needs torch to know."""
    if not DEVICE.fullmatch(device):
        raise UsageError(f"--device: '{device}' is not a device. Write cpu, cuda, cuda:1, mps, ...")
    kind, _, number = device.partition(":")
    if kind != "cpu":
        import torch

        accelerator = getattr(torch, kind)
        if not accelerator.is_available() or int(number or 0) >= accelerator.device_count():
            raise UsageError(f"--device: this machine or this PyTorch has no {device}. Write cpu")
    elif int(number or 0) > 0:
        raise UsageError(f"--device: there is one cpu device. Write cpu instead of {device}")
    return device


SuiteName = Annotated[str, typer.Argument(help="Name of a packaged suite, or a YAML file.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]
Packs = Annotated[
    list[Path] | None,
    typer.Option(
        "--pack",
        help="Folder of tasks from `retainbench freeze`, added to the suite. Repeat for several.",
    ),
]
AllowCode = Annotated[
    bool,
    typer.Option(
        "--allow-code",
        "--allow-task-code",
        help="Run code that packs bring (reward.py) or name (of the installed lm-eval).",
    ),
]
TrainData = Annotated[
    list[Path] | None,
    typer.Option(
        help="JSON Lines that the model was trained on; the policy's `contaminated` decides about "
        "retention items in it. Repeat for several.",
    ),
]
Device = Annotated[
    str, typer.Option(callback=_check_device, help="torch device: cpu, cuda, cuda:1, ...")
]
Precision = Annotated[
    Dtype,
    typer.Option("--dtype", help="Precision of the model; auto is the one that it is stored in."),
]
Spread = Annotated[
    DeviceMap | None,
    typer.Option("--device-map", help="auto spreads the layers over the GPUs of this machine."),
]
ENGINES = "transformers (default), llama.cpp (GGUF files), or lm-eval:NAME (any model of lm-eval)"
EngineArguments = Annotated[
    str,
    typer.Option(
        "--engine-args",
        help="key=value,... for an engine other than transformers, such as "
        "base_url=http://127.0.0.1:8000/v1/completions,model=NAME.",
    ),
]
Workers = Annotated[
    int,
    typer.Option(min=1, help="Processes that share the items of a model, and the cores or GPUs."),
]
ScoringExecutor = Annotated[
    Literal["local", "ray"],
    typer.Option(
        "--executor", help="Where they run: this machine, or a Ray cluster ($RAY_ADDRESS or local)."
    ),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what the folder holds.")]
