"""Sources to freeze: a folder of lm-eval tasks of every kind, and plain JSONL files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from retainbench.harness.core import paths
from retainbench.harness.core.schema import RetentionAxis
from retainbench.harness.tasks import catalogue, freeze

DATA = Path(os.environ.get("RETAINBENCH_TEST_DATA") or paths.PACKAGE.parent / "shared" / "data")
"""Real benchmark items beside the project; tests that need them skip without."""

CODE = """
import datasets

def rows(plus):
    return datasets.Dataset.from_list([
        {"q": f"What is {i} plus {plus}?", "o": [str(i + plus), str(i), f"9{i}"], "a": 0,
         "t": f" {i + plus}", "s": f"#### {i + plus}", "c": [f"{i} and {plus}", f"{i} or {plus}"],
         "page": f"page {i // 3}"}
        for i in range(9)])

def load(**_):
    return {"test": rows(1), "train": rows(2)}

def twice(**_):
    spoiled = [dict(row) for row in rows(1)]
    spoiled[2]["o"] = ["3", "3", "1"]
    spoiled[4]["a"] = 7
    return {"test": datasets.Dataset.from_list(spoiled)}

def judge(doc, results):
    return {"acc": 1.0}
"""
HEAD = "custom_dataset: !function code.load\ntest_split: test\nmetadata: {version: 2.0}\n"
MEAN = "metric_list: [{metric: %s, aggregation: mean, higher_is_better: true}]\n"
CHOICE = 'output_type: multiple_choice\ndoc_to_text: "{{q}}\\nA:"\ndoc_to_choice: o\n'
CHOICE += "doc_to_target: a\n" + MEAN % "acc"
GENERATE = 'output_type: generate_until\ndoc_to_text: "{{q}}\\nA:"\ndoc_to_target: s\n'
GENERATE += "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true,"
GENERATE += ' ignore_case: true, regexes_to_ignore: ["#### "]}]\n'
GENERATE += 'generation_kwargs: {until: ["\\n"], do_sample: false, max_gen_toks: 6}\n'
FILTERS = """filter_list:
  - {name: first, filter: [{function: regex, regex_pattern: "([0-9]+)"}, {function: take_first}]}
  - {name: whole, filter: [{function: take_first}]}
"""
SHOTS = 'num_fewshot: 2\nfewshot_split: train\ndescription: "Sums.\\n\\n"\n'

PLAIN = {
    "src_choice": HEAD + CHOICE,
    "src_norm": HEAD + CHOICE.replace("metric: acc", "metric: acc_norm"),
    "src_list": HEAD + CHOICE.replace("doc_to_target: a", 'doc_to_target: "[{{a}}]"'),
    "src_shots": HEAD + CHOICE + SHOTS,
    "src_contexts": HEAD + "output_type: multiple_choice\ndoc_to_text: a\ndoc_to_choice: c\n"
    'doc_to_target: q\ntarget_delimiter: " - "\n' + MEAN % "acc",
    "src_likelihood": HEAD + 'output_type: loglikelihood\ndoc_to_text: "{{q}}"\ndoc_to_target: t\n'
    "metric_list:\n  - {metric: perplexity}\n  - {metric: acc}\n",
    "src_generate": HEAD + GENERATE + FILTERS + SHOTS,
}
"""lm-eval tasks that freeze whole, by name."""
REFUSED = {
    "rolling": (HEAD + "output_type: loglikelihood_rolling\ndoc_to_target: q\ndoc_to_text: ''\n")
    + "metric_list: [{metric: word_perplexity}]\n",
    "own_function": HEAD + CHOICE + "process_results: !function code.judge\n",
    "prefix": HEAD + GENERATE + 'gen_prefix: "The sum is"\n',
    "repeats": HEAD + GENERATE + "repeats: 3\n",
    "sampled": HEAD + GENERATE.replace("do_sample: false", "do_sample: true, temperature: 0.7"),
    "majority": HEAD + GENERATE + "filter_list: [{name: m, filter: [{function: majority_vote}]}]\n",
    "no_accuracy": HEAD + CHOICE.replace("metric: acc", "metric: f1"),
    "list_target": HEAD + GENERATE.replace("doc_to_target: s", "doc_to_target: o"),
}
"""lm-eval tasks that have no plain form."""


def write_sources(folder: Path, sources: Mapping[str, str]) -> Path:
    """A folder for lm-eval's `--include_path`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "code.py").write_text(CODE, encoding="utf-8")
    for name, text in sources.items():
        (folder / f"{name}.yaml").write_text(f"task: {name}\n{text}", encoding="utf-8")
    return folder


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Rows one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def choice_rows(count: int = 8) -> list[dict[str, Any]]:
    """Small multiple-choice items."""
    return [
        {"id": f"sum:{i}", "query": f"{i} + 1?", "choices": [str(i + 1), str(i)], "gold": i % 2}
        for i in range(count)
    ]


def answer_rows(count: int = 8) -> list[dict[str, Any]]:
    """Small free-form items."""
    return [{"id": f"sum:{i}", "query": f"{i} + 1?", "answer": str(i + 1)} for i in range(count)]


def make_pack(
    out: Path, name: str = "sums", rows: Iterable[Mapping[str, Any]] = (), **options: Any
) -> catalogue.TaskInfo:
    """OUT/NAME/ of the given rows, by default `choice_rows`."""
    axis: RetentionAxis = options.pop("axis", "numeric")
    file = write_jsonl(out.parent / f"{name}.jsonl", rows or choice_rows())
    return freeze.write(freeze.from_jsonl(file, name, axis, **options), out)
