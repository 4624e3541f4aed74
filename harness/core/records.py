"""Records: what JSON and JSONL files hold, as strict pydantic models; items, training, commands.

`scorecards.py` has what a run found, `changes.py` a base and a candidate compared.

Reads and writes nothing itself: `write_json`, `write_jsonl` and their readers are the
only way files with records come to be, so that all of them are canonical (UTF-8, sorted keys, no
NaN), atomic (temporary sibling, fsync, rename) and versioned. A reader refuses an unknown schema
version, an unknown key, a missing key and a non-finite number, naming file and line.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from retainbench.harness.core.axes import Axis

SCHEMA_VERSION = 2

Verdict = Literal["PASS", "REGRESSION", "INCONCLUSIVE"]
Share = Annotated[float, Field(ge=0, le=1)]
MOST_NATS = 1e9
"""Beyond it, no text has such a log-likelihood, and squares and cubes would overflow."""
LogLikelihood = Annotated[float, Field(ge=-MOST_NATS, le=MOST_NATS)]
"""Nats."""


class Record(BaseModel):
    """Base of all records: immutable, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Settings(Record):
    """Base of what a person writes: a value of another type is refused, not converted."""

    model_config = ConfigDict(strict=True, use_attribute_docstrings=True)


PREFERRED_METRICS = ("reward", "acc", "exact_match", "acc_norm")
"""What `score` is, in order of preference, among the metrics that a task reports."""
DOCUMENT_METRIC = "token_probability"
"""What `score` is of a document: the geometric mean of its tokens' probabilities."""


def gold_probability(logprobs: Sequence[float], gold: Iterable[int]) -> float:
    """Probability of the gold choices, normalised over all choices (STATISTICS 9).

    >>> round(gold_probability([-1.0, -2.0, -3.0], [0]), 6)
    0.665241
    """
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return min(1.0, sum(weights[index] for index in set(gold)) / sum(weights))


class ItemRecord(Record):
    """One item of one task answered by one checkpoint; the unit of every statistic.

    Items pair on (task, doc_hash, filter, repeat); equal prompt and target hashes are required.
    """

    task: str
    axis: Axis
    item_id: str
    doc_hash: str
    prompt_hash: str
    target_hash: str
    filter: str = "none"
    metric: str
    """What `score` is: `acc`, `exact_match`, `reward`, or the name in an adopted log."""
    repeat: int = 0
    cluster: str
    chance: Share
    """Expected score of a guesser on this item: 1/k for k choices, 0 for free-form answers."""
    score: Share
    soft_score: Share | None = None
    """Probability of the gold choice, normalised over the choices."""
    valid: bool = True
    response: str | None = None
    """What the model wrote (free form), or the text of the chosen choice."""
    choice_logprobs: list[LogLikelihood] | None = None
    """Of a document, the sum over all of its tokens."""
    gold: int | str | None = None
    cut: bool | None = None
    """The response ended at the limit of new tokens; None where nothing was generated, or where the
    records do not say."""
    document_tokens: int | None = None
    """Tokens of a document, by the model's own tokenizer."""
    document_bytes: int | None = None
    """Its length in UTF-8."""


def document_nats(record: ItemRecord) -> float:
    """Log-likelihood of a document in nats per token of the model that read it.

    Raises:
        ValueError: the record is not of a document.
    """
    if record.choice_logprobs is None or not record.document_tokens:
        raise ValueError(f"{record.task}: item {record.item_id} is not a document")
    return record.choice_logprobs[0] / record.document_tokens


class ItemText(Record):
    """What an item asks, stored once per run so that reports can show lost and gained items."""

    task: str
    item_id: str
    doc_hash: str
    prompt: str
    choices: list[str] | None
    gold: str


class Ledger(Record):
    """What a recipe has spent, in every unit (METHODS 0)."""

    steps: int = 0
    samples: int = 0
    """Completions that updates learn from: rows of a gradient step, as often as they are trained
    on (a pair of DPO is two, a second epoch counts again), or answers that an update of ES scores.
    What is sampled and not trained on costs tokens and no sample."""
    forward_tokens: int = 0
    """Tokens through the model forwards, generation included. A prompt counts whole for each copy
    of the weights that reads it, whatever it shares with other prompts, but once for all samples
    of it."""
    backward_tokens: int = 0
    generated_tokens: int = 0
    flops: float = 0.0
    """2N per forward token + 4N per backward token, N = parameters of the model."""
    seconds: float = 0.0
    peak_memory_bytes: int = 0

    def used(self, unit: str) -> float:
        """What was spent in a budget's unit; `tokens` are forward tokens."""
        return float(getattr(self, {"tokens": "forward_tokens"}.get(unit, unit)))


class DeviceRecord(Record):
    """`device.json`: what a run is computed on."""

    device: str
    """The kind, without a number: cpu, cuda, mps."""


class CheckpointRecord(Record):
    """One scored point of a trajectory."""

    stage: int
    """0-based stage of the recipe; a single-method recipe has stage 0 only."""
    fraction: float
    """Share of the whole budget at which the checkpoint was taken (0 = the base itself); of an
    interpolation, the share of the weights' change that it keeps."""
    folder: str
    """Relative to the cell's folder."""
    weights_digest: str
    ledger: Ledger
    metrics: dict[str, float] = {}
    """Numbers that the step log holds for the last update before the checkpoint."""


class TrainRecord(Record):
    """`cells/<id>/train.json`: what training one cell did."""

    schema_version: int = SCHEMA_VERSION
    cell: str
    status: Literal["done", "failed"]
    reason: str | None = None
    """Why it failed, or why it ended before the budget (for example: nothing was accepted)."""
    checkpoints: list[CheckpointRecord]
    interpolated: list[CheckpointRecord] = []
    """Between the base and the last checkpoint."""
    trainable_parameters: int
    total_parameters: int
    metrics: dict[str, float]
    """Final values of the method's own metrics (zero-sd share, clip share, es_null, ...)."""
    dtypes: dict[str, str]
    """parameter, master, optimizer and saved dtype."""
    environment: dict[str, str]


class Commands(Record):
    """`commands.json`: the command lines that made a folder, each as a list of arguments."""

    lines: list[list[str]]
