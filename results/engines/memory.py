"""Peak memory of `certify` in float32 and in bfloat16, on SmolLM2 and on fruitfly.

Each certificate is made by a process of its own, of a model against itself on the first items of
one task; its peak is what the operating system counts, mapped files included. Models are stored in
bfloat16, as most ship. fruitfly has a million parameters, so its certificate takes what Python and
its libraries take. Writes memory.csv.

Command: `python -m results.engines.memory`, then `python -m results.engines.build`.
Needs `retainbench bases fetch smollm2-135m`.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import yaml

from retainbench.harness.core.files.storage import csv_text, write_text
from retainbench.harness.core.verdicts import EXIT_CODES

BASES = ("fruitfly", "smollm2-135m")
DTYPES = ("float32", "bfloat16")
ITEMS = 20
HEAD = ("model", "dtype", "peak_bytes")


def rows(suite: Path) -> Iterator[tuple[object, ...]]:
    """One row a model and precision.

    Args:
        suite: the file of this folder; its first task is scored.
    """
    for base in BASES:
        with tempfile.TemporaryDirectory() as place:
            model = Path(place) / base
            # In a process of its own: the peak of a child starts at that of its parent.
            storing = multiprocessing.get_context("spawn").Process(target=store, args=(base, model))
            storing.start()
            storing.join()
            for dtype in DTYPES:
                yield base, dtype, peak(suite, model, dtype, Path(place) / dtype)


def store(base: str, folder: Path) -> None:
    """Save a named base in bfloat16."""
    from retainbench.harness.models import bases, loading

    loading.save(loading.load(bases.resolve(base), dtype="bfloat16"), folder)


def peak(suite: Path, model: Path, dtype: str, place: Path) -> int:
    """Bytes of one command at its peak."""
    stated = yaml.safe_load(suite.read_text(encoding="utf-8"))
    stated |= {"base": str(model), "tasks": stated["tasks"][:1], "items_per_task": ITEMS}
    small = place / "small.yaml"
    place.mkdir()
    small.write_text(yaml.safe_dump(stated), encoding="utf-8")
    sides = ["--base", str(model), "--candidate", str(model), "--dtype", dtype]
    call = "from retainbench.harness.cli.main import main; main()"
    command = [sys.executable, "-c", call, "certify", *sides, "--suite", str(small)]
    child = os.posix_spawn(
        sys.executable,
        [*command, "--out", str(place / "certificate")],
        os.environ | {"RETAINBENCH_CACHE": str(place / "cache")},
    )
    _, status, used = os.wait4(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code not in (EXIT_CODES["PASS"], EXIT_CODES["INCONCLUSIVE"]):
        raise RuntimeError(f"certify of {model} in {dtype} ended with exit code {code}")
    return used.ru_maxrss * 1024


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/engines"))
    out: Path = parser.parse_args().out
    write_text(out / "memory.csv", csv_text(HEAD, rows(Path(__file__).with_name("engines.yaml"))))


if __name__ == "__main__":
    main()
