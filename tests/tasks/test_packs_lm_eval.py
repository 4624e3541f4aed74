"""Packs of real benchmarks: our backend and lm-eval's own command line agree item for item.

Needs the JSONL files of `freeze_fixtures.DATA`, which are not part of the project (its README says
what a row is); skips without them. One process of lm-eval answers all packs; indexing its own
13,000 tasks takes most of the time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fixtures.packs import DATA
from results.packs.build import BENCHMARKS
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue, freeze

LIMIT = 25
NAMES = [benchmark.name for benchmark in BENCHMARKS] + ["svamp", "gsm8k_test"]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(
        not DATA.is_dir(), reason=f"needs benchmark files in {DATA} (or $RETAINBENCH_TEST_DATA)"
    ),
]


class Scored(NamedTuple):
    """The first items of every pack, answered by both."""

    infos: dict[str, catalogue.TaskInfo]
    ours: dict[str, list[ItemRecord]]
    theirs: dict[str, list[dict[str, Any]]]


def _freeze(out: Path) -> dict[str, catalogue.TaskInfo]:
    packs = [
        freeze.from_jsonl(DATA / f"{one.name}.jsonl", one.name, one.axis, prompt=one.prompt)
        for one in BENCHMARKS
    ]
    for name in ("svamp", "gsm8k_test"):
        packs.append(freeze.from_jsonl(DATA / f"{name}.jsonl", name, "numeric", match="numeric"))
    return {pack.name: freeze.write(pack, out) for pack in packs}


def _lm_eval(model: Path, pack: Path, out: Path) -> dict[str, list[dict[str, Any]]]:
    """Samples by task, from lm-eval's command as its users type it."""
    command = [sys.executable, "-m", "lm_eval", "run", "--model", "hf"]
    command += ["--model_args", f"pretrained={model},dtype=float32", "--device", "cpu"]
    command += ["--tasks", ",".join(f"rb_{name}" for name in NAMES)]
    command += ["--include_path", str(pack), "--limit", str(LIMIT), "--batch_size", "8"]
    command += ["--log_samples", "--output_path", str(out)]
    clean = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=clean, cwd=out.parent
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = {}
    for name in NAMES:
        (file,) = out.rglob(f"samples_rb_{name}_20*.jsonl")
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        found[name] = sorted(rows, key=lambda row: row["doc_id"])
    return found


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Scored:
    folder = tmp_path_factory.mktemp("packs")
    infos = _freeze(folder / "pack")
    base = bases.resolve("fruitfly").folder
    records = evaluate.evaluate(loading.load(base), list(infos.values()), limit=LIMIT)
    ours = {name: [record for record in records if record.task == name] for name in NAMES}
    return Scored(infos, ours, _lm_eval(base, folder / "pack", folder / "logs"))


@pytest.mark.parametrize("name", NAMES)
def test_both_ask_the_same_and_get_the_same(scored: Scored, name: str) -> None:
    """Hashes, log-likelihoods to 1e-4 (fp32, other batches), responses, predictions, scores.

    Both round each token's log-probability to float32 and lm-eval sums in it, so its relative
    resolution counts once for either side: that passes 1e-4 beyond 420 nats (long answers).
    """
    ours, theirs = scored.ours[name], scored.theirs[name]
    assert len(ours) == len(theirs) == LIMIT
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.item_id == other["doc"]["id"]
        for kind in ("doc_hash", "prompt_hash", "target_hash"):
            assert getattr(mine, kind) == other[kind], kind
        if mine.choice_logprobs is None:
            assert mine.response == other["resps"][0][0]
            assert mine.score == other["exact_match"]
            continue
        logprobs = [float(response[0][0]) for response in other["resps"]]
        for value, expected in zip(mine.choice_logprobs, logprobs, strict=True):
            rounding = 2 * float(np.finfo(np.float32).eps) * abs(expected)
            assert abs(value - expected) <= max(1e-4, rounding)
        assert mine.response == other["doc"]["choices"][logprobs.index(max(logprobs))]
        assert mine.score == other["acc"]


@pytest.mark.parametrize("name", NAMES)
def test_every_item_of_the_file_is_in_the_pack(scored: Scored, name: str) -> None:
    """With its text, choices and answer, in the file's order."""
    lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
    given = [json.loads(line) for line in lines]
    kept = catalogue.items(scored.infos[name])
    assert len(kept) == len(given)
    for row, source in zip(kept, given, strict=True):
        for key in row.keys() - {"aliases"}:
            assert row[key] == source[key], (source["id"], key)
    catalogue.verify_lock(scored.infos[name])
