"""Every key of a suite and of a policy with its default and meaning, read from the models.

Writes suites/KEYS.md, which a test compares with `markdown()`. After a change of `core/schema.py`
or `core/stages.py` run `python -m retainbench.harness.suites.keys`. `retainbench schema suite`
prints the same as JSON Schema.
"""

from __future__ import annotations

from pydantic import BaseModel

from retainbench.harness.core import paths, schema, stages
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.core.text import markdown as table
from retainbench.harness.suites.describe import options

PARTS: dict[str, tuple[str, type[BaseModel]]] = {
    "Suite": ("The file itself.", schema.Suite),
    "budget": ("What every recipe may spend.", schema.Budget),
    "recipes": ("One entry a recipe: these keys, or those of its only stage.", stages.Recipe),
    "stages": ("One entry a stage.", stages.Stage),
    "adaptation": ("Which parameters of a stage move.", stages.Adaptation),
    "adaptation of PEFT": (
        "Any other adapter; further keys are those of PEFT's config.",
        stages.AnyAdapter,
    ),
    "anchor": ("Of a stage.", stages.Anchor),
    "replay": ("Of a stage.", stages.Replay),
    "resources": ("Of a recipe, for `--executor ray` and `slurm`.", stages.Resources),
    "policy": (
        "Of a suite, or a file of its own for `--policy`. Margins are shares: 0.05 is 5 points.",
        schema.Policy,
    ),
    "sweep": ("Of a suite; `{}` takes every default.", schema.Sweep),
    "format": ("Of a suite.", schema.Format),
    "scoring": ("Of a suite.", schema.Sampling),
    "sources": ("One entry a task, for `retainbench freeze --suite`.", schema.Source),
}
"""Heading -> what it is about, and the model that has its keys."""


def markdown() -> str:
    """suites/KEYS.md."""
    lines = [
        "# Keys of a suite",
        "",
        "This page is made from the code: `python -m retainbench.harness.suites.keys`. An unknown",
        "key is refused with the nearest one that there is. [README.md](README.md) has examples.",
    ]
    for heading, (about, model) in PARTS.items():
        lines += ["", f"## {heading}", "", about, ""]
        lines += table.header(("key", "default", "meaning"), "lll")
        for key in options(model):
            part = isinstance(model.model_fields[key.name].default, BaseModel)
            text = key.default if key.default != "None" else "null"
            default = "see below" if part else f"`{text}`"
            lines.append(table.row((f"`{key.name}`", default, key.meaning.replace("|", "\\|"))))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(paths.SUITES / "KEYS.md", markdown())
