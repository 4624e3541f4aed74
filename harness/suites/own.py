"""What a suite brings with it: paths in its YAML, relative to the YAML.

    base: ./model                        a model folder
    targets: [./tickets]                 a target (`retainbench new target`)
    tasks: [capitals, ./packs/ours]      a pack of frozen tasks (`retainbench freeze`)
    recipes:
      mine: {method: ./my_method.py, replay: {source: ./general.jsonl}}
      taught: {method: gkd, teacher: ./larger}

A path begins with `./`, `../` or `/`. In the suite it becomes the name of what it names; the folder
or the file's bytes go into the catalogue, so the plan holds names and content digests and no
paths but the base's. Code of what the user's own suite names runs; a pack's needs `--allow-code`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import code_files
from retainbench.harness.core.files.code_files import CodeFile
from retainbench.harness.core.files.text_files import TextFile
from retainbench.harness.core.stages import SELF
from retainbench.harness.models import bases
from retainbench.harness.suites import methods
from retainbench.harness.tasks import pack, text_files
from retainbench.harness.tasks.catalogue import Catalogue, TaskInfo


class ResolvedSuite(NamedTuple):
    """A suite's content with names instead of paths, and the catalogue that knows the names."""

    value: dict[str, Any]
    tasks: Catalogue


class ResolvedTasks(NamedTuple):
    """Names of tasks, and the catalogue that knows them."""

    names: list[str]
    tasks: Catalogue


def is_path(entry: Any) -> bool:
    """Whether an entry of a suite is a path and not a name."""
    return isinstance(entry, str) and entry.startswith(("./", "../", "/"))


class _PathResolver:
    """Reads what paths name, each once, and remembers it."""

    def __init__(self, folder: Path, where: str, tasks: Catalogue) -> None:
        self.folder = folder
        self.where = where
        self.allow_code = tasks.allow_code
        self.known = {*tasks.tasks, *(info.axis for info in tasks.tasks.values())}
        self.infos: dict[str, TaskInfo] = {}
        self.files: dict[str, CodeFile] = {}
        self.texts: dict[str, TextFile] = {}
        self.teachers: dict[str, Path] = {}

    def path(self, entry: str) -> Path:
        return (self.folder / entry).resolve()

    def require_named(self, entry: Any, key: str, known: Container[str], own: str) -> None:
        """Refuse a name that nothing has but a file of the user's: its path was meant.

        Args:
            own: what `./NAME` would be, from the folder of the suite.
        """
        if not isinstance(entry, str) or entry in known or entry in {*self.infos, *self.files}:
            return
        if _is_file(self.folder / own):
            raise UsageError(
                f"{self.where}: {key}: unknown {entry!r}. For what is here under that name write "
                f"./{Path(own).parts[0]}"
            )

    def target(self, entry: Any) -> Any:
        if not is_path(entry):
            self.require_named(entry, "targets", self.known, f"{entry}/{entry}.yaml")
            return entry
        found = self.read(entry, "target", code=True)
        if len(found) != 1 or found[0].kind != "target":
            raise UsageError(f"{self.where}: targets: {entry} is not the folder of one target")
        return found[0].name

    def tasks(self, entry: Any) -> list[Any]:
        if not is_path(entry):
            self.require_named(entry, "tasks", self.known, f"{entry}/{entry}.yaml")
            return [entry]
        found = self.read(entry, "task", code=self.allow_code)
        return [info.name for info in found if info.kind != "target"]

    def read(self, entry: str, kind: str, *, code: bool) -> list[TaskInfo]:
        """The tasks in the folder of a task or target, or in a pack of several."""
        folder = self.path(entry)
        if not folder.is_dir():
            raise UsageError(
                f"{self.where}: {kind}s: not a folder: {entry} (looked for {folder}). Create one "
                f"with `retainbench new {kind} {folder.name}`"
            )
        found = pack.read(folder, code=code)
        self.infos |= {info.name: info for info in found}
        return found

    def method(self, entry: Any) -> Any:
        if not is_path(entry):
            self.require_named(entry, "method", methods.known(()), f"{entry}.py")
            return entry
        file = code_files.read(self.path(entry))
        other = self.files.setdefault(file.name, file)
        if other != file or file.name in methods.installed():
            raise UsageError(
                f"{self.where}: method: another method is named {file.name}: rename {entry}"
            )
        return file.name

    def text(self, entry: Any) -> Any:
        if not is_path(entry):
            return entry
        file = text_files.read(self.path(entry))
        if self.texts.setdefault(file.name, file) != file or file.name == SELF:
            raise UsageError(f"{self.where}: another text is named {file.name}: rename {entry}")
        return file.name

    def teacher(self, entry: Any) -> Any:
        if not is_path(entry):
            return entry
        model = self.folder / entry  # not resolved: a link keeps the name that it has here
        if not model.exists():
            raise UsageError(
                f"{self.where}: teacher: no model at {entry} (looked for {model}). Name a folder "
                "that transformers or PEFT has saved, or a GGUF file"
            )
        if self.teachers.setdefault(model.name, model) != model or model.name in bases.named():
            raise UsageError(
                f"{self.where}: teacher: another model is named {model.name}: rename {entry}, or "
                "name a link to it"
            )
        return model.name

    def recipe(self, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        found = dict(value)
        if isinstance(found.get("stages"), list):
            found["stages"] = [self.recipe(stage) for stage in found["stages"]]
        if "method" in found:
            found["method"] = self.method(found["method"])
        if "target" in found:
            found["target"] = self.target(found["target"])
        if "teacher" in found:
            found["teacher"] = self.teacher(found["teacher"])
        for key, place in (("replay", "source"), ("anchor", "on")):
            if isinstance(found.get(key), dict) and place in found[key]:
                found[key] = found[key] | {place: self.text(found[key][place])}
        return found


def _is_file(path: Path) -> bool:
    """Whether there is such a file; false for names that no system accepts."""
    try:
        return path.is_file()
    except OSError:
        return False


def bring_tasks(entries: Iterable[str], tasks: Catalogue) -> ResolvedTasks:
    """Tasks and targets by name or by path from the working folder, as a suite's `tasks` are.

    Raises:
        UsageError: a path names no folder, or a name is that of a folder and of no task.
        IntegrityError: a folder differs from its lock, or has code and `tasks` allows none.
    """
    resolver = _PathResolver(Path(), "evaluate", tasks)
    names: list[str] = []
    for entry in entries:
        if is_path(entry):
            names += [info.name for info in resolver.read(entry, "task", code=tasks.allow_code)]
        else:
            resolver.require_named(entry, "tasks", resolver.known, f"{entry}/{entry}.yaml")
            names.append(entry)
    return ResolvedTasks(names, tasks.adding(resolver.infos.values()))


def bring(value: dict[str, Any], path: Path, tasks: Catalogue) -> ResolvedSuite:
    """Read what the paths in a suite's YAML name.

    Args:
        value: the YAML as it was read; what is malformed is left for the check of its shape.
        path: of the YAML file.

    Raises:
        UsageError: naming the file, the key and the path: it is not there or not what is expected.
        IntegrityError: a folder differs from its lock, or holds what no pack may hold.
    """
    bringer = _PathResolver(path.resolve().parent, str(path), tasks)
    found = dict(value)
    if is_path(found.get("base")):
        found["base"] = str(bringer.path(found["base"]))
    if isinstance(found.get("targets"), list):
        found["targets"] = [bringer.target(entry) for entry in found["targets"]]
    if isinstance(found.get("tasks"), list):
        found["tasks"] = [name for entry in found["tasks"] for name in bringer.tasks(entry)]
    if isinstance(found.get("recipes"), dict):
        recipes = found["recipes"].items()
        found["recipes"] = {name: bringer.recipe(recipe) for name, recipe in recipes}
    known = tasks.adding(bringer.infos.values()) if bringer.infos else tasks
    known = replace(
        known,
        methods=(*known.methods, *bringer.files.values()),
        texts=(*known.texts, *bringer.texts.values()),
        teachers=(*known.teachers, *bringer.teachers.values()),
    )
    return ResolvedSuite(found, known)
