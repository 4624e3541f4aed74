"""Hugging Face: the model card's `model-index`, and `.eval_results` entries.

`model-index` is the older, widely read form. It gets absolute scores only (a drop is not a score of
the model) and never `verified`, which only the hub may set. `.eval_results` accepts datasets that
the hub has on its list; our tasks are not, so entries are written for a dataset id that the reader
must replace once the tasks are on the hub: each says so in its notes.

Strings are quoted always: a task named `no` or `1e3` must stay a string.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import yaml

from retainbench.harness.certificate.formats.source import ExportSource, by_task, mean

DIGITS = 6


class _Quoted(yaml.SafeDumper):
    """YAML in which every string value is quoted."""


def _quote(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Quoted.add_representer(str, _quote)


def model_index(source: ExportSource) -> dict[str, str]:
    """`model-index.yaml`: paste it between the `---` lines of the candidate's README.md."""
    model = source.evidence.candidate
    results = [
        {
            "task": {"type": "text-generation", "name": "Text Generation"},
            "dataset": {
                "type": f"retainbench/{task}",
                "name": f"retainbench {task}",
                "split": "test",
                "args": {"items": mean(records).n, "axis": records[0].axis},
            },
            "metrics": [
                {
                    "type": "accuracy" if records[0].metric == "acc" else records[0].metric,
                    "value": round(mean(records).value, DIGITS),
                    "name": f"{records[0].metric} (0 to 1)",
                }
            ],
        }
        for task, records in by_task(source.candidate).items()
    ]
    return {"model-index.yaml": dump({"model-index": [{"name": model.name, "results": results}]})}


def eval_results(source: ExportSource) -> dict[str, str]:
    """`.eval_results/retainbench.yaml`, with the drop against the base in each entry's notes."""
    changes = {task.change.task: task.change for task in source.gated()}
    entries = []
    for task, records in by_task(source.candidate).items():
        notes = "task of retainbench, not on the hub's list of benchmarks"
        if task in changes:
            drop = changes[task].drop
            notes += (
                f"; drop against {source.evidence.base.name}: {drop.value:.4f} "
                f"[{drop.low:.4f}, {drop.high:.4f}] at {drop.level:.0%}"
            )
        entries.append(
            {
                "dataset": {"id": "retainbench/tasks", "task_id": task},
                "value": round(mean(records).value, DIGITS),
                "date": source.evidence.created[:10],
                "evaluation_framework": f"retainbench {version('retainbench')}",
                "notes": notes,
            }
        )
    return {".eval_results/retainbench.yaml": dump(entries)}


def dump(value: Any) -> str:
    """Safe YAML, keys in the order given."""
    return yaml.dump(value, Dumper=_Quoted, sort_keys=False, allow_unicode=True, width=10_000)
