"""Hugging Face: the model card's `model-index`, and `.eval_results` entries.

`model-index` is the older, widely read form. It gets absolute scores only (a drop is not a score of
the model) and never `verified`, which only the hub may set. `.eval_results` entries name a data set
of the hub: they are written for packs that were frozen from one, under its own id and commit. Both
are the forms of huggingface_hub's own helpers.

Strings are quoted always: a task named `no` or `1e3` must stay a string.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any, NamedTuple

import yaml

from retainbench.harness.certificate.formats.source import ExportSource, by_task, mean
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_json
from retainbench.harness.core.text.escaping import visible
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.freeze import Provenance

DIGITS = 6


class HubDataset(NamedTuple):
    """Where on the hub a pack's items come from."""

    id: str
    config: str | None
    split: str | None
    revision: str | None


class _Quoted(yaml.SafeDumper):
    """YAML in which every string value is quoted."""


def _quote(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Quoted.add_representer(str, _quote)


def dataset_of(task: str, tasks: Catalogue) -> HubDataset | None:
    """The data set that a task was frozen from; None where the hub does not have it."""
    info = tasks.tasks.get(task)
    file = info.folder / "provenance.json" if info else None
    if file is None or not file.exists():
        return None
    found = read_json(file, Provenance)
    if found.dataset_path is None or found.dataset_path.count("/") != 1:
        return None
    return HubDataset(
        found.dataset_path, found.dataset_name, found.dataset_split, found.dataset_revision
    )


def model_index(source: ExportSource) -> dict[str, str]:
    """`model-index.yaml`: paste it between the `---` lines of the candidate's README.md.

    A task that the hub does not have has its own name where the form asks for an id.
    """
    from huggingface_hub import EvalResult
    from huggingface_hub.repocard_data import eval_results_to_model_index

    results = []
    for task, records in by_task(source.candidate).items():
        dataset = dataset_of(task, source.tasks) or HubDataset(task, None, "test", None)
        results.append(
            EvalResult(
                task_type="text-generation",
                task_name="Text Generation",
                dataset_type=dataset.id,
                dataset_name=f"retainbench {task}",
                dataset_config=dataset.config,
                dataset_split=dataset.split,
                dataset_revision=dataset.revision,
                dataset_args={"items": mean(records).n, "axis": records[0].axis},
                metric_type="accuracy" if records[0].metric == "acc" else records[0].metric,
                metric_value=round(mean(records).value, DIGITS),
                metric_name=f"{records[0].metric} (0 to 1)",
            )
        )
    index = eval_results_to_model_index(source.evidence.candidate.name, results)
    return {"model-index.yaml": dump({"model-index": index})}


def eval_results(source: ExportSource) -> dict[str, str]:
    """`.eval_results/retainbench.yaml`, with the drop against the base in each entry's notes.

    Raises:
        UsageError: no task was frozen from a data set of the hub.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    changes = {task.change.task: task.change for task in source.gated()}
    entries = []
    for task, records in by_task(source.candidate).items():
        dataset = dataset_of(task, source.tasks)
        if dataset is None:
            continue
        notes = f"retainbench {version('retainbench')}"
        if task in changes:
            drop = changes[task].drop
            notes += (
                f"; drop against {source.evidence.base.name}: {drop.value:.4f} "
                f"[{drop.low:.4f}, {drop.high:.4f}] at {drop.level:.0%}"
            )
        entries.append(
            EvalResultEntry(
                dataset_id=dataset.id,
                task_id=dataset.config or "default",
                value=round(mean(records).value, DIGITS),
                dataset_revision=dataset.revision,
                date=source.evidence.created[:10],
                notes=notes,
            )
        )
    if not entries:
        raise UsageError(
            "eval-results is about data sets of the hub, and no task of this certificate was "
            "frozen from one; use --format model-index, and --pack for tasks from packs"
        )
    return {".eval_results/retainbench.yaml": dump(eval_result_entries_to_yaml(entries))}


def dump(value: Any) -> str:
    """Safe YAML, keys in the order given; hidden characters are the escape codes of YAML."""
    return visible(
        yaml.dump(value, Dumper=_Quoted, sort_keys=False, allow_unicode=True, width=10_000)
    )
