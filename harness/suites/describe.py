"""What methods there are, read from the methods themselves.

One source for `retainbench methods` and for trainers/README.md, which a test compares with
`markdown()`; after a change of a trainer run `python -m retainbench.harness.suites.describe`.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args, get_origin

from pydantic import BaseModel
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from retainbench.harness.core import origins, paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import write_text
from retainbench.harness.core.text import markdown as table
from retainbench.harness.suites import methods


class DescribedOption(NamedTuple):
    """One hyper-parameter."""

    name: str
    default: str
    meaning: str


class DescribedMethod(NamedTuple):
    """One trainer file."""

    name: str
    distribution: str
    summary: str
    paper: str
    adaptations: tuple[str, ...]
    anchors: tuple[str, ...]
    taught: bool
    """Whether it needs a `teacher`."""
    splits: bool
    """Whether several processes may share its batches."""
    options: list[DescribedOption]


def describe(name: str) -> DescribedMethod:
    """Everything a table needs to know of a method."""
    module = methods.load(name)
    return DescribedMethod(
        name=name,
        distribution=methods.installed()[name].distribution,
        summary=(module.__doc__ or "").strip().split("\n\n")[0].replace("\n", " "),
        paper=module.PAPER,
        adaptations=module.ADAPTATIONS,
        anchors=module.ANCHORS,
        taught=methods.learns_from_teacher(module),
        splits=methods.splits(module),
        options=options(module.Options),
    )


def options(model: type[BaseModel]) -> list[DescribedOption]:
    """Fields of an `Options` model with the text that follows each in the source."""
    return [
        DescribedOption(field, _shown(info), _meaning(info))
        for field, info in model.model_fields.items()
    ]


def _meaning(info: Any) -> str:
    """The text that follows the field, on one line, and the words that it can be."""
    return " ".join((info.description or "").split()) + _choices(info.annotation)


def _choices(annotation: Any) -> str:
    """The words that an option, or an item of its list, can be."""
    if get_origin(annotation) is list:
        return _choices(get_args(annotation)[0])
    if get_origin(annotation) is not Literal:
        return ""
    return f" One of {', '.join(f'`{word}`' for word in get_args(annotation))}."


def _shown(info: Any) -> str:
    return "required" if info.is_required() else str(info.default)


def terminal() -> RenderableType:
    """All methods for a terminal."""
    parts: list[RenderableType] = []
    for name, source in methods.installed().items():
        try:
            method = describe(name)
        except UsageError as error:
            parts.append(Text(f"{name}  cannot be used. {error}\n", style="bold"))
            continue
        head = method.summary
        if source.distribution != origins.OWN:
            head += f" (from {source.distribution})"
        parts.append(Text(f"{name}  {head}", style="bold"))
        parts.append(Text(f"  {method.paper}; {_capabilities(method)}"))
        grid = Table.grid(padding=(0, 2))
        for option in method.options:
            grid.add_row(f"    {option.name}", option.default, Text(option.meaning))
        parts.extend([grid, Text("")])
    return Group(*parts)


def markdown() -> str:
    """trainers/README.md."""
    lines = [
        "# Methods",
        "",
        "One file is one method. This page is made from the files themselves:",
        "`python -m retainbench.harness.suites.describe`. `retainbench methods` prints the same.",
    ]
    for name in (*methods.methods(), *methods.NO_BUDGET):
        method = describe(name)
        lines += ["", f"## {name}", "", method.summary, ""]
        lines += [f"{method.paper}. {_capabilities(method)}.", ""]
        lines += table.header(("option", "default", "meaning"), "lll")
        lines += [
            table.row((f"`{o.name}`", f"`{o.default}`", o.meaning.replace("|", "\\|")))
            for o in method.options
        ]
    return "\n".join(lines) + "\n"


def _capabilities(method: DescribedMethod) -> str:
    anchors = ", ".join(method.anchors) or "none"
    more = "; needs a `teacher`" if method.taught else ""
    more += "; processes: one or several" if method.splits else ""
    return f"adaptations: {', '.join(method.adaptations)}; anchors: {anchors}{more}"


if __name__ == "__main__":
    write_text(paths.TRAINERS / "README.md", markdown())
