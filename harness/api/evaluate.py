"""Score a model item by item, and measure how far its weights moved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from pydantic import ValidationError

from retainbench.harness.api import models
from retainbench.harness.api.records import frame
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.process import quieten
from retainbench.harness.core.records import Settings
from retainbench.harness.core.schema import Format, Sampling
from retainbench.harness.models.placement import placed
from retainbench.harness.suites import own
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.rendering import chat

if TYPE_CHECKING:
    import pandas as pd

    from retainbench.harness.api.models import Model
    from retainbench.harness.drift.records import DriftReport
    from retainbench.harness.running.run import Executor

T = TypeVar("T", bound=Settings)


def evaluate(
    model: Model,
    tasks: str | Sequence[str],
    *,
    base: str | Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    dtype: str = "float32",
    device_map: str | None = None,
    engine: str = "transformers",
    engine_args: str = "",
    workers: int = 1,
    executor: Executor = "local",
    packs: Sequence[str | Path] = (),
    allow_code: bool = False,
    format: Mapping[str, object] | None = None,
    scoring: Mapping[str, object] | None = None,
) -> pd.DataFrame:
    """Score a model on frozen tasks; a row per item, as `retainbench evaluate --out` writes them.

    A loaded model keeps its weights, modes, device and dtype; no global generator is moved.

    Args:
        model: a named base, a folder, an adapter or a hub id, or (model, tokenizer).
        tasks: names, as `retainbench tasks` lists them, or "./folder" as `retainbench new task`
            writes it.
        base: of an adapter; default: the one that it names. Not for a loaded model.
        limit: score the first n items of each task only.
        device: a torch device; a loaded model stays on its own.
        dtype: float32, bfloat16, float16, or auto (as stored); not for a loaded model.
        device_map: `auto` spreads the layers over the GPUs of this machine.
        engine: what answers: transformers, llama.cpp or lm-eval:NAME; for a loaded model the first.
        engine_args: `key=value,...` for the others.
        workers: processes that share the items; `executor="ray"` starts them on a Ray cluster.
        packs: folders of tasks from `retainbench freeze`.
        allow_code: lets the installed lm-eval's code score the packs that name it.
        format: as in a suite, such as {"template": "chat"}: prompts through the model's template.
        scoring: as in a suite, such as {"repeats": 4}: targets are answered several times.

    Raises:
        UsageError: an unknown task or model, or a format that it cannot be asked in.
        IntegrityError: a task differs from its lock, or the model cannot be loaded safely.
    """
    from retainbench.harness.running import shards
    from retainbench.harness.scoring import evaluate as evaluating
    from retainbench.harness.scoring.engines.opening import chosen
    from retainbench.harness.scoring.stored import joined

    quieten()
    given = Catalogue.of([Path(pack) for pack in packs], allow_code=allow_code)
    names, brought = own.bring_tasks([tasks] if isinstance(tasks, str) else tasks, given)
    known = replace(brought, sampling=_part(Sampling, scoring, "scoring") if scoring else None)
    infos = known.find(names)
    asked = _part(Format, format or {}, "format")
    placement, answering = placed(device, dtype, device_map), chosen(engine, engine_args)
    if answering.ours and workers == 1 and executor == "local":
        found = models.loaded(model, base=base, placement=placement)
        rendering = chat.of(found.tokenizer, asked)
        answered = evaluating.evaluate(
            found, infos, limit=limit, allow_code=allow_code, rendering=rendering
        )
    else:
        checked = models.checked(model, base)
        answered = joined(
            shards.scorer(workers, executor)(
                checked,
                [info.name for info in infos],
                limit,
                placement=placement,
                tasks=known,
                rendering=chat.of_folder(checked.reader, asked),
                engine=answering,
            )
        )
    return frame(answered)


def _part(model: type[T], value: Mapping[str, object], where: str) -> T:
    """A part of a suite."""
    try:
        return model.model_validate(dict(value))
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join([where, *map(str, detail["loc"])])
        raise UsageError(f"{place}: {detail['msg'].removeprefix('Value error, ')}") from error


def drift(
    base: Model, candidate: Model, *, spectral: bool = False, subspace: bool = False
) -> DriftReport:
    """How far and where the weights moved; the report that `retainbench drift --out` writes.

    Args:
        spectral: also measure spectral norms and ranks.
        subspace: also measure the overlap with the base's principal subspaces.

    Raises:
        IntegrityError: the checkpoints cannot be compared.
    """
    from retainbench.harness.drift import measure
    from retainbench.harness.models import bases

    with models.stored(base, "base") as before, models.stored(candidate, "candidate") as after:
        start = bases.resolve(before)
        end = bases.resolve(after, start)
        return measure.measure(start.folder, end.folder, spectral=spectral, subspace=subspace)
