"""The packed scorer gives lm-eval's numbers on the core suite and on packs, model by model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from fixtures.packs import DATA
from results.packs.build import BENCHMARKS
from results.performance.scoring import requests
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import sample_rows
from retainbench.harness.scoring.backend import TrieLM
from retainbench.harness.scoring.packing.packed import prices
from retainbench.harness.scoring.texts import ask, encoder
from retainbench.harness.suites import loading as suite_loading
from retainbench.harness.tasks import catalogue, freeze
from retainbench.harness.tasks.catalogue import Catalogue

CORE = [
    name
    for name in suite_loading.load("core").tasks
    if catalogue.own()[name].kind == "multiple_choice"
]
ITEMS = {"fruitfly": 25, "smollm2-135m": 3}
"""Of each task; a real model takes seconds for every one."""


class Both(NamedTuple):
    """The same requests answered by both."""

    asked: list[Instance]
    ours: list[tuple[float, bool]]
    theirs: list[tuple[float, bool]]


def model(name: str) -> loading.Loaded:
    folder = bases.named()[name]
    if not folder.is_dir():
        pytest.skip(f"{name} is not there: `retainbench bases fetch {name}`")
    return loading.load(folder)


def answered(loaded: loading.Loaded, work: dict[str, list[Instance]]) -> dict[str, Both]:
    """Each in one call for all tasks, as evaluations ask."""
    ours = TrieLM(loaded.model, tokenizer=loaded.tokenizer)
    peer = HFLM(loaded.model, tokenizer=loaded.tokenizer, batch_size=8)
    whole = [request for asked in work.values() for request in asked]
    pairs = zip(
        ours.loglikelihood(whole), peer.loglikelihood(whole, disable_tqdm=True), strict=True
    )
    assert ours.work is not None
    assert ours.work.obstacle is None
    found = {}
    for name, asked in work.items():
        mine, other = zip(*(next(pairs) for _ in asked), strict=True)
        found[name] = Both(asked, list(mine), list(other))
    return found


def assert_equal(both: Both) -> None:
    """Log-likelihoods to 1e-4, or to the resolution of float32 where a text is very unlikely (both
    sum rounded terms); the same greedy flags and predictions."""
    mine, other = (np.array([value for value, _ in side]) for side in both[1:])
    allowed = np.maximum(1e-4, 2 * np.finfo(np.float32).eps * np.abs(other))
    assert (np.abs(mine - other) <= allowed).all()
    assert [flag for _, flag in both.ours] == [flag for _, flag in both.theirs]
    items = np.array([request.doc_id for request in both.asked])
    for item in np.unique(items):
        assert mine[items == item].argmax() == other[items == item].argmax()


@pytest.mark.parametrize("base", ITEMS)
def test_documents_have_the_likelihoods_of_lm_eval(base: str) -> None:
    """Whole texts, each in windows of the model's length."""
    loaded = model(base)
    ours = TrieLM(loaded.model, tokenizer=loaded.tokenizer)
    peer = HFLM(loaded.model, tokenizer=loaded.tokenizer, batch_size=1)
    for name in ("general_text", "numeric_text", "temporal_text"):
        asked = sample_rows.requests(catalogue.own()[name])[: ITEMS[base]]
        np.testing.assert_allclose(
            ours.loglikelihood_rolling(asked),
            peer.loglikelihood_rolling(asked, disable_tqdm=True),
            rtol=2e-6,
            atol=1e-4,
        )


@pytest.fixture(scope="module")
def fruitfly() -> dict[str, Both]:
    return answered(model("fruitfly"), requests(CORE, ITEMS["fruitfly"]))


@pytest.mark.parametrize("name", CORE)
def test_core_tasks_on_the_embedded_base(fruitfly: dict[str, Both], name: str) -> None:
    assert len({request.doc_id for request in fruitfly[name].asked}) == ITEMS["fruitfly"]
    assert_equal(fruitfly[name])


@pytest.fixture(scope="module")
def smollm2() -> dict[str, Both]:
    return answered(model("smollm2-135m"), requests(CORE, ITEMS["smollm2-135m"]))


@pytest.mark.slow
@pytest.mark.parametrize("name", CORE)
def test_core_tasks_on_a_real_model(smollm2: dict[str, Both], name: str) -> None:
    assert_equal(smollm2[name])


@pytest.mark.slow
@pytest.mark.parametrize("base", ["fruitfly", "smollm2-135m"])
def test_packs_of_public_benchmarks(base: str, tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip(f"needs benchmark files in {DATA} (or $RETAINBENCH_TEST_DATA)")
    loaded = model(base)
    for one in BENCHMARKS:
        file = DATA / f"{one.name}.jsonl"
        freeze.write(freeze.from_jsonl(file, one.name, one.axis, prompt=one.prompt), tmp_path)
    work = requests([one.name for one in BENCHMARKS], ITEMS[base], Catalogue.of([tmp_path]))
    for both in answered(loaded, work).values():
        assert_equal(both)


@pytest.mark.parametrize("name", CORE)
def test_hardly_a_token_is_computed_twice(name: str) -> None:
    """At most 1.1 per distinct prefix over every item of a task."""
    loaded = model("fruitfly")
    scorer = TrieLM(loaded.model, tokenizer=loaded.tokenizer)
    pairs = tuple(sorted({request.args for request in requests([name])[name]}))
    layout = ask(encoder(scorer), prices(loaded.model), pairs).layout
    computed = sum(
        stem.nodes.size + sum(row.nodes.size for row in stem.rows) for stem in layout.stems
    )
    prefixes = {
        tuple(request.inputs[: end + 1])
        for request in encoder(scorer).requests(pairs).requests
        for end in range(len(request.inputs))
    }
    assert layout.token.size == len(prefixes) <= computed <= 1.1 * len(prefixes)


def test_requests_are_spread_evenly_and_kept_whole() -> None:
    every = sample_rows.requests(catalogue.OWN.find(["capitals"])[0])
    few = requests(["capitals"], 5)["capitals"]
    items = [request.doc_id for request in few]
    last = max(request.doc_id for request in every)
    assert sorted(set(items)) == [round(last * part / 4) for part in range(5)]
    assert [r.args for r in few] == [r.args for r in every if r.doc_id in set(items)]


WATCH = """
import sys

touched = set()

def note(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        touched.add(str(arguments[0]))

sys.addaudithook(note)
from retainbench.harness.cli.main import main

try:
    main()
except SystemExit as end:
    assert not end.code, end.code
theirs = [name for name in touched if "/lm_eval/tasks/" in name]
print(sum("/tasks/general/capitals/" in name for name in touched),
      *[name for name in theirs if not name.endswith((".py", ".pyc"))])
"""


def test_lm_evals_own_tasks_are_not_indexed_for_ours() -> None:
    """Its index of 13,000 tasks takes 17 s; not one of its task folders may be listed or read."""
    command = ["evaluate", "fruitfly", "capitals", "--limit", "2"]
    done = subprocess.run([sys.executable, "-c", WATCH, *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count, *indexed = done.stdout.splitlines()[-1].split()
    assert int(count) > 0
    assert indexed == []
