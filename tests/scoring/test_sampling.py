"""Targets answered several times: records, intervals, resume, and what the table says of them."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
import yaml

from fixtures.runs import suite
from retainbench.harness.comparison.compare import compare
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import read_jsonl
from retainbench.harness.core.paths import RunFolder
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy, Sampling
from retainbench.harness.models import loading
from retainbench.harness.report import report
from retainbench.harness.running import run as runner
from retainbench.harness.scoring import evaluate, stored
from retainbench.harness.suites import loading as suites
from retainbench.harness.suites import plan as planning
from retainbench.harness.tasks.catalogue import Catalogue

SAMPLING = Sampling(repeats=3, temperature=0.9, top_p=0.95)


def test_every_repeat_of_a_target_is_a_record_and_retention_stays_greedy(tiny_base: Path) -> None:
    loaded, known = loading.load(tiny_base), Catalogue(sampling=SAMPLING)
    infos = known.find(["countdown", "dates"])
    found = evaluate.evaluate(loaded, infos, limit=8)
    drawn = [record for record in found if record.task == "countdown"]
    assert [record.repeat for record in drawn] == [0, 1, 2] * 8
    assert len({record.response for record in drawn if record.item_id == drawn[0].item_id}) > 1
    assert evaluate.evaluate(loaded, infos, limit=8) == found
    greedy = evaluate.evaluate(loaded, Catalogue().find(["countdown", "dates"]), limit=8)
    assert [r for r in found if r.task == "dates"] == [r for r in greedy if r.task == "dates"]
    assert [record.repeat for record in greedy] == [0] * 16


def test_a_store_keeps_drawn_and_greedy_records_apart(tmp_path: Path) -> None:
    store = stored.Store(tmp_path, {})
    ways = [Catalogue(), Catalogue(sampling=SAMPLING), Catalogue(sampling=Sampling(repeats=3))]
    assert len({store.path("m", one.tasks["countdown"]) for one in ways}) == 3
    assert len({store.path("m", one.tasks["dates"]) for one in ways}) == 1


def test_responses_at_the_limit_of_tokens_are_marked(tiny_base: Path) -> None:
    """A random model hardly ever ends a line in time; choices are not generated at all."""
    found = evaluate.evaluate(
        loading.load(tiny_base), Catalogue().find(["countdown", "dates"]), limit=20
    )
    cut = [record.cut for record in found if record.task == "countdown"]
    assert True in cut
    assert None not in cut
    assert {record.cut for record in found if record.task == "dates"} == {None}


def record(item: int, repeat: int, score: float, cut: bool | None = False) -> ItemRecord:
    return ItemRecord(
        task="t",
        axis="target",
        item_id=f"i{item}",
        doc_hash=f"{item:04}",
        prompt_hash="p",
        target_hash="g",
        metric="reward",
        repeat=repeat,
        cluster=f"c{item}",
        chance=0.0,
        score=score,
        cut=cut,
    )


def test_intervals_hold_the_variation_within_items() -> None:
    """Equal models, other draws: a 90 % interval contains no difference in nine runs of ten."""
    generator = np.random.default_rng(0)
    policy, contained = Policy(), 0
    for _ in range(60):
        right = generator.beta(0.5, 0.5, size=(60, 1))
        sides = [generator.random((60, 4)) < right for _ in range(2)]
        records = [
            [record(i, r, float(side[i, r])) for i in range(60) for r in range(4)] for side in sides
        ]
        (change,) = compare(*records, policy).targets
        assert (change.n, change.repeats) == (60, 4)
        contained += change.drop.low <= 0 <= change.drop.high
    assert 49 <= contained <= 60


def test_shares_that_were_cut_reach_the_comparison() -> None:
    whole = [record(i, 0, 1.0) for i in range(10)]
    cut = [record(i, 0, 1.0, cut=i < 3) for i in range(10)]
    (change,) = compare(whole, cut, Policy()).targets
    assert (change.base_cut, change.candidate_cut) == (0.0, 0.3)
    (unknown,) = compare([record(i, 0, 1.0, None) for i in range(10)], cut, Policy()).targets
    assert (unknown.base_cut, unknown.candidate_cut) == (None, 0.3)


def test_a_run_states_its_sampling_and_resumes_to_the_same_bytes(
    tiny_base: Path, tmp_path: Path
) -> None:
    chosen = suite(tiny_base, scoring=SAMPLING.model_dump(), tasks=["dates"], noise_floor=[],
                   items_per_task=12, divergence_prompts=0)  # fmt: skip
    file = tmp_path / "small.yaml"
    file.write_text(yaml.safe_dump(chosen.model_dump(mode="json", exclude_none=True)))
    opened = suites.opened(str(file))
    planned = planning.plan(opened.suite, planning.gather(opened.suite, (), opened.tasks))
    root = tmp_path / "run"
    (card,) = runner.run(planned, root, tasks=opened.tasks)
    assert card.sampling == "avg@3 at temperature 0.9, top_p 0.95, seeds 0 to 2"
    assert card.points[-1].repeats == 3
    assert (card.points[-1].candidate_cut or 0) > 0
    notes = report.load_table(root).notes
    assert any("avg@3 at temperature 0.9" in note for note in notes)
    assert any("cut off at the limit of new tokens" in note for note in notes)
    folder = RunFolder(root)
    cell = folder.cell(card.cell)
    records = cell.point("s0-1.0000").records
    answers = [one.response or "" for one in read_jsonl(records, ItemRecord)
               if one.task == card.target]  # fmt: skip
    assert card.points[-1].candidate_length == fmean(map(len, answers))
    assert any(note.startswith("Length of responses") and "base" in note for note in notes)
    before = {file: file.read_bytes() for file in (records, cell.scorecard)}
    for lost in (*before, *folder.evaluations.glob("countdown*.jsonl")):
        lost.unlink()
    assert runner.run(planned, root, tasks=opened.tasks) == [card]
    assert {file: file.read_bytes() for file in before} == before


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"repeats": 4, "temperature": 0}, "scoring.temperature: .*greater than 0"),
        ({"repeats": 0}, "scoring.repeats"),
        ({"repeats": 2, "topp": 0.5}, "unknown key 'scoring.topp'.*top_p"),
        ({"temperature": 0.5}, "missing key 'scoring.repeats'"),
    ],
)
def test_a_wrong_sampling_is_refused_in_one_line(value: dict[str, float], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        suite(Path("base"), scoring=value)
