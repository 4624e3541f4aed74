"""A trainer of the user's own choice: any command that leaves checkpoints in a folder.

We write the training rows and the job, run the command, and score what it leaves like every other
cell. The words of the command may name {data}, {chat}, {out}, {base}, {job}, {seed} and {device};
the same values are in the environment as RETAINBENCH_DATA and so on.

    data/train.jsonl   rows {prompt, completion}, as all methods see them; `data` is the folder
    chat/train.jsonl   rows {messages}, from which the base's chat template makes the same texts
    job.json           base, target, budget, points, adaptation, seed, device and these folders
    out/               for the command: a checkpoint, or several in `checkpoint-STEP`; ledger.json

A checkpoint is a full model with its tokenizer, or a PEFT adapter on {base}. Of several, each is
taken for the last point of the trajectory that its share of the steps has reached; points that no
checkpoint reached are missing. `ledger.json` may hold any of the numbers of `Ledger`; without it
the cost is not metered. What the command prints is kept in `command-STAGE.log`.

Deviations from the other methods: the budget is not enforced, so the row is not matched with the
others, and the table says so; an interrupted command starts again. The command and what it started
end with the run, however that ends; until they have, no other run takes the folder.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import BeforeValidator, Field, ValidationError

from retainbench.harness.core.errors import RetainbenchError
from retainbench.harness.core.files import locks
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import canonical, write_json, write_text
from retainbench.harness.core.paths import CellFolder
from retainbench.harness.core.process import guarded
from retainbench.harness.core.records import CheckpointRecord, Ledger
from retainbench.harness.models import bases, identity, loading
from retainbench.harness.models.checked import Base
from retainbench.trainers._shared.contract import (
    Job,
    Outcome,
    TrainerOptions,
    TrainingError,
)

PAPER = "The user's own trainer"
ADAPTATIONS = ("full", "lora")
ANCHORS = ()
KEPT = (".safetensors", ".json", ".jinja", ".model", ".txt")
"""What belongs to a model: the rest of a trainer's checkpoint is its state, and is not copied."""
NUMBERED = re.compile(r"checkpoint-(\d{1,12})")


Word = Annotated[
    str,
    BeforeValidator(lambda value: str(value) if isinstance(value, int | float) else value),
    Field(min_length=1),
]
"""YAML reads `1e-3` and `True` as other types; a command gets them as Python writes them."""


class Options(TrainerOptions):
    """How the trainer is started."""

    command: Annotated[list[Word], Field(min_length=1)]
    """Program and arguments, a word each; no shell reads them."""
    seconds: Annotated[float, Field(gt=0)] = 86_400.0
    """Longest time; then the command and all that it started are ended."""


class CommandPaths(NamedTuple):
    """Where the command reads and writes, by the names that its words and its environment use."""

    data: Path
    chat: Path
    out: Path
    base: Path
    job: Path


def train(job: Job) -> Outcome:
    """Run the command and take what it leaves.

    Raises:
        TrainingError: it failed, took too long, or left nothing that can be scored.
    """
    base = bases.of_folder(job.base)
    if not job.budget.amount:
        for name, _ in job.points:
            _keep(job, name, base, job.spent, {})
        return _outcome(base, base, {})
    work = job.out / f"command-{job.stage}"
    shutil.rmtree(work, ignore_errors=True)
    for name, _ in job.points:  # of an interrupted start
        CellFolder(job.out).checkpoint_record(name).unlink(missing_ok=True)
    places = prepare(job, work)
    run(job, places, job.out / f"command-{job.stage}.log")
    checkpoints = left(places.out, base, job.adaptation.kind)
    ledger, metered = cost(places.out, job.spent, job.budget.unit)
    metrics = {"metered": float(metered)}
    if any(share == 0.0 for _, share in job.points):
        _keep(job, job.points[0][0], base, job.spent, {})
    for name, checkpoint, share in placed(job, checkpoints):
        _keep(job, name, checkpoint, _part(job.spent, ledger, share), metrics)
    shutil.rmtree(work)
    job.progress(1.0, metrics)
    return _outcome(base, checkpoints[1.0], metrics)


def prepare(job: Job, work: Path) -> CommandPaths:
    """Write the training rows and the job; test items are not in either."""
    target = job.target
    places = CommandPaths(work / "data", work / "chat", work / "out", job.base, work / "job.json")
    pairs = zip(target.prompts(target.train), target.completions(target.train), strict=True)
    plain = [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]
    chat = [{"messages": turns} for turns in target.conversations(target.train)]
    for folder, rows in ((places.data, plain), (places.chat, chat)):
        folder.mkdir(parents=True)
        write_text(folder / "train.jsonl", "".join(canonical(row) + "\n" for row in rows))
    places.out.mkdir()
    described: dict[str, Any] = {
        "target": target.name,
        "budget": job.budget.model_dump(mode="json"),
        "points": [share for _, share in job.points],
        "adaptation": job.adaptation.model_dump(mode="json"),
        "seed": job.seed,
        "device": job.device,
        **{name: str(path.resolve()) for name, path in places._asdict().items()},
    }
    write_json(places.job, described)
    return places


def run(job: Job, places: CommandPaths, log: Path) -> None:
    """Run the command to its end, with its output in `log`.

    Raises:
        TrainingError: it cannot be started, took too long or ended with another code than 0.
    """
    values = {name: str(path.resolve()) for name, path in places._asdict().items()}
    values |= {"seed": str(job.seed), "device": job.device}
    words = [_filled(word, values) for word in job.options.command]
    environment = os.environ | {f"RETAINBENCH_{k.upper()}": v for k, v in values.items()}
    held = locks.held()
    with (
        log.open("wb") as output,
        subprocess.Popen(
            guarded(words, held),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            pass_fds=held,
        ) as process,
    ):
        try:
            code = process.wait(job.options.seconds)
        except subprocess.TimeoutExpired:
            raise TrainingError(
                f"{words[0]} took more than {job.options.seconds:g} s; its output is in {log.name}"
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing that it started is left
                os.killpg(process.pid, signal.SIGKILL)
    if code:
        reason = f"{words[0]} ended with exit code {code}: {_last_line(log)}"
        raise TrainingError(f"{reason}; its output is in {log.name}")


def _filled(word: str, values: dict[str, str]) -> str:
    """A word with {names} replaced; other braces stay."""
    return re.sub(r"\{([a-z]+)\}", lambda m: values.get(m[1], m[0]), word)


def _last_line(log: Path) -> str:
    lines = log.read_bytes()[-4_000:].decode(errors="replace").split("\n")
    return next((line.strip()[:300] for line in reversed(lines) if line.strip()), "no output")


def left(out: Path, base: Base, adaptation: str) -> dict[float, Base]:
    """The checkpoints that are in a folder, checked, by their share of all steps.

    Raises:
        TrainingError: there is none, or one cannot be loaded safely.
    """
    numbered = {
        int(match[1]): path
        for path in out.iterdir()
        if path.is_dir() and (match := NUMBERED.fullmatch(path.name))
    }
    whole = any(path.suffix == ".safetensors" for path in out.iterdir())
    if not numbered and not whole:
        raise TrainingError(f"the command left no checkpoint: no *.safetensors in {out}")
    last = max(numbered, default=1)
    folders = {step / last: path for step, path in sorted(numbered.items()) if step}
    if whole:
        folders[1.0] = out
    try:
        found = {share: bases.of_folder(path, base) for share, path in folders.items()}
    except RetainbenchError as error:
        raise TrainingError(f"what the command left cannot be scored: {error}") from error
    kind = "lora" if found[1.0].parent else "full"
    if kind != adaptation:
        raise TrainingError(
            f"the command left {kind} weights, and the recipe has `adaptation: {adaptation}`. "
            f"Write `adaptation: {kind}`"
        )
    return found


def placed(job: Job, checkpoints: dict[float, Base]) -> list[tuple[str, Base, float]]:
    """Point, checkpoint and share for every planned point that a checkpoint has reached.

    >>> from types import SimpleNamespace
    >>> points = (("s0-0.2500", 0.25), ("s0-0.5000", 0.5), ("s0-1.0000", 1.0))
    >>> placed(SimpleNamespace(points=points), {0.5: "half", 0.6: "later", 1.0: "end"})
    [('s0-0.5000', 'half', 0.5), ('s0-1.0000', 'end', 1.0)]
    """
    found: dict[str, tuple[str, Base, float]] = {}
    for share, checkpoint in sorted(checkpoints.items()):
        reached = [name for name, planned in job.points if 0.0 < planned <= share]
        if reached:
            found.setdefault(reached[-1], (reached[-1], checkpoint, share))
    return list(found.values())


class ReportedCost(NamedTuple):
    """The ledger at the end of the stage, the stages before included."""

    ledger: Ledger
    metered: bool
    """Whether the command reports what the budget is counted in."""


def cost(out: Path, spent: Ledger, unit: str) -> ReportedCost:
    """What the command reports that it spent, on top of the stages before.

    Raises:
        TrainingError: ledger.json is not a ledger.
    """
    file = out / "ledger.json"
    if not file.is_file():
        return ReportedCost(spent, False)
    try:
        own = Ledger.model_validate(json.loads(file.read_bytes()))
    except (ValueError, ValidationError) as error:
        raise TrainingError(f"ledger.json of the command: {str(error).splitlines()[0]}") from error
    counts = {name: getattr(spent, name) + value for name, value in own.model_dump().items()}
    peak = max(spent.peak_memory_bytes, own.peak_memory_bytes)
    return ReportedCost(Ledger(**(counts | {"peak_memory_bytes": peak})), own.used(unit) > 0)


def _part(before: Ledger, after: Ledger, share: float) -> Ledger:
    """The ledger at a share of the command's steps."""
    start, end = before.model_dump(), after.model_dump()
    counts = {name: start[name] + share * (end[name] - start[name]) for name in start}
    whole = {name: round(value) for name, value in counts.items() if isinstance(end[name], int)}
    return Ledger(**(counts | whole | {"peak_memory_bytes": after.peak_memory_bytes}))


def _keep(job: Job, name: str, model: Base, ledger: Ledger, metrics: dict[str, float]) -> None:
    """Copy a checkpoint's model files to their place and record them."""
    folder = CellFolder(job.out)
    if model.parent and job.stage > 0:  # an adapter on a checkpoint that no later step looks for
        loading.save(loading.load(model), folder.checkpoint(name))
    else:
        _copy(model.folder, folder.checkpoint(name))
    record = CheckpointRecord(
        stage=job.stage,
        fraction=float(name.split("-")[1]),
        folder=str(folder.checkpoint(name).relative_to(folder.root)),
        weights_digest=identity.folder_digest(folder.checkpoint(name)),
        ledger=ledger,
        metrics=metrics,
    )
    write_json(folder.checkpoint_record(name), record, checked=True)


def _copy(source: Path, goal: Path) -> None:
    with replacing(goal) as part:
        for path in sorted(source.iterdir()):
            if path.is_file() and path.suffix in KEPT and path.name != "ledger.json":
                shutil.copyfile(path, part / path.name)


def _outcome(base: Base, end: Base, metrics: dict[str, float]) -> Outcome:
    parameters, trained = (
        sum(tensor.numel for tensor in model.weights.tensors.values()) for model in (base, end)
    )
    return Outcome(metrics, None, parameters, trained)
