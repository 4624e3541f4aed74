"""One task folder on disk: what its YAML declares. Torch-free.

Reads `<name>.yaml` (with the bases it includes) and counts items.jsonl; writes nothing. Leaves out
the items (tasks/items.py), their text (tasks/rendering/prompts.py), locks (tasks/lock.py) and what
a pack from elsewhere may hold (tasks/pack.py).

The table "Base scores" of a task's card (README.md of its folder) has the scores of base models.

Read for `retainbench tasks`; nothing is decided by it. Packs have no card, hence no base scores.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from retainbench.harness.core.axes import HELP, TARGET, WORD, Axis
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.yaml_files import read_mapping
from retainbench.harness.core.records import Record
from retainbench.harness.core.schema import Sampling
from retainbench.harness.tasks.items import lines
from retainbench.harness.tasks.rendering.answers import FIRST_LINE, AnswerRule
from retainbench.harness.tasks.rendering.prompts import STOP, Row, Template, template

Kind = Literal["multiple_choice", "free_form", "perplexity", "target"]
"""`perplexity`: every item is a document, the answer to an empty query."""
KINDS: dict[str, Kind] = {
    "multiple_choice": "multiple_choice",
    "loglikelihood_rolling": "perplexity",
}
"""lm-eval's output types; a free-form answer is any other one."""
PREFIX = "rb_"
SPLITS = ("train", "validation")


class Code(Record):
    """`metadata.code` of a pack that code of lm-eval's own scores (tasks/scoring_code.py)."""

    config: Annotated[str, Field(pattern=r"^([A-Za-z0-9_-]+/)+[A-Za-z0-9_-]+\.yaml$")]
    """The task's YAML, below lm_eval/tasks."""
    metric: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]+$")]
    """Which of the metrics that it returns is the score."""
    files: Annotated[dict[str, str], Field(min_length=2)]
    """Path below lm_eval/tasks -> SHA-256: the YAML, its bases and the Python next to them."""


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
    template: Template
    """The text around query and answer."""
    shots: int
    """Solved examples that are part of the template."""
    max_new_tokens: int
    chance: float | None
    """Expected score of a guesser; None = 1 / number of choices of the item."""
    config_files: tuple[Path, ...]
    """The YAML, the bases it includes and every Python file that they or `uses` name."""
    contexts: bool = False
    """The choices are whole prompts, each followed by the item's `continuation`."""
    stop: tuple[str, ...] = (STOP,)
    """Strings that end a response (`until`); none: the end of turn or text alone."""
    answer: AnswerRule = FIRST_LINE
    """Which part of a response its reward judges."""
    sampling: Sampling | None = None
    """How the suite has a target answered (`Catalogue.sampling`); None is greedy, once."""
    code: Code | None = field(default=None, hash=False)
    """Scores by code of lm-eval's own; None = by the pack's files alone."""

    @property
    def repeats(self) -> int:
        """How often each item is answered."""
        return self.sampling.repeats if self.sampling else 1

    @property
    def has_reward(self) -> bool:
        """Whether code judges its answers: every target, and a task whose YAML names reward.py."""
        own = (self.folder / "reward.py").resolve()
        return self.kind == "target" or own in self.config_files

    def prompt(self, row: Row) -> str:
        """What lm-eval asks for an item: a whole document, or of several contexts the first one."""
        if self.kind == "perplexity":
            return str(row["answer"])
        return str(row["choices"][0]) if self.contexts else self.template.prompt(row)

    def target(self, row: Row) -> str:
        """What lm-eval logs as the target of an item."""
        if self.contexts:
            return str(row["continuation"])
        return str(row["gold"]) if "choices" in row else str(row["answer"])


def folders_of(root: Path) -> list[Path]:
    """Folders that hold a YAML of their own name: `root` itself or those right below it."""
    if (root / f"{root.name}.yaml").is_file():
        return [root]
    below = sorted(root.iterdir()) if root.is_dir() else []
    return [folder for folder in below if (folder / f"{folder.name}.yaml").is_file()]


def read_config(path: Path) -> tuple[dict[str, Any], list[Path]]:
    """A task's YAML with its includes merged as lm-eval does, and the files it came from.

    Raises:
        IntegrityError: the file is missing or not a mapping, or includes in a circle.
    """
    merged: dict[str, Any] = {}
    files = [path]
    own = read_mapping(path, unique=False)
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
    contexts = config["doc_to_text"] == "gold"
    delimiter = str(config.get("target_delimiter", " "))
    axis = metadata.get("axis", folder.parent.name)
    if not re.fullmatch(WORD, str(axis)):
        raise IntegrityError(f"{path}: metadata.axis: {axis!r} is not an axis. Write {HELP}")
    kind = KINDS.get(config["output_type"], "free_form")
    generation = config.get("generation_kwargs") or {}
    shots = int(metadata.get("shots", 0))
    chance = metadata.get("chance", None if kind == "multiple_choice" else 0.0)
    return TaskInfo(
        name=folder.name,
        lm_eval_name=str(config["task"]),
        axis=axis,
        folder=folder,
        kind="target" if axis == TARGET else kind,
        n_items=len(lines(folder / "items.jsonl")),
        version=str(metadata["version"]),
        licence=str(metadata["licence"]),
        template=template(str(config["doc_to_text"]), delimiter, path, shots),
        shots=shots,
        max_new_tokens=int(generation.get("max_gen_toks", 0)),
        chance=chance,
        config_files=tuple(dict.fromkeys(file.resolve() for file in files)),
        contexts=contexts,
        stop=_stops(generation),
        answer=_answer(metadata, path),
        code=Code.model_validate(metadata["code"]) if metadata.get("code") else None,
    )


def _stops(generation: dict[str, Any]) -> tuple[str, ...]:
    until = generation.get("until", [STOP])
    return tuple(until) if isinstance(until, list) else (str(until),)


def _answer(metadata: dict[str, Any], path: Path) -> AnswerRule:
    given = {key: metadata[key] for key in ("answer", "think") if key in metadata}
    if not isinstance(rule := given.pop("answer", {}), dict):
        raise IntegrityError(f"{path}: metadata.answer: write {{from: first_line}}, or another way")
    try:
        return AnswerRule.model_validate(rule | given)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(["metadata.answer", *map(str, detail["loc"])])
        raise IntegrityError(f"{path}: {key}: {detail['msg']}") from error


SECTION = re.compile(r"^## Base scores\n(.*?)(?=^## |\Z)", re.DOTALL | re.MULTILINE)
ROW = re.compile(r"^\| ([^|]+) \| (\d\.\d+)[ ,]", re.MULTILINE)


def base_scores(info: TaskInfo) -> dict[str, float]:
    """Model -> mean score on the items that its line names."""
    card = info.folder / "README.md"
    if not card.is_file():
        return {}
    section = SECTION.search(card.read_text(encoding="utf-8"))
    rows = ROW.findall(section.group(1)) if section else []
    return {name.strip(): float(score) for name, score in rows}
