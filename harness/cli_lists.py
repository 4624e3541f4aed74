"""The verbs that list what there is: suites, methods, bases."""

from __future__ import annotations

import typer

from retainbench.harness.cli_suite import screen
from retainbench.harness.quiet import quieten


def suites() -> None:
    """List the packaged suites."""
    from retainbench.harness import suite as suite_files

    for name in suite_files.available():
        screen.print(f"{name:20} {suite_files.read(name).description}")


def methods() -> None:
    """List the post-training methods with paper, adaptations, anchors and options."""
    from retainbench.trainers import _describe

    screen.print(_describe.terminal())


def list_bases() -> None:
    """List named bases and where they are."""
    from retainbench.harness import bases

    for name, folder in bases.named().items():
        typer.echo(f"{name:16} {folder if folder.exists() else 'not fetched'}")


def fetch(name: str) -> None:
    """Download a named base and convert it to safetensors in the user's cache."""
    from retainbench.harness import bases

    quieten()
    typer.echo(bases.fetch(name))
