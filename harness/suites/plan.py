"""Suite -> cells: what will be trained, each under the hash of all that determines it.

Pure and torch-free. `gather` reads the digests of base and tasks from disk, `plan` turns suite and
digests into cells; equal inputs give equal ids on every machine, and any change of base weights,
target items, recipe, seed, budget or of a version that changes numbers changes the id.

Command: `retainbench plan SUITE`.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from pydantic import Field

from retainbench.harness.core.files.storage import digest
from retainbench.harness.core.names import Name
from retainbench.harness.core.records import Record
from retainbench.harness.core.schema import Budget, Policy, Suite
from retainbench.harness.core.stages import Recipe, Stage
from retainbench.harness.models import bases
from retainbench.harness.suites import methods, teachers
from retainbench.harness.tasks import catalogue, contamination, text_files, training_data
from retainbench.harness.tasks.catalogue import OWN, Catalogue, TaskInfo
from retainbench.harness.tasks.rendering import chat

NUMERIC_PACKAGES = ("torch", "transformers", "trl", "peft", "lm-eval", "retainbench")


class Inputs(Record):
    """Digests of everything outside the suite file that determines results."""

    base: str
    tasks: dict[str, str]
    """Lock digest by short name, of retention tasks and targets."""
    methods: dict[str, str] = {}
    """SHA-256 of the user's own methods that recipes use, by name."""
    texts: dict[str, str] = {}
    """SHA-256 of the user's general text for replay and anchors, by name."""
    teachers: dict[str, str] = Field(default={}, exclude_if=lambda found: not found)
    """Content digest of the models that recipes learn from, by name."""
    versions: dict[str, str]
    overlap: dict[str, dict[str, list[str]]] = {}
    """Target -> retention task -> items that its training data gives away."""
    prompts: dict[str, str] = {}
    """Digest of a task's prompts as this base is asked them; of a suite with a `format` only."""
    train_data: list[training_data.TrainData] = []
    """The user's own training files and the items that they give away."""


class Cell(Record):
    """Base x target x recipe x seed: one trajectory of candidates."""

    id: str
    base: str
    target: Name
    name: Name
    """The recipe's name in the suite."""
    recipe: Recipe
    seed: int
    budget: Budget
    trajectory: list[float]
    dtype: str

    @property
    def label(self) -> str:
        """How progress lines and errors name the cell."""
        return f"{self.name} on {self.target}, seed {self.seed}"

    @property
    def processes(self) -> str:
        """How many share the batches of each stage, `2` or `1+2`; empty where one does it all."""
        numbers = [stage.processes for stage in self.recipe.trained]
        return "+".join(map(str, numbers)) if max(numbers) > 1 else ""


class Plan(Record):
    """`plan.json`: the cells in the order they run."""

    suite: Suite
    inputs: Inputs
    retention: list[str]
    """Retention tasks with axis names resolved, in order."""
    cells: list[Cell]


def gather(suite: Suite, train_data: Sequence[Path] = (), tasks: Catalogue = OWN) -> Inputs:
    """Read and verify what the suite rests on.

    Args:
        train_data: files that the base or the methods were trained on besides the targets' items.

    Raises:
        UsageError: the base or a teacher is not there or does not fit, or a training file cannot
            be read.
        IntegrityError: the base cannot be loaded safely, a task differs from its lock, or the
            policy refuses training data that overlap the retention tasks.
    """
    known = tasks.tasks
    needed = [*targets_of(suite), *retention_tasks(suite)]
    for name in needed:
        catalogue.verify_lock(known[name])
    retention = retention_tasks(suite)
    for file in tasks.texts:
        text_files.refuse_overlap(file, contamination.retention_items(retention, tasks))
    overlap = {t: contamination.of_target(t, retention, tasks) for t in targets_of(suite)}
    base = bases.resolve(suite.base)
    inputs = Inputs(
        overlap={target: found for target, found in overlap.items() if found},
        base=base.digest,
        prompts=_prompts(suite, base.reader, [known[name] for name in needed]),
        tasks={name: catalogue.lock_digest(known[name]) for name in needed},
        methods={file.name: file.digest for file in tasks.methods},
        texts={file.name: file.digest for file in tasks.texts},
        teachers=teachers.digests(suite, base, tasks),
        versions=_versions(suite, tasks),
        train_data=[training_data.of_file(path, retention, tasks) for path in train_data],
    )
    contamination.refuse(overlap_lines(suite, inputs))
    return inputs


def _prompts(suite: Suite, reader: Path, infos: Sequence[TaskInfo]) -> dict[str, str]:
    """What the base is asked, where that is not what the locks have."""
    rendering = chat.of_folder(reader, suite.format)
    if rendering.chat is None:
        return {}
    return catalogue.prompt_digests(infos, rendering)


def overlap_lines(suite: Suite, inputs: Inputs) -> list[str]:
    """What every target that overlaps and every training file gives away, and what follows."""
    found = [*inputs.overlap.items(), *((one.source, one.overlap) for one in inputs.train_data)]
    return [contamination.line(*one, suite.policy.contaminated) for one in found]


def _versions(suite: Suite, tasks: Catalogue) -> dict[str, str]:
    """Versions of packages that change numbers, those that bring methods or tasks among them."""
    own = {file.name for file in tasks.methods}
    used = {stage.method for recipe in suite.recipes.values() for stage in recipe.stages} - own
    others = {methods.installed()[name].distribution for name in used}
    return {name: version(name) for name in dict.fromkeys((*NUMERIC_PACKAGES, *sorted(others)))}


def plan(suite: Suite, inputs: Inputs, tasks: Catalogue = OWN) -> Plan:
    """All cells of a suite; the order is seeds outermost, so that early results cover all recipes.

    Every recipe's options are completed with the method's defaults, so a changed default changes
    the id.
    """
    order = itertools.product(suite.seeds, suite.targets, suite.recipes.items())
    cells = [
        make_cell(suite, inputs, target, name, recipe, seed, tasks)
        for seed, target, (name, recipe) in order
    ]
    return Plan(suite=suite, inputs=inputs, retention=retention_tasks(suite), cells=cells)


def make_cell(
    suite: Suite,
    inputs: Inputs,
    target: str,
    name: str,
    recipe: Recipe,
    seed: int,
    tasks: Catalogue = OWN,
) -> Cell:
    """One cell with its id, which does not depend on the resources that the recipe asks for."""
    stages = [_complete(stage, tasks) for stage in recipe.stages]
    complete = recipe.model_copy(update={"stages": stages})
    content = {
        "target": target,
        "recipe": complete.model_dump(mode="json", exclude={"resources"}),
        "seed": seed,
        "budget": suite.budget.model_dump(mode="json"),
        "trajectory": sorted({*suite.trajectory, 1.0}),
        "dtype": suite.dtype,
    }
    trained_on = {target, *(stage.target for stage in recipe.stages if stage.target)}
    frozen = {
        "base": inputs.base,
        "tasks": {t: inputs.tasks[t] for t in sorted(trained_on)},
        "versions": inputs.versions,
    }
    if inputs.prompts:
        frozen["format"] = suite.format.model_dump(mode="json")
        frozen["prompts"] = {t: inputs.prompts[t] for t in sorted(trained_on)}
    own = {s.method: inputs.methods[s.method] for s in stages if s.method in inputs.methods}
    if own:
        frozen["methods"] = own
    read = {t: inputs.texts[t] for s in stages for t in s.texts if t in inputs.texts}
    if read:
        frozen["texts"] = read
    taught_by = {s.teacher: inputs.teachers[s.teacher] for s in stages if s.teacher}
    if taught_by:
        frozen["teachers"] = taught_by
    identity = digest([content, frozen])[:16]
    return Cell.model_validate(
        content | {"id": identity, "base": suite.base, "name": name, "recipe": complete}
    )


def excluded(plan: Plan, cell: Cell) -> dict[str, set[str]]:
    """Items of each retention task that a cell is not judged on: its training data hold them."""
    if plan.suite.policy.contaminated != "exclude":
        return {}
    given_away = [plan.inputs.overlap.get(target, {}) for target in scored_targets(cell)]
    return contamination.union([*given_away, *(one.overlap for one in plan.inputs.train_data)])


def scored_targets(cell: Cell) -> list[str]:
    """The cell's target and every target that its stages train on, each once."""
    return list(dict.fromkeys([cell.target, *(s.target for s in cell.recipe.stages if s.target)]))


def _complete(stage: Stage, tasks: Catalogue) -> Stage:
    options = methods.options(stage, tasks.methods)
    return stage.model_copy(update={"options": options.model_dump(mode="json")})


def targets_of(suite: Suite) -> list[str]:
    """Targets of the suite and of its stages, each once, in order."""
    staged = [s.target for r in suite.recipes.values() for s in r.stages if s.target]
    return list(dict.fromkeys([*suite.targets, *staged]))


def retention_tasks(suite: Suite) -> list[str]:
    """The suite's retention tasks with axis names resolved to the package's tasks of that axis."""
    return tasks_named(suite.tasks)


def tasks_named(entries: Sequence[str]) -> list[str]:
    """Tasks by short name, from names of tasks and of axes; an axis means the package's tasks."""
    names: list[str] = []
    for entry in entries:
        on_axis = [name for name, info in catalogue.own().items() if info.axis == entry]
        names.extend(on_axis or [entry])
    return list(dict.fromkeys(names))


def policy_of(suite: Suite, tasks: Catalogue = OWN) -> Policy:
    """The suite's policy with the mandatory list written out: every task with answers.

    Tasks of documents are mandatory where the policy names them, or where there is no other task.
    """
    if suite.policy.mandatory is not None:
        return suite.policy
    names, known = retention_tasks(suite), tasks.tasks
    answered = [n for n in names if n not in known or known[n].kind != "perplexity"]
    return suite.policy.model_copy(update={"mandatory": answered or names})
