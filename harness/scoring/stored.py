"""Per-item results on disk: one file per model and task, keyed by all that can change its records.

A run keeps them in its folder, certificates and power plans in the user's cache
(`paths.cache()/records`). `score_base` and `score_repeats` give the base's side of a certificate or
of a power plan: its records and its repeat scorings, from which the noise floor is computed. A
certificate's candidate is never taken from the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from retainbench.harness.core import paths
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.atomic import remove_abandoned, require_writable
from retainbench.harness.core.files.storage import digest, intact, read_jsonl, write_jsonl
from retainbench.harness.core.records import SCHEMA_VERSION, ItemRecord
from retainbench.harness.models.checked import Base
from retainbench.harness.models.loading import Loaded, model_digest
from retainbench.harness.scoring.evaluate import (
    FIRST_SCORING,
    REPEAT_SCORINGS,
    RepeatScoring,
    affects,
    by_task,
)
from retainbench.harness.scoring.progress import watched
from retainbench.harness.tasks import catalogue, scoring_code
from retainbench.harness.tasks.catalogue import OWN, Catalogue, TaskInfo
from retainbench.harness.tasks.lock import check_locked
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering

VERSIONS = (
    "retainbench",
    "torch",
    "transformers",
    "lm-eval",
    "peft",
    "tokenizers",
    "numpy",
    "scipy",
)
"""Packages whose version may change the records."""

Evaluate = Callable[..., Iterable[list[ItemRecord]]]
"""(checked model, short names of tasks, first n items or None) -> the records of each task as soon
as it is scored, in the order of the names; with the keyword `rendering` where prompts are sent as a
chat."""


class Scoring(NamedTuple):
    """How models are scored, and the repeat scorings of the base."""

    evaluate: Evaluate
    settings: Mapping[str, str]
    """Backend, dtype, device, card (`scoring_settings`): recorded, and part of the store's key."""
    repeat_base: bool = False
    """Score the base twice, without the cache, and refuse answers that differ."""
    repeats: Mapping[str, Evaluate] = MappingProxyType({})
    """Repeat scorings of the base, by name (`evaluate.REPEAT_SCORINGS`): the noise floor."""
    rendering: Rendering = PLAIN
    """How prompts reach the model."""

    def through(self, rendering: Rendering) -> Scoring:
        """The same scoring, with prompts rendered in this way."""
        if rendering.chat is None:
            return self
        repeats = {name: partial(f, rendering=rendering) for name, f in self.repeats.items()}
        score = partial(self.evaluate, rendering=rendering)
        return self._replace(evaluate=score, repeats=repeats, rendering=rendering)


@dataclass(frozen=True)
class Store:
    """Records by content: equal keys mean equal records."""

    folder: Path
    settings: Mapping[str, str]
    """As in `Scoring`; a device is its kind, and the card's name where there is one."""
    items: int | None = None
    """First items of each task that are scored; None means all."""
    rendering: Rendering = PLAIN
    """How prompts reach the model."""

    def path(self, model: str, info: TaskInfo, repeat: RepeatScoring = FIRST_SCORING) -> Path:
        """The file of a model, by the digest of its weights, tokenizer and template, on a task."""
        settings = dict(self.settings)
        if "device" in settings:
            settings["device"] = settings["device"].partition(":")[0]
        key = {
            "schema": SCHEMA_VERSION,
            "model": model,
            "task": catalogue.lock_digest(info),
            "items": self.items,
            "settings": settings,
            "variation": repeat._asdict(),
            "versions": _versions() | scoring_code.packages(info),
        }
        if self.rendering.digest:
            key["format"] = self.rendering.digest
        if info.sampling:
            key["sampling"] = info.sampling.model_dump()
        return self.folder / f"{info.name}-{digest(key)[:32]}.jsonl"

    def records(
        self,
        model: str,
        infos: Sequence[TaskInfo],
        score: Callable[[list[TaskInfo]], Iterable[list[ItemRecord]]],
        repeat: RepeatScoring = FIRST_SCORING,
        side: str = "scoring",
    ) -> list[ItemRecord]:
        """Records of the tasks that `repeat` affects; missing ones are scored and stored.

        Each task is written when it is done, so that a kill loses the task in flight only.

        Args:
            score: gives the records of each task, in this order.
            side: how an error names these records.

        Raises:
            IntegrityError: `score` returns other items than the locked ones.
            UsageError: the folder cannot be written; nothing is scored then.
        """
        files = {i.name: self.path(model, i, repeat) for i in infos if affects(repeat, i)}
        remove_abandoned(self.folder)
        missing = [info for info in infos if info.name in files and not intact(files[info.name])]
        if missing:
            require_writable(self.folder)
            scored = watched(score(missing), missing, self.items, side)
            for info, records in zip(missing, scored, strict=True):
                check_locked(records, {info.name: catalogue.lock(info)}, side, self.items)
                if not intact(files[info.name]):  # else another command was first, and may read it
                    write_jsonl(files[info.name], records, checked=True)
        return [record for file in files.values() for record in read_jsonl(file, ItemRecord)]


def evaluate_stored(
    loaded: Loaded,
    names: Sequence[str],
    store: Store,
    repeat: RepeatScoring = FIRST_SCORING,
    tasks: Catalogue = OWN,
) -> list[ItemRecord]:
    """`evaluate` of a loaded model, through a store."""

    def score(infos: Sequence[TaskInfo]) -> Iterable[list[ItemRecord]]:
        return by_task(
            loaded,
            infos,
            limit=store.items,
            repeat=repeat,
            allow_code=tasks.allow_code,
            rendering=store.rendering,
        )

    return store.records(model_digest(loaded), tasks.find(names), score, repeat)


def score_candidate(
    candidate: Base,
    names: Sequence[str],
    scoring: Scoring,
    most: int | None,
    unfinished: Path,
    tasks: Catalogue = OWN,
) -> list[ItemRecord]:
    """Records of a candidate, kept by task in `unfinished` until its certificate is written.

    Raises:
        IntegrityError: records differ from the locks; nothing is kept then.
    """

    def score(infos: Sequence[TaskInfo]) -> Iterable[list[ItemRecord]]:
        return scoring.evaluate(candidate, [info.name for info in infos], most)

    store = Store(unfinished, scoring.settings, most, scoring.rendering)
    return store.records(candidate.digest, tasks.find(names), score, side="candidate")


def score_base(
    base: Base,
    names: Sequence[str],
    scoring: Scoring,
    most: int | None,
    tasks: Catalogue = OWN,
) -> tuple[list[ItemRecord], dict[str, float] | None]:
    """Records of the base; with `scoring.repeat_base` scored twice, with the churn per task.

    Raises:
        IntegrityError: records differ from the locks, or the two scorings from each other.
    """
    if scoring.repeat_base:
        first, second = (joined(scoring.evaluate(base, names, most)) for _ in range(2))
        return first, _churn(first, second)
    return _cached(base, names, scoring, most, tasks), None


def score_repeats(
    base: Base,
    names: Sequence[str],
    scoring: Scoring,
    most: int | None,
    tasks: Catalogue = OWN,
) -> dict[str, list[ItemRecord]]:
    """The repeat scorings of the base that `scoring.repeats` names, through the user's cache.

    Each one answers those tasks that it can be used on, and of those every (first) item.
    """
    found = {
        name: _cached(base, names, scoring._replace(evaluate=again), most, tasks, name)
        for name, again in scoring.repeats.items()
    }
    return {name: records for name, records in found.items() if records}


def _cached(
    base: Base,
    names: Sequence[str],
    scoring: Scoring,
    most: int | None,
    tasks: Catalogue,
    name: str | None = None,
) -> list[ItemRecord]:
    """Through the user's cache, by `base.digest`.

    Args:
        name: of the repeat scoring; None is the first one.
    """
    repeat = REPEAT_SCORINGS[name] if name else FIRST_SCORING
    side = f"base, {name}" if name else "base"

    def score(infos: Sequence[TaskInfo]) -> Iterable[list[ItemRecord]]:
        return scoring.evaluate(base, [info.name for info in infos], most)

    store = Store(paths.cache() / "records", scoring.settings, most, scoring.rendering)
    return store.records(base.digest, tasks.find(names), score, repeat, side)


def joined(tasks: Iterable[list[ItemRecord]]) -> list[ItemRecord]:
    """The records of all tasks."""
    return [record for records in tasks for record in records]


@cache
def _versions() -> dict[str, str]:
    """Read once per process: each look-up parses the metadata of a distribution."""
    return {name: version(name) for name in VERSIONS}


def _churn(first: Sequence[ItemRecord], second: Sequence[ItemRecord]) -> dict[str, float]:
    """Share of items per task whose score differs between two runs of the same weights.

    Raises:
        IntegrityError: any score differs; scores that do not repeat cannot certify a difference.
    """
    again = {(r.task, r.item_id, r.filter, r.repeat): r.score for r in second}
    churn: dict[str, list[bool]] = {}
    for record in first:
        key = (record.task, record.item_id, record.filter, record.repeat)
        churn.setdefault(record.task, []).append(again.get(key) != record.score)
    shares = {task: sum(changed) / len(changed) for task, changed in churn.items()}
    for task, share in shares.items():
        if share:
            raise IntegrityError(
                f"task {task}: {share:.1%} of the answers changed when the same base was scored "
                "twice; use one backend, dtype and batch size that repeat exactly"
            )
    return shares


def scoring_settings(
    device: str = "cpu", dtype: str = "float32", device_map: str | None = None
) -> dict[str, str]:
    """How our backend scores with a placement; a card counts by its name: answers depend on it."""
    settings = {"backend": "retainbench", "dtype": dtype, "device": device}
    if device_map:
        return settings | _spread(device_map)
    if device.startswith("cuda"):
        import torch

        settings["card"] = torch.cuda.get_device_name(device)
    return settings


def _spread(device_map: str) -> dict[str, str]:
    """The settings of a device map: all the cards that it may use."""
    import torch

    cards = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    device = {"device": "cuda" if cards else "cpu", "device_map": device_map}
    return device | ({"card": ", ".join(cards)} if cards else {})
