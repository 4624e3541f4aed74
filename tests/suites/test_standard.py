"""`suites/standard.yaml` as a user goes through it, on a hub with invented rows."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import yaml

from fixtures.hub import Hub, Result, Shell, serve
from fixtures.standard import NOW, SUBJECTS, N, datasets
from retainbench.harness.core import paths
from retainbench.harness.core.axes import DEFAULT as AXES
from retainbench.harness.models import loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.suites import loading as suites_loading
from retainbench.harness.suites import lock as suite_lock
from retainbench.harness.suites.lock import is_commit
from retainbench.harness.tasks import catalogue, pack, scoring_code

NEEDS = {"ifeval": "langdetect", "minerva_math500": "math_verify"}
"""Task -> a package of `retainbench[standard]` without which lm-eval cannot load it."""
ABSENT = [task for task, package in NEEDS.items() if importlib.util.find_spec(package) is None]
CODE = {"truthfulqa_mc2", "ifeval", "minerva_math500", "agieval_aqua_rat", "agieval_sat_math"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result, Result]:
    """The packs, what freezing said, and what a plan with them says."""
    home = tmp_path_factory.mktemp("standard")
    sources = suites_loading.read("standard").sources
    folder = scoring_code.root() / "mmlu" / "default"
    hub = Hub()
    hub.datasets = datasets(
        sources, [path.stem.removeprefix("mmlu_") for path in folder.glob("mmlu_*.yaml")]
    )
    content = yaml.safe_load((paths.SUITES / "standard.yaml").read_text())
    for absent in ABSENT:
        del content["sources"][absent]
    content["base"] = "fruitfly"  # is there without a download
    (home / "present.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    packs = home / "packs"
    with serve(hub) as address:
        shell = Shell(address, home / "hub")
        frozen = shell("freeze", "--suite", "standard", "--out", packs, "--allow-code")
        planned = shell("plan", home / "present.yaml", "--pack", packs)
        shell.close()
    return packs, frozen, planned


def test_every_task_of_the_issue_is_there_with_its_revision() -> None:
    """A commit, or a branch that the first freeze pins; where each commit was read is beside it."""
    text = (paths.SUITES / "standard.yaml").read_text()
    sources = suites_loading.read("standard").sources
    moving = {name for name, source in sources.items() if not is_commit(source.revision)}
    assert moving == {
        "agieval_aqua_rat",
        "agieval_sat_math",
        "mc_taco",
        "bigbench_date_understanding_multiple_choice",
        "bigbench_temporal_sequences_multiple_choice",
        "bigbench_timedial_multiple_choice",
    }
    for source in sources.values():
        cited = [line for line in text.splitlines() if f"revision: {source.revision}}}" in line]
        assert all("}  # [" in line for line in cited if is_commit(source.revision))
    assert {axis: sum(s.axis == axis for s in sources.values()) for axis in AXES} == {
        "general": 12,
        "numeric": 10,
        "temporal": 6,
    }


def test_the_suite_is_frozen_whole(made: tuple[Path, Result, Result]) -> None:
    packs, frozen, _ = made
    sources = suites_loading.read("standard").sources
    assert frozen.code == (2 if ABSENT else 0), frozen.err
    for absent in ABSENT:
        assert f"{absent}: {absent}: lm-eval cannot load it: ModuleNotFoundError" in frozen.out
    lock = suite_lock.read(packs, "standard").tasks
    assert set(lock) == set(sources) - set(ABSENT), frozen.out
    for name, entry in lock.items():
        pinned = sources[name].revision
        assert entry.revision == (pinned if is_commit(pinned) else NOW)
    infos = {info.name: info for info in pack.read(packs)}
    assert {name: info.axis for name, info in infos.items()} == {n: sources[n].axis for n in lock}
    assert {name for name, info in infos.items() if info.code} == CODE - set(ABSENT)
    assert infos["mmlu"].n_items == N * 57
    assert infos["mmlu_pro"].n_items == 5 * len(SUBJECTS)
    assert infos["gsm8k"].shots == 5
    assert len({item.cluster for item in catalogue.lock(infos["mc_taco"]).items}) == 3
    assert infos["hellaswag"].licence == "licence of Rowan/hellaswag"


def test_the_suite_is_planned_with_its_packs(made: tuple[Path, Result, Result]) -> None:
    _, _, planned = made
    assert planned.code == 0, planned.err
    assert f"{28 - len(ABSENT)} retention tasks" in planned.out


def test_several_right_answers_are_scored_as_lm_eval_does(
    made: tuple[Path, Result, Result], tiny_base: Path
) -> None:
    """agieval: the most likely choice, by summed log-likelihood, is among the right ones."""
    (info,) = pack.read(made[0] / "agieval_sat_math")
    records = evaluate.evaluate(loading.load(tiny_base), [info], allow_code=True)
    assert len(records) == N
    for record in records:
        assert record.choice_logprobs is not None
        assert record.score == float(int(np.argmax(record.choice_logprobs)) == record.gold)
        assert record.chance == pytest.approx(1 / 3)
