"""A pack: frozen tasks from elsewhere, read without running their code.

A pack is a task folder or a folder of task folders, each self-contained:

    NAME/NAME.yaml          keys and values of `PackFile` and nothing else
    NAME/items.jsonl        the items
    NAME/task.lock          what was frozen
    NAME/provenance.json    where the items come from; scoring does not read it
    NAME/_*.yaml, _*.py     the base and the code that it uses: copies of files that we shipped

A target (`retainbench new target`) is one too. It adds train.jsonl, validation.jsonl and its
reward: reward.json, which names one of ours, or reward.py, which is run only where the user's own
suite names the folder or with `--allow-code`.

Python runs only from bytes whose digest is in `SHIPPED`, so neither a changed copy nor compiled
code next to it is ever executed; a pack may also name a task of the installed lm-eval whose code
scores it, which needs `--allow-code` (tasks/scoring_code.py). `retainbench freeze` writes
packs, `--pack DIR` uses them; plain `lm_eval --include_path DIR --tasks rb_NAME` runs the same
files.
Torch-free; lm_eval is imported by `lm_eval_task` alone.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from retainbench.harness.core import paths
from retainbench.harness.core.axes import TARGET, Axis
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.atomic import TEMPORARY
from retainbench.harness.core.files.yaml_files import read_mapping
from retainbench.harness.core.records import Record, Share
from retainbench.harness.tasks import scoring_code
from retainbench.harness.tasks.folder import (
    PREFIX,
    Code,
    TaskInfo,
    folders_of,
    read_config,
    read_task,
)
from retainbench.harness.tasks.rendering.answers import AnswerRule

SHIPPED = {
    "_code.py": ("e2050b54af65af2a3f36425b762685a62655af926870f3961d188386680c1176",),
    "_dataset.py": ("ac8a34bbd0ba9838e6c01d5c49a6cfc0fbbd94efd84f8af48619a4b604108b66",),
    "_free_form.yaml": ("47df04b0770171e3cc6aef0f3061dc234a0f0800d9d6b76333734bf0f58dc066",),
    "_multiple_choice.yaml": ("c016817a795ccee4021a68fdeae3193d3b926d6808d2cb480b1b9fb0ef2592ef",),
    "_perplexity.yaml": ("d1d57bb22568cb7ba3b8f9846b574cc1f1d872482f54e12837ec3b2183d53966",),
    "_reward.py": (
        "45b5394d4fad2265cf04d73f3560a4f4ecf3b40898081b4f46836c7928e5ef31",
        "1f69e5bee4ece48be9f91d110b35c9868f6ce49b1bdc80db4d21f77f36d2718b",
    ),
    "_numeric.py": ("2e74df984e8c9aaed4d7fc8043ad886fc6ccbd9acbf703764c5f51b9c77ec542",),
}
"""File of tasks/ that a pack may hold a copy of -> SHA-256 of each version we shipped, newest last:
a pack goes on with the version it was frozen with."""
REWARD = "reward.py"
OWN_FILES = ("items.jsonl", "task.lock", "provenance.json", "README.md", "LICENSE", "NOTICE")
NEEDED: dict[str | None, tuple[str, ...]] = {"math": ("math_verify",), "json": ("jsonschema",)}
"""Packages that a kind of reward needs besides ours."""
TARGET_FILES = ("train.jsonl", "validation.jsonl", "reward.json", REWARD)
"""What a target has besides."""
CODE = (".yaml", ".yml", ".py", ".pyc", ".so")
"""What lm-eval or Python could pick up below an include path."""


def _plain(text: str) -> str:
    if text.startswith("!function"):
        raise ValueError(f"{text} is not allowed in a pack")
    return text


def _prompt(text: str) -> str:
    rest = _plain(text).replace("{{query}}", "")
    strange = rest == text or any(mark in rest for mark in ("{{", "{%", "{#"))
    if text not in ("query", "gold", "") and strange:
        raise ValueError("write text around {{query}}; other templates are refused")
    return text


Text = Annotated[str, AfterValidator(_plain)]


class TaskMetric(Record):
    """A plain metric of lm-eval: a mean over items of a share."""

    metric: Literal["acc", "acc_norm", "acc_bytes", "exact_match", "reward", "valid"]
    aggregation: Literal["mean"] = "mean"
    higher_is_better: Literal[True] = True
    ignore_case: bool = False
    ignore_punctuation: bool = False
    ignore_numbers: bool = False
    regexes_to_ignore: list[Text] = []


class FilterStep(Record):
    """One function of a filter."""

    function: Literal["regex", "take_first", "remove_whitespace", "lowercase", "uppercase"]
    regex_pattern: Text | None = None
    group_select: int | None = None
    fallback: Text | None = None


class Filter(Record):
    """How the answer is extracted from a response."""

    name: Text
    filter: Annotated[list[FilterStep], Field(min_length=1)]


class Generation(Record):
    """Greedy generation; sampled answers would not repeat."""

    until: list[Text]
    do_sample: Literal[False] = False
    temperature: Annotated[float, Field(ge=0, le=0)] = 0.0
    max_gen_toks: Annotated[int, Field(ge=1, le=32_768)]


class Metadata(Record):
    """Metadata that discovery reads."""

    version: float | int | Text
    licence: Text
    axis: Axis
    shots: Annotated[int, Field(ge=0)] = 0
    chance: Share | None = None
    code: Code | None = None
    answer: AnswerRule | None = None
    think: Literal["strip", "keep"] | None = None


class Folder(Record):
    """Arguments of `_dataset.load`."""

    folder: Literal["."]


class PackFile(Record):
    """NAME.yaml: lm-eval's keys, as far as a pack may use them."""

    include: Literal["_multiple_choice.yaml", "_free_form.yaml", "_perplexity.yaml"]
    task: Annotated[str, Field(pattern=rf"^{PREFIX}[A-Za-z0-9][A-Za-z0-9._-]*$")]
    dataset_kwargs: Folder
    output_type: Literal["loglikelihood"] | None = None
    doc_to_text: Annotated[str, AfterValidator(_prompt)]
    doc_to_target: Literal["answer", "continuation"] | None = None
    target_delimiter: Text = " "
    process_results: (
        Literal[
            "!function _dataset.exact",
            "!function _numeric.match",
            "!function _code.score",
            "!function _reward.process_results",
        ]
        | None
    ) = None
    generation_kwargs: Generation | None = None
    filter_list: Annotated[list[Filter], Field(max_length=1)] | None = None
    metric_list: Annotated[list[TaskMetric], Field(min_length=1)] | None = None
    metadata: Metadata


def read(pack: Path, *, code: bool = False, installed: bool = False) -> list[TaskInfo]:
    """The tasks of a pack, after a check that it has only the files that a pack may have.

    Args:
        code: whether a target may be scored by its own reward.py.
        installed: part of a distribution, whose installer compiled its Python files.

    Raises:
        UsageError: it holds no task, or code that is not allowed.
        IntegrityError: a file or a key of a YAML is refused; the message names it.
    """
    root = pack.resolve()
    folders = folders_of(root)
    if not folders:
        raise UsageError(f"{pack}: holds no task. A pack has folders NAME with NAME.yaml")
    for place, below, files in os.walk(root):
        skipped = "__pycache__" if installed else TEMPORARY
        below[:] = [name for name in below if not name.startswith((TEMPORARY, skipped))]
        for path in (Path(place) / name for name in (*below, *files)):
            if path.is_symlink():
                raise IntegrityError(f"{path}: a pack may not have links. Replace it by a copy")
            if path.suffix in CODE and path.parent not in folders and path.is_file():
                raise IntegrityError(
                    f"{path}: not in the folder of a task. Remove it from the pack"
                )
    for folder in folders:
        _check(folder, installed)
    found = [read_task(folder) for folder in folders]
    for info in found:
        _check_reward(info, code)
    return found


def _check_reward(info: TaskInfo, code: bool) -> None:
    """A target has one reward, a retention task none; code only where it is allowed."""
    own, named = info.folder / REWARD, info.folder / "reward.json"
    if info.kind != "target":
        if own.exists() or named.exists():
            raise IntegrityError(f"{info.folder}: a retention task has no reward. Delete the file")
        return
    if own.exists() == named.exists():
        raise IntegrityError(f"{info.folder}: a target has reward.json or {REWARD}, one of them")
    if own.exists() and not code:
        raise UsageError(
            f"{own}: code that came with a target. To run it, add --allow-code, or name the folder "
            "in a suite of your own"
        )


def _check(folder: Path, installed: bool) -> None:
    allowed = {*OWN_FILES, *TARGET_FILES, *SHIPPED, f"{folder.name}.yaml"}
    for path in sorted(folder.iterdir()):
        if path.name == "__pycache__":
            if installed:
                continue
            raise IntegrityError(
                f"{path}: a pack may not have compiled code. Delete it, and run lm_eval with "
                "PYTHONDONTWRITEBYTECODE=1"
            )
        if path.name not in allowed or not path.is_file():
            raise IntegrityError(f"{path}: a pack may not have this file. Remove it")
        if path.name in SHIPPED:
            shipped(path)
    path = folder / f"{folder.name}.yaml"
    validated(read_mapping(path), path)


def shipped(path: Path) -> bytes:
    """The bytes of a companion file, equal to a version that we shipped.

    Raises:
        IntegrityError: they equal none.
    """
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() not in SHIPPED[path.name]:
        raise IntegrityError(
            f"{path}: differs from every {path.name} that we shipped. Freeze the pack again"
        )
    return data


def validated(value: dict[str, Any], path: Path) -> PackFile:
    """The content of NAME.yaml as a pack may have it.

    Raises:
        IntegrityError: a key is refused; the message names file and key.
    """
    try:
        file = PackFile.model_validate(value)
    except ValidationError as error:
        detail = error.errors()[0]
        key = ".".join(str(part) for part in detail["loc"])
        extra = f"is not allowed in a pack ({str(detail['input'])[:80]!r})"
        said = extra if detail["type"] == "extra_forbidden" else detail["msg"]
        raise IntegrityError(f"{path}: {key}: {' '.join(said.split())}") from error
    if (file.process_results == "!function _code.score") != (file.metadata.code is not None):
        raise IntegrityError(
            f"{path}: metadata.code and process_results _code.score go together: write both"
        )
    if (file.process_results == SCORE) != (file.metadata.axis == TARGET):
        raise IntegrityError(
            f"{path}: metadata.axis target and process_results _reward go together: write both"
        )
    if (file.include == "_perplexity.yaml") != (file.doc_to_text == ""):
        raise IntegrityError(
            f"{path}: include _perplexity.yaml and an empty doc_to_text go together: write both"
        )
    if file.task != PREFIX + path.stem:
        raise IntegrityError(f"{path}: task must be {PREFIX + path.stem}, as the folder is named")
    return file


SCORE = "!function _reward.process_results"
"""How every target from elsewhere is scored."""


def is_packed(info: TaskInfo) -> bool:
    """Whether a task came from a pack: every task outside the package."""
    return not info.folder.is_relative_to(paths.TASKS)


def lm_eval_task(info: TaskInfo, *, allow_code: bool = False) -> Any:
    """The task as lm-eval would build it from the same files, with functions that we shipped.

    Raises:
        UsageError: lm-eval's own code scores it, and `allow_code` is false.
    """
    from lm_eval.api.task import ConfigurableTask

    config, _ = read_config(info.folder / f"{info.folder.name}.yaml")
    for key, value in config.items():
        if isinstance(value, str) and value.startswith("!function "):
            config[key] = _function(info.folder, value.removeprefix("!function "))
    if info.code is not None:
        config["process_results"] = scoring_code.scoring(info, allowed=allow_code)
    return ConfigurableTask(config=config)


def _function(folder: Path, name: str) -> Callable[..., Any]:
    stem, _, function = name.partition(".")
    found: Callable[..., Any] = getattr(companion(folder, stem), function)
    return found


def companion(folder: Path, stem: str) -> ModuleType:
    """A file that we shipped as a module of the folder that holds a copy of it.

    Raises:
        IntegrityError: the copy is not one that we shipped, or the target's own reward.py that it
            runs cannot be imported.
    """
    path = folder / f"{stem}.py"
    module = ModuleType(f"retainbench_pack_{stem}")
    module.__file__ = str(path)
    code = compile(shipped(path), path, "exec")
    try:
        exec(code, module.__dict__)  # noqa: S102 - our own bytes
    except Exception as error:  # the user's own reward.py: anything can come out of it
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise IntegrityError(f"{folder / REWARD}: cannot be imported: {what}") from error
    for package in NEEDED.get(getattr(module, "SETTINGS", {}).get("kind"), ()):
        if importlib.util.find_spec(package) is None:
            raise UsageError(
                f"{folder}: its reward needs {package}: pip install 'retainbench[rewards]'"
            )
    return module
