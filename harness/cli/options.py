"""Options and arguments that several verbs share, and the screen that they print on."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

screen = Console(highlight=False, width=None if sys.stdout.isatty() else 180)

SuiteName = Annotated[str, typer.Argument(help="Name of a packaged suite, or a YAML file.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder.")]


def _use_packs(folders: list[Path] | None) -> list[Path] | None:
    """Make the tasks of the packs known, each verified, before the verb runs."""
    if folders:
        from retainbench.harness.tasks import catalogue

        catalogue.use_packs(folders)
    return folders


Packs = Annotated[
    list[Path] | None,
    typer.Option(
        "--pack",
        callback=_use_packs,
        help="A pack of frozen tasks (`retainbench freeze`); a suite gets all of them. Repeat.",
    ),
]


def _allow_task_code(allowed: bool) -> bool:
    if allowed:
        from retainbench.harness.tasks import scoring_code

        os.environ[scoring_code.VARIABLE] = "1"
    return allowed


TaskCode = Annotated[
    bool,
    typer.Option(
        "--allow-task-code",
        callback=_allow_task_code,
        help="Let packs be scored by the installed lm-eval's code, where they name it.",
    ),
]
TrainData = Annotated[
    list[Path] | None,
    typer.Option(
        help="JSON Lines that the model was trained on: retention items in it follow the policy's "
        "`contaminated`. Repeat.",
    ),
]
Device = Annotated[str, typer.Option(help="torch device: cpu, cuda, cuda:1, ...")]
