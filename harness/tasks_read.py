"""One task folder as it lies on disk: what its YAML says and what its items are. Torch-free.

Reads `<name>.yaml` (with the bases it includes), items.jsonl and, for targets, train.jsonl and
validation.jsonl; writes nothing. The prompt template may only hold `{{query}}`, so prompts are made
here without Jinja. Leaves out scoring (evaluate.py) and freezing (tasks_lock.py).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from retainbench.harness.errors import IntegrityError
from retainbench.harness.records import Axis

Kind = Literal["multiple_choice", "free_form", "target"]
LONGEST_LINE = 1_000_000
"""Bytes of one line of a JSONL file; a longer one is refused before it is parsed."""
PREFIX = "rb_"
SPLITS = ("train", "validation")


@dataclass(frozen=True)
class TaskInfo:
    """What discovery knows of a task without reading its items."""

    name: str
    lm_eval_name: str
    axis: Axis
    folder: Path
    kind: Kind
    n_items: int
    version: str
    licence: str
    template: str
    """The prompt, with `{{query}}` where the item's query goes."""
    delimiter: str
    """Between prompt and choice or answer."""
    shots: int
    """Solved examples that are part of the template."""
    max_new_tokens: int
    chance: float | None
    """Expected score of a guesser; None = 1 / number of choices of the item."""
    config_files: tuple[Path, ...]
    """The YAML, the bases it includes and every Python file that they or `uses` name."""


class _Loader(yaml.SafeLoader):
    """SafeLoader that keeps `!function module.name` as text instead of importing it."""


def _function_text(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> str:
    return f"!function {loader.construct_scalar(node)}"


_Loader.add_constructor("!function", _function_text)


def read_config(path: Path) -> tuple[dict[str, Any], list[Path]]:
    """A task's YAML with its includes merged as lm-eval does, and the files it came from.

    Raises:
        IntegrityError: the file is missing, is no mapping, or includes in a circle.
    """
    merged: dict[str, Any] = {}
    files = [path]
    try:
        own = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise IntegrityError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(own, dict):
        raise IntegrityError(f"{path}: is no mapping")
    included = own.pop("include", [])
    for name in included if isinstance(included, list) else [included]:
        base = (path.parent / str(name)).resolve()
        if base == path.resolve():
            raise IntegrityError(f"{path}: includes itself")
        inherited, sources = read_config(base)
        merged |= inherited
        files += sources
    functions = _function_files(own, path)
    return merged | own, [*files, *functions]


def _function_files(config: dict[str, Any], path: Path) -> list[Path]:
    """The Python files that `!function` values of one YAML name, and those it `uses`."""
    named = []
    for value in config.values():
        if isinstance(value, str) and value.startswith("!function "):
            module = value.removeprefix("!function ").rpartition(".")[0]
            named.append(path.parent / (module.replace(".", "/") + ".py"))
    metadata = config.get("metadata") or {}
    named += [path.parent / str(name) for name in metadata.get("uses", [])]
    return [name.resolve() for name in named]


def read_task(folder: Path) -> TaskInfo:
    """The task in `folder`, from `<folder's name>.yaml`.

    Raises:
        IntegrityError: the YAML lacks something, or its name, kind or template is not usable.
    """
    path = folder / f"{folder.name}.yaml"
    config, files = read_config(path)
    metadata = config.get("metadata") or {}
    missing = [key for key in ("task", "output_type", "doc_to_text") if key not in config]
    missing += [f"metadata.{key}" for key in ("version", "licence") if key not in metadata]
    if missing:
        raise IntegrityError(f"{path}: lacks {', '.join(missing)}")
    template = str(config["doc_to_text"])
    if "{{" in template.replace("{{query}}", "") or "{%" in template:
        raise IntegrityError(f"{path}: doc_to_text may only use {{{{query}}}}")
    axis = metadata.get("axis", folder.parent.name)
    if axis not in ("general", "numeric", "temporal", "target"):
        raise IntegrityError(f"{path}: axis {axis!r} is not general, numeric, temporal or target")
    kind: Kind = "free_form" if config["output_type"] == "generate_until" else "multiple_choice"
    generation = config.get("generation_kwargs") or {}
    chance = metadata.get("chance", None if kind == "multiple_choice" else 0.0)
    return TaskInfo(
        name=folder.name,
        lm_eval_name=str(config["task"]),
        axis=axis,
        folder=folder,
        kind="target" if axis == "target" else kind,
        n_items=_count_lines(folder / "items.jsonl"),
        version=str(metadata["version"]),
        licence=str(metadata["licence"]),
        template=template,
        delimiter=str(config.get("target_delimiter", " ")),
        shots=int(metadata.get("shots", 0)),
        max_new_tokens=int(generation.get("max_gen_toks", 0)),
        chance=chance,
        config_files=tuple(dict.fromkeys(file.resolve() for file in files)),
    )


def _count_lines(path: Path) -> int:
    if not path.is_file():
        raise IntegrityError(f"{path}: is missing")
    with path.open("rb") as stream:
        return sum(1 for line in stream if line.strip())


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSONL file of items, each checked.

    Raises:
        IntegrityError: names file, line and item: no UTF-8, no JSON object, a line that is too
            long, a missing field, an id that is there twice, a gold index without its choice.
    """
    rows: list[dict[str, Any]] = []
    seen: set[str] = set()
    for number, line in enumerate(_lines(path), start=1):
        where = f"{path}:{number}"
        try:
            row = json.loads(line.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise IntegrityError(f"{where}: is not UTF-8: {error.reason}") from error
        except (json.JSONDecodeError, RecursionError) as error:
            raise IntegrityError(f"{where}: is not JSON: {error}") from error
        _check_row(row, where)
        if row["id"] in seen:
            raise IntegrityError(f"{where}: item {row['id']} is there twice")
        seen.add(row["id"])
        rows.append(row)
    if not rows:
        raise IntegrityError(f"{path}: holds no items")
    return rows


def _lines(path: Path) -> list[bytes]:
    """Lines of at most LONGEST_LINE bytes, read so that a longer one is never held in memory."""
    lines: list[bytes] = []
    if not path.is_file():
        raise IntegrityError(f"{path}: is missing")
    with path.open("rb") as stream:
        while line := stream.readline(LONGEST_LINE + 1):
            if len(line) > LONGEST_LINE:
                raise IntegrityError(f"{path}:{len(lines) + 1}: a line over {LONGEST_LINE} bytes")
            lines.append(line)
    return lines


def _check_row(row: Any, where: str) -> None:
    if not isinstance(row, dict) or not isinstance(row.get("id"), str):
        raise IntegrityError(f"{where}: is no object with an id")
    where = f"{where}: item {row['id']}"
    if not isinstance(row.get("query"), str) or not isinstance(row.get("cluster"), str):
        raise IntegrityError(f"{where}: query and cluster must be text")
    if "choices" in row:
        _check_choices(row, where)
    elif not isinstance(row.get("answer"), str) or not _texts(row.get("aliases")):
        raise IntegrityError(f"{where}: has neither choices nor an answer with aliases")


def _check_choices(row: dict[str, Any], where: str) -> None:
    choices, gold = row["choices"], row.get("gold")
    if not _texts(choices) or len(choices) < 2 or not all(choices):
        raise IntegrityError(f"{where}: choices must be two or more non-empty texts")
    if len(set(choices)) < len(choices):
        raise IntegrityError(f"{where}: a choice is there twice")
    if isinstance(gold, bool) or not isinstance(gold, int) or not 0 <= gold < len(choices):
        raise IntegrityError(f"{where}: gold {gold!r} points at none of {len(choices)} choices")


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)
