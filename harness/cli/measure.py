"""The verbs that measure one thing: evaluate, drift, sensitivity."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from retainbench.harness.cli import screen
from retainbench.harness.cli.options import (
    ENGINES,
    AllowCode,
    Device,
    EngineArguments,
    Packs,
    Precision,
    ScoringExecutor,
    Spread,
    Workers,
    out_file,
    out_folder,
    refuse_unused,
)
from retainbench.harness.core.process import quieten


def evaluate(
    context: typer.Context,
    model: Annotated[
        str,
        typer.Argument(help="A named base, a folder, an adapter, a GGUF file or a hub id."),
    ],
    tasks: Annotated[list[str], typer.Argument(help="Names of tasks, or ./folders.")],
    out: Annotated[
        Path | None,
        typer.Option(callback=out_file, help="Write the records of all items to this JSONL."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Score the first n items of each task only.")
    ] = None,
    pack: Packs = None,
    allow_code: AllowCode = False,
    device: Device = "cpu",
    dtype: Precision = "float32",
    device_map: Spread = None,
    engine: Annotated[str, typer.Option(help=f"What answers: {ENGINES}.")] = "transformers",
    engine_args: EngineArguments = "",
    workers: Workers = 1,
    executor: ScoringExecutor = "local",
    base: Annotated[
        str | None, typer.Option(help="Base of an adapter; default: the one that it names.")
    ] = None,
    template: Annotated[
        Literal["none", "chat"],
        typer.Option(help="chat sends prompts through the model's own chat template."),
    ] = "none",
) -> None:
    """Score a model on frozen tasks, item by item."""
    from retainbench.harness.core.files import storage
    from retainbench.harness.core.records import DOCUMENT_METRIC, document_nats
    from retainbench.harness.core.schema import Format
    from retainbench.harness.core.text import terminal
    from retainbench.harness.core.text.escaping import visible
    from retainbench.harness.models import bases
    from retainbench.harness.models.placement import placed
    from retainbench.harness.running import shards
    from retainbench.harness.scoring.engines.opening import chosen
    from retainbench.harness.scoring.stored import joined
    from retainbench.harness.suites import own
    from retainbench.harness.tasks.catalogue import Catalogue
    from retainbench.harness.tasks.rendering import chat

    quieten()
    placement, answering = placed(device, dtype, device_map), chosen(engine, engine_args)
    if not answering.ours:
        refuse_unused(context, f"--engine {engine}", "dtype", "device_map")
    asked, known = own.bring_tasks(tasks, Catalogue.of(pack or (), allow_code=allow_code))
    infos = [info.name for info in known.find(asked)]
    checked = bases.resolve(model, bases.resolve(base) if base else None)
    for note in checked.notes:
        typer.echo(f"note: {visible(note)}")
    found = joined(
        shards.scorer(workers, executor)(
            checked,
            infos,
            limit,
            placement=placement,
            tasks=known,
            engine=answering,
            rendering=chat.of_folder(checked.reader, Format(template=template)),
        )
    )
    if out:
        storage.write_jsonl(out, found)
    rows = []
    for name in dict.fromkeys(record.task for record in found):
        records = [record for record in found if record.task == name]
        score = sum(record.score for record in records) / len(records)
        metric = records[0].metric
        if metric == DOCUMENT_METRIC:
            metric = f"{metric} ({-sum(map(document_nats, records)) / len(records):.4f} nats)"
        rows.append((name, f"{score:.4f}", metric, str(len(records))))
    screen.show(terminal.table(("task", "score", "metric", "n"), rows, "lrlr"))


def drift(
    base: Annotated[str, typer.Argument(help="A named base, a folder, a GGUF file or a hub id.")],
    candidate: Annotated[str, typer.Argument(help="The same, or an adapter of the base.")],
    spectral: Annotated[
        bool, typer.Option("--spectral", help="Also measure spectral norms and ranks.")
    ] = False,
    subspace: Annotated[
        bool,
        typer.Option(
            "--subspace", help="Also measure the overlap with the base's principal subspaces."
        ),
    ] = False,
    out: Annotated[
        Path | None, typer.Option(callback=out_file, help="Write the whole report to this JSON.")
    ] = None,
) -> None:
    """Measure how far and where the weights of two checkpoints differ."""
    from retainbench.harness.core.files import storage
    from retainbench.harness.drift import measure as measuring
    from retainbench.harness.drift.terminal import terminal
    from retainbench.harness.models import bases

    before, after = (
        Path(given) if Path(given).is_dir() else bases.resolve(given).folder
        for given in (base, candidate)
    )
    found = measuring.measure(before, after, spectral=spectral, subspace=subspace)
    if out:
        storage.write_json(out, found)
    screen.show(terminal(found))


def sensitivity(
    runs: Annotated[list[Path], typer.Argument(help="Run folders, evaluated together.")],
    alpha: Annotated[
        float,
        typer.Option(
            min=0.0001,
            max=0.5,
            help="Largest share of false alarms per checkpoint, for any set of tasks.",
        ),
    ] = 0.05,
    out: Annotated[
        Path | None, typer.Option(callback=out_folder, help="Folder for page, CSV and JSON.")
    ] = None,
) -> None:
    """Rank retention tasks by how soon and reliably they detect forgetting; find a smallest set."""
    from retainbench.harness.study_design import sensitivity as finding
    from retainbench.harness.study_design import sensitivity_page

    found = finding.measure(runs, alpha)
    if out:
        sensitivity_page.write(found, out)
    screen.show(sensitivity_page.terminal(found))
