"""An lm-eval task -> a `Frozen` one: its evaluation items as the model would be asked them.

The items are taken from the requests that lm-eval builds (`Task.build_all_requests`), so
descriptions, shots and templates are rendered into each item's query and nothing of the task's own
code is needed later. Shots are drawn as lm-eval draws them by default (seed 1234). Kept: answers of
multiple choice (of choices, or of contexts before one continuation), greedy log-likelihood, greedy
generation and likelihoods of documents; filters that only cut text; metrics that are a mean over
items; and, if the user allows it, scoring code of lm-eval's own by reference
(tasks/scoring_code.py). Everything else is refused with one line, because a part of a task would be
a different task.

Loading a task runs lm-eval's code for it and may download its dataset; frozen packs do neither.
Command: `retainbench freeze TASK... --out DIR [--include-path DIR] [--filter NAME]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.axes import RetentionAxis
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.records import PREFERRED_METRICS
from retainbench.harness.tasks import scoring_code
from retainbench.harness.tasks.folder import Code
from retainbench.harness.tasks.freeze import Frozen, LeftOut, Provenance
from retainbench.harness.tasks.lm_eval_patches import default_metrics
from retainbench.harness.tasks.pack import Filter, TaskMetric

METRICS = tuple(name for name in PREFERRED_METRICS if name != "reward")
"""Metrics that can decide; the first of them that the task has does."""
ROLLING = "loglikelihood_rolling"
"""Likelihoods of whole documents: a task of perplexity."""
KINDS = ("multiple_choice", "loglikelihood", "generate_until", ROLLING)
SHOTS_SEED = 1234
"""lm-eval's default seed of the few-shot sampler."""
MOST_TOKENS = 256
"""lm-eval's default `max_gen_toks`."""
REVISION = re.compile(r"@([0-9a-f]{40})/")


class FreezeChoices(NamedTuple):
    """What the user decides about a task that is frozen."""

    axis: RetentionAxis
    filter: str | None = None
    """None = the first one that the task lists."""
    licence: str | None = None
    """None = what the dataset's card declares."""
    cluster: str | None = None
    """Field of lm-eval's documents that names what items share; None = each item alone."""
    shots: int | None = None
    """None = as the task declares."""
    allow_code: bool = False
    """Whether scoring code of lm-eval's own may be named."""


def frozen(name: str, task: Any, choices: FreezeChoices, command: Sequence[str] = ()) -> Frozen:
    """A loaded lm-eval task, ready for `freeze.write`.

    Raises:
        UsageError: it scores in a way that a pack cannot hold; the message names it.
    """
    _refuse_special(name, task)
    code = _code(name, task, choices.allow_code)
    if choices.shots is not None:
        task.set_config("num_fewshot", choices.shots)
    task.set_fewshot_seed(SHOTS_SEED)
    task.build_all_requests()
    by_doc: dict[int, list[Any]] = {}
    for request in sorted(task.instances, key=lambda r: r.idx):
        by_doc.setdefault(request.doc_id, []).append(request)
    rows, left_out = [], []
    for number, requests in sorted(by_doc.items()):
        row = _row(f"{name}:{number}", task, requests, choices.cluster)
        if code is not None:
            row |= _scored(row, task, requests[0].doc, code)
        fault = _fault(row)
        if fault:
            left_out.append(LeftOut(id=row["id"], reason=fault))
        else:
            rows.append(row)
    if not rows:
        raise UsageError(f"{name}: no item can be frozen: {left_out[0].reason}")
    keys, unscored = _keys(name, task, choices, code)
    licence = choices.licence or _licence(task)
    shots = int(task.config.num_fewshot or 0)
    keys["metadata"] = {
        "version": _version(task),
        "licence": licence,
        "axis": choices.axis,
        "shots": shots,
    }
    if code is not None:
        keys["metadata"]["code"] = code.model_dump(mode="json")
    return Frozen(
        name=name,
        keys=keys,
        rows=rows,
        provenance=_provenance(name, task, licence, shots, len(rows), command).model_copy(
            update={"left_out": left_out, "left_out_of_scoring": unscored}
        ),
    )


def _refuse_special(name: str, task: Any) -> None:
    """Raise `UsageError` for a task that has no plain form."""
    config = getattr(task, "config", None)
    kind = getattr(task, "OUTPUT_TYPE", None)
    if kind not in KINDS or config is None:
        raise UsageError(
            f"{name}: output type {kind} has no score per item, so it cannot be frozen"
        )
    special = {
        "doc_to_image": "shows images",
        "doc_to_audio": "plays sounds",
        "gen_prefix": "starts the answer itself (gen_prefix)",
        "use_prompt": "takes its prompt from promptsource (use_prompt)",
    }
    for key, fault in special.items():
        if getattr(config, key, None):
            raise UsageError(f"{name}: {fault}, so it cannot be frozen")
    if config.repeats != 1:
        raise UsageError(f"{name}: asks each item {config.repeats} times, so it cannot be frozen")


def _code(name: str, task: Any, allowed: bool) -> Code | None:
    """The code that scores a task where no plain metric does.

    Raises:
        UsageError: it is not lm-eval's own, or not allowed.
    """
    if not task.config.process_results or task.OUTPUT_TYPE == ROLLING:
        return None  # of a document the likelihood alone is the score
    source = Path(str((task.config.metadata or {}).get("config_source"))).resolve()
    if not source.is_relative_to(scoring_code.root()):
        raise UsageError(
            f"{name}: scores with its own function (process_results), so it cannot be frozen"
        )
    if not allowed:
        raise UsageError(
            f"{name}: is scored by code of lm-eval ({source.relative_to(scoring_code.root())}). To "
            "freeze it with a reference to that code, add --allow-code"
        )
    means = [m["metric"] for m in task.config.metric_list if m.get("aggregation") == "mean"]
    chosen = next((metric for metric in METRICS if metric in means), *means[:1])
    return scoring_code.of_config(source, chosen)


def _scored(row: dict[str, Any], task: Any, doc: Any, code: Code) -> dict[str, Any]:
    """The document that the code needs, and the score that a guesser gets from it."""
    try:
        kept = json.dumps(doc, ensure_ascii=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{row['id']}: its document is not plain JSON: {error}") from error
    if "choices" not in row:
        return {"doc": kept, "chance": 0.0}
    score = task.config.process_results
    found = scoring_code.chance(score, json.loads(kept), len(row["choices"]), code.metric)
    return {"doc": kept, "chance": found}


def _row(identity: str, task: Any, requests: list[Any], cluster: str | None) -> dict[str, Any]:
    """One item, from the requests that lm-eval built for it."""
    doc, kind = requests[0].doc, task.OUTPUT_TYPE
    row: dict[str, Any] = {"id": identity, "query": requests[0].args[0]}
    if kind == ROLLING:
        row |= {"query": "", "answer": requests[0].args[0], "aliases": []}
    elif kind == "multiple_choice":
        row |= _choices(task, doc, requests)
    else:
        target = task.doc_to_target(doc)
        if task.config.doc_to_choice is not None and isinstance(target, int):
            target = task.doc_to_choice(doc)[target]
        target = _only(target)
        row |= {"answer": target if isinstance(target, list) else str(target), "aliases": []}
    if cluster is not None and cluster not in doc:
        raise UsageError(f"{identity}: no field {cluster!r}. Choose one of {', '.join(doc)}")
    return row | {"cluster": identity if cluster is None else str(doc[cluster])}


def _choices(task: Any, doc: Any, requests: list[Any]) -> dict[str, Any]:
    options = list(task.doc_to_choice(doc))
    asked = requests[: len(options)]  # acc_mutual_info asks each choice again, without a prompt
    delimiter = task.config.target_delimiter
    if task.multiple_input:
        continuation = asked[0].args[1].removeprefix(delimiter)
        contexts = [request.args[0] for request in asked]
        gold = task.doc_to_text(doc)
        return {"query": "", "choices": contexts, "gold": gold, "continuation": continuation}
    gold = _only(task.doc_to_target(doc))
    gold = options.index(gold) if isinstance(gold, str) and gold in options else gold
    return {"choices": options, "gold": gold}


def _only(value: Any) -> Any:
    """The element of a list of length one; lm-eval takes lists of right answers."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _fault(row: dict[str, Any]) -> str | None:
    """Why an item cannot be in a pack; None if it can."""
    if "choices" not in row:
        several = isinstance(row["answer"], list)
        return "several right answers" if several else None if row["answer"] else "no answer"
    options, gold = row["choices"], row["gold"]
    if len(options) < 2 or not all(isinstance(option, str) and option for option in options):
        return "fewer than two choices, or an empty one"
    if len(set(options)) < len(options):
        return "two equal choices"
    if isinstance(gold, list):
        return "several right choices"
    if not isinstance(gold, int) or not 0 <= gold < len(options):
        return "the right answer is not among the choices"
    return None


def _keys(
    name: str, task: Any, choices: FreezeChoices, code: Code | None
) -> tuple[dict[str, Any], list[str]]:
    """The pack's YAML, and the metrics and filters of the task that it leaves out."""
    if task.OUTPUT_TYPE == ROLLING:
        return {"include": "_perplexity.yaml", "doc_to_text": ""}, []
    delimiter = task.config.target_delimiter
    keys: dict[str, Any] = {"doc_to_text": "query", "target_delimiter": delimiter}
    if code is not None:
        keys["process_results"] = "!function _code.score"
        listed = [str(entry["metric"]) for entry in task.config.metric_list]
        unscored = [f"metric {metric}" for metric in listed if metric != code.metric]
    else:
        keys["metric_list"], unscored = _metrics(name, task)
    if task.OUTPUT_TYPE == "multiple_choice":
        contexts = {"doc_to_text": "gold", "doc_to_target": "continuation"}
        keys |= {"include": "_multiple_choice.yaml"} | (contexts if task.multiple_input else {})
        return keys, unscored
    keys = {"process_results": None} | keys
    keys |= {"include": "_free_form.yaml", "doc_to_target": "answer"}
    if task.OUTPUT_TYPE == "loglikelihood":
        return keys | {"output_type": "loglikelihood", "generation_kwargs": None}, unscored
    keys["generation_kwargs"] = _generation(name, task.config.generation_kwargs)
    kept, others = _filter(name, task.config.filter_list or [], choices.filter)
    if kept:
        keys["filter_list"] = [kept.model_dump(mode="json", exclude_unset=True)]
    return keys, [*unscored, *others]


def _metrics(name: str, task: Any) -> tuple[list[dict[str, Any]], list[str]]:
    listed = task.config.metric_list or [{"metric": key} for key in default_metrics(task)]
    kept, unscored = [], []
    for entry in listed:
        try:
            settings = {"aggregation": "mean", "higher_is_better": True} | entry
            metric = TaskMetric.model_validate(settings)
        except ValueError:
            unscored.append(f"metric {entry['metric']}")
            continue
        kept.append(metric.model_dump(mode="json", exclude_unset=True))
    if not set(METRICS) & {entry["metric"] for entry in kept}:
        said = ", ".join(unscored) or "none of them"
        raise UsageError(f"{name}: needs {', '.join(METRICS)} as a mean over items; it has {said}")
    return kept, unscored


def _generation(name: str, options: dict[str, Any]) -> dict[str, Any]:
    given = dict(options)
    until, tokens = given.pop("until"), given.pop("max_gen_toks", MOST_TOKENS)
    if given.pop("do_sample", False) or given.pop("temperature", 0.0) not in (0, None):
        raise UsageError(
            f"{name}: samples its answers, so it cannot be frozen: only greedy answers repeat"
        )
    if given:
        raise UsageError(f"{name}: generation_kwargs {', '.join(given)} cannot be frozen")
    until = [until] if isinstance(until, str) else list(until)
    return {"until": until, "do_sample": False, "max_gen_toks": tokens}


def _filter(
    name: str, listed: list[dict[str, Any]], wanted: str | None
) -> tuple[Filter | None, list[str]]:
    """The filter that decides, and the names of the others."""
    by_name = {str(entry["name"]): entry for entry in listed}
    if wanted is not None and wanted not in by_name:
        raise UsageError(f"{name}: no filter {wanted!r}; it has {', '.join(by_name) or 'none'}")
    if not by_name:
        return None, []
    chosen = wanted or next(iter(by_name))
    try:
        kept = Filter.model_validate(by_name[chosen])
    except ValueError as error:
        raise UsageError(
            f"{name}: filter {chosen} does more than cut text. Choose another with --filter"
        ) from error
    return kept, [f"filter {other}" for other in by_name if other != chosen]


def _provenance(
    name: str, task: Any, licence: str, shots: int, items: int, command: Sequence[str]
) -> Provenance:
    config = task.config
    drawn = f"{shots} shots, drawn by lm-eval with seed {SHOTS_SEED}, frozen with each item"
    return Provenance(
        source="lm-eval",
        name=name,
        dataset_path=config.dataset_path,
        dataset_name=config.dataset_name,
        dataset_revision=_revision(task),
        dataset_split=config.test_split if task.has_test_docs() else config.validation_split,
        licence=licence,
        context=drawn if shots else "none",
        items=items,
        versions={package: version(package) for package in ("retainbench", "lm-eval", "datasets")},
        command=list(command),
    )


def _revision(task: Any) -> str | None:
    """The pinned revision, else the commit in the addresses of the loaded files."""
    pinned = (task.config.dataset_kwargs or {}).get("revision")
    if pinned:
        return str(pinned)
    info = getattr(task.eval_docs, "info", None)
    addresses = getattr(info, "download_checksums", None) or {}
    found = [REVISION.search(address) for address in addresses]
    return next((match.group(1) for match in found if match), None)


def _licence(task: Any) -> str:
    info = getattr(task.eval_docs, "info", None)
    stated = str(getattr(info, "license", "") or "").strip()
    return stated or f"not stated; see {task.config.dataset_path or 'the source'}"


def _version(task: Any) -> float | int | str:
    found = task.VERSION
    return found if isinstance(found, (float, int)) else str(found)
