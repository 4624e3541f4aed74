"""Read Inspect logs (`.eval` archives and `.json` files) as records.

Reads one log per task, finished normally: an archive has its header.json only then. Inspect's
letters become C = 1, P = 0.5, I = 0 and N = 0 with `valid` off; epochs become repeats of an item.
A sample that ended with an error, or that its scorer could not score, is an integrity failure and
never a zero. Nothing here imports inspect_ai.

Leaves out scores that are lists or mappings: there is no single score per item to pair.

Read members of an untrusted ZIP into memory, under caps and without unpacking anything.

Refuses what a results archive has no use for: paths that leave the archive, links, encrypted or
doubled members, more members or bytes than any real log. Zstandard members (Inspect since 2026)
are read with pyarrow, because `zipfile` knows them from Python 3.14 on only.
"""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa

from retainbench.harness.adoption.items import (
    DEFAULT_CHOICES,
    Adopted,
    Choices,
    Reading,
    item_record,
    number_repeats,
    reading,
)
from retainbench.harness.adoption.json_files import (
    LARGEST_FILE,
    LARGEST_VALUE,
    parse,
    read_object,
    shorten,
)
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.storage import digest, sha256_file
from retainbench.harness.core.verdicts import FULL

LETTERS = {"C": 1.0, "P": 0.5, "I": 0.0, "N": 0.0}
WORDS = {"yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
INSTRUMENT = ("grader_failed", "scoring_failed")
"""Reasons that speak of the scorer, not of the model."""
GENERATION = (
    "temperature", "top_p", "top_k", "max_tokens", "seed", "stop_seqs", "system_message",
    "num_choices", "frequency_penalty", "presence_penalty", "reasoning_effort", "reasoning_tokens",
)  # fmt: skip
CONFIG = ("limit", "sample_id", "epochs", "epochs_reducer", "message_limit", "token_limit")


def log_files(path: Path) -> list[Path]:
    """Inspect logs under a folder, or the one that was named."""
    found = [path] if path.is_file() else sorted([*path.rglob("*.eval"), *path.rglob("*.json")])
    return [file for file in found if file.suffix == ".eval" or _is_log(file)]


def _is_log(file: Path) -> bool:
    with file.open("rb") as opened:
        start = opened.read(4096)
    return file.suffix == ".json" and b'"eval"' in start and b'"version"' in start


def read(path: Path, choices: Choices = DEFAULT_CHOICES) -> Adopted:
    """Read a folder of logs, one per task, or a single log.

    Raises:
        UsageError: two logs of one task, or scores that cannot be compared.
        IntegrityError: an unfinished, errored, invalidated or damaged log.
    """
    files = log_files(path)
    if not files:
        raise UsageError(f"{path}: no Inspect log (.eval, or .json with samples)")
    headers: dict[str, dict[str, Any]] = {}
    records: list[ItemRecord] = []
    notes: list[str] = []
    for file in files:
        header, samples = _load(file)
        _check_header(header, file)
        task = str(header["eval"]["task"])
        if task in headers:
            raise UsageError(f"{path}: more than one log of task {task!r}: name one run's folder")
        headers[task] = header
        records += _task_records(file, task, header, samples, choices, notes)
    first = headers[min(headers)]["eval"]
    return Adopted(
        harness=f"inspect_ai {(first.get('packages') or {}).get('inspect_ai', 'unknown')}",
        model=str(first.get("model", "unknown")),
        path=path,
        records=records,
        settings={task: _settings(header) for task, header in headers.items()},
        remarks={"model_args": first.get("model_args"), "packages": first.get("packages")},
        notes=notes,
        files={file.name: sha256_file(file) for file in files},
        part=next((limit for header in headers.values() if (limit := _limit(header))), FULL),
    )


def _load(file: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Header and samples of a log in either form."""
    if file.suffix == ".json":
        log = read_object(file)
        return log, list(log.pop("samples", None) or [])
    header, samples = None, []
    for name, data in members(file):
        if name == "header.json":
            header = parse(data, f"{file}: {name}")
        elif name.startswith("samples/") and name.endswith(".json"):
            samples.append(parse(data, f"{file}: {name}"))
    if header is None:
        raise IntegrityError(f"{file}: no header.json, so the evaluation did not finish")
    return header, samples


def _check_header(header: dict[str, Any], file: Path) -> None:
    if header.get("status") != "success" or header.get("invalidated"):
        raise IntegrityError(f"{file}: status {header.get('status')!r}, or invalidated")
    if header.get("version") != 2:
        raise IntegrityError(f"{file}: log version {header.get('version')!r}, expected 2")
    if not isinstance(header.get("eval"), dict) or "task" not in header["eval"]:
        raise IntegrityError(f"{file}: no `eval.task` in the header")


def _settings(header: dict[str, Any]) -> dict[str, Any]:
    """What two logs of one task must share."""
    spec, config = header["eval"], header["eval"].get("config") or {}
    generation = spec.get("model_generate_config") or {}
    steps = (header.get("plan") or {}).get("steps") or []
    return {
        "task_version": spec.get("task_version"),
        "task_args": spec.get("task_args"),
        "solver": spec.get("solver"),
        "solver_args": spec.get("solver_args"),
        "plan": [(step.get("solver"), step.get("params")) for step in steps],
        "dataset": {key: (spec.get("dataset") or {}).get(key) for key in ("name", "samples")},
        **{key: config.get(key) for key in CONFIG},
        **{key: generation.get(key) for key in GENERATION},
    }


def _task_records(
    file: Path,
    task: str,
    header: dict[str, Any],
    samples: list[dict[str, Any]],
    choices: Choices,
    notes: list[str],
) -> list[ItemRecord]:
    results = header.get("results") or {}
    expected = results.get("total_samples", len(samples))
    if not samples or len(samples) != expected or results.get("completed_samples") != expected:
        raise IntegrityError(f"{file}: {len(samples)} of {expected} samples are here and complete")
    keys = {(str(sample["id"]), sample["epoch"]) for sample in samples}
    if len(keys) != len(samples):
        raise IntegrityError(f"{file}: a sample is there twice")
    scored = [score["name"] for score in results.get("scores") or []]
    listed = list(dict.fromkeys([*scored, *(samples[0].get("scores") or {})]))
    made = reading(task, listed, {}, choices, str(file))
    if limit := _limit(header):
        notes.append(f"{task}: {limit}")
    ordered = sorted(samples, key=lambda sample: (str(sample["id"]), sample["epoch"]))
    return number_repeats(_record(sample, file, made) for sample in ordered)


def _limit(header: dict[str, Any]) -> str | None:
    """Which samples the log is limited to, if it is."""
    config = header["eval"].get("config") or {}
    chosen = {key: config[key] for key in ("limit", "sample_id") if config.get(key) is not None}
    listed = ", ".join(f"{key} {shorten(value)}" for key, value in chosen.items())
    return f"limited to {listed}" if listed else None


def _record(sample: dict[str, Any], file: Path, made: Reading) -> ItemRecord:
    where = f"{file}: sample {sample['id']} epoch {sample['epoch']}"
    if sample.get("error") or sample.get("invalidation"):
        raise IntegrityError(f"{where} ended with an error or was invalidated")
    score = (sample.get("scores") or {}).get(made.metric)
    if score is None or score.get("reason") in INSTRUMENT:
        raise IntegrityError(f"{where} was not scored by {made.metric}")
    options = sample.get("choices") or []
    target = sample["target"]
    return item_record(
        made,
        where,
        item_id=str(sample["id"]),
        value=_number(score.get("value")),
        document=sample.get("metadata") or {},
        doc_hash=digest([_plain(sample["input"]), options, target]),
        prompt_hash=digest(list(_prompt(sample))),
        target_hash=digest(target),
        chance=1 / len(options) if options else 0.0,
        valid=not (score.get("value") == "N" or score.get("reason") or sample.get("limit")),
        response=_response(sample),
        gold=target if isinstance(target, str) else " | ".join(target),
    )


def _number(value: Any) -> Any:
    """Inspect's letters and words as numbers; anything else unchanged."""
    if isinstance(value, str):
        return LETTERS.get(value, WORDS.get(value.lower(), value))
    return value


def _prompt(sample: dict[str, Any]) -> Iterator[Any]:
    """Messages before the model first spoke, without their random ids."""
    if not sample.get("messages"):
        yield _plain(sample["input"])
    for message in sample.get("messages") or []:
        if message.get("role") == "assistant":
            return
        yield [message.get("role"), _plain(message.get("content"))]


def _plain(value: Any) -> Any:
    """A value without the `id` keys that Inspect draws at random."""
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in sorted(value.items()) if key != "id"}
    return [_plain(part) for part in value] if isinstance(value, list) else value


def _response(sample: dict[str, Any]) -> str | None:
    output = sample.get("output") or {}
    if isinstance(output.get("completion"), str):
        return str(output["completion"])
    for choice in output.get("choices") or []:
        content = (choice.get("message") or {}).get("content")
        return content if isinstance(content, str) else None
    return None


MOST_MEMBERS = 500_000
ZSTANDARD = 93
LOCAL_HEADER = 30
"""Bytes of a local file header before its name (APPNOTE 4.3.7)."""


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and content of every file of an archive, in the order of its directory.

    Raises:
        IntegrityError: not a ZIP, damaged, hostile or beyond the caps.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            listed = archive.infolist()
            _check(path, listed)
            for info in listed:
                if not info.is_dir():
                    yield info.filename, _read(path, archive, info)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise IntegrityError(f"{path}: damaged archive: {error}") from error


def _check(path: Path, listed: list[zipfile.ZipInfo]) -> None:
    if len(listed) > MOST_MEMBERS or sum(info.file_size for info in listed) > LARGEST_FILE:
        raise IntegrityError(f"{path}: more members or bytes than a results archive has")
    if len({info.filename for info in listed}) != len(listed):
        raise IntegrityError(f"{path}: two members have the same name")
    for info in listed:
        where = f"{path}: member {info.filename!r}"
        parts = PurePosixPath(info.filename).parts
        if info.filename.startswith("/") or ".." in parts or "\\" in info.filename:
            raise IntegrityError(f"{where} points outside the archive")
        if stat.S_ISLNK(info.external_attr >> 16) or info.flag_bits & 1:
            raise IntegrityError(f"{where} is a link or encrypted")
        if info.file_size > LARGEST_VALUE:
            raise IntegrityError(f"{where} is larger than {LARGEST_VALUE >> 20} MiB")


def _read(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Content of one member; never more than its directory entry declares."""
    if info.compress_type != ZSTANDARD:
        with archive.open(info) as file:
            return file.read(info.file_size + 1)
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(LOCAL_HEADER)
        name, extra = (int.from_bytes(header[at : at + 2], "little") for at in (26, 28))
        file.seek(info.header_offset + LOCAL_HEADER + name + extra)
        packed = file.read(info.compress_size)
    with pa.CompressedInputStream(pa.BufferReader(packed), "zstd") as stream:
        data: bytes = stream.read(info.file_size + 1)
    if len(data) != info.file_size or zlib.crc32(data) != info.CRC:
        raise IntegrityError(f"{path}: member {info.filename!r} is damaged")
    return data
