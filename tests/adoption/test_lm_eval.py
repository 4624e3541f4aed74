"""What lm-eval wrote becomes records; unequal, broken and hostile results are refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from fixtures.adoption import lm_eval_row, lm_eval_run, run_lm_eval
from retainbench.harness.adoption import pair as adopt
from retainbench.harness.adoption.guessing import soft_score
from retainbench.harness.adoption.items import checked_score
from retainbench.harness.core.errors import IntegrityError, UsageError

CHOICES = adopt.AdoptionChoices(axes={"tiny_ff": "numeric", "tiny_*": "temporal"})


ROWS = [lm_eval_row(i, right=i != 2) for i in range(4)]


def test_lm_eval_rows_become_records(tmp_path: Path) -> None:
    adopted = adopt.read(
        lm_eval_run(tmp_path, ROWS), adopt.AdoptionChoices(clusters={"tiny": "topic"})
    )
    assert [record.score for record in adopted.records] == [1, 1, 0, 1]
    first = adopted.records[0]
    assert (first.task, first.axis, first.metric, first.item_id) == ("tiny", "general", "acc", "0")
    assert first.chance == pytest.approx(1 / 3)
    assert first.choice_logprobs == [-3.0, -1.0, -4.0]
    assert (first.gold, first.response, first.cluster) == (1, "1", "t0")
    assert first.soft_score == pytest.approx(soft_score([-3.0, -1.0, -4.0], [1]))
    assert adopted.harness == "lm-eval 0.4.13"
    assert len(adopted.files) == 2


def test_soft_score_of_the_worked_example() -> None:
    assert soft_score([-1.0, -2.0, -3.0], [0]) == pytest.approx(0.665241, abs=1e-6)
    assert soft_score([-1.0, -2.0], []) is None


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (ROWS[:3], "3 rows for filter 'none', not 4"),
        ([*ROWS, ROWS[0]], "duplicate item 0"),
        ([*ROWS[:3], lm_eval_row(3, acc=math.nan)], "acc is NaN"),
        ([*ROWS[:3], {k: v for k, v in ROWS[3].items() if k != "prompt_hash"}], "prompt_hash"),
        ([*ROWS[:3], lm_eval_row(3, filtered_resps=[["x", "False"]] * 3)], "no log-likelihood"),
        ([*ROWS[:3], lm_eval_row(3, filtered_resps=[["-1", "False"]])], "3 choices but 1"),
        ([], "no sample rows"),
    ],
)
def test_broken_lm_eval_samples_are_refused(
    tmp_path: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(IntegrityError, match=message):
        adopt.read(lm_eval_run(tmp_path, rows))


def test_truncated_samples_name_file_and_line(tmp_path: Path) -> None:
    file = next(lm_eval_run(tmp_path, ROWS).glob("samples_*.jsonl"))
    file.write_text(file.read_text()[:-40])
    with pytest.raises(IntegrityError, match=r"samples_tiny_.*:4: not valid JSON"):
        adopt.read(tmp_path)


def test_missing_samples_say_what_to_do(tmp_path: Path) -> None:
    next(lm_eval_run(tmp_path, ROWS).glob("samples_*.jsonl")).unlink()
    with pytest.raises(IntegrityError, match="--log_samples"):
        adopt.read(tmp_path)


def test_files_whose_date_somebody_removed_are_read(tmp_path: Path) -> None:
    whole = adopt.read(lm_eval_run(tmp_path, ROWS))
    for file in list(tmp_path.iterdir()):
        file.rename(file.with_name(f"{file.stem.rpartition('_')[0]}{file.suffix}"))
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "results.json",
        "samples_tiny.jsonl",
    ]
    assert adopt.read(tmp_path).records == whole.records
    assert adopt.read(tmp_path / "results.json").records == whole.records


def test_a_response_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="use_cache"):
        adopt.read(lm_eval_run(tmp_path, ROWS, config={"use_cache": "cache.db"}))


def test_metric_can_be_chosen_and_unknown_ones_list_the_known(tmp_path: Path) -> None:
    run = lm_eval_run(tmp_path, ROWS)
    chosen = adopt.read(run, adopt.AdoptionChoices(metrics={"t*": "acc_norm"}))
    assert {record.metric for record in chosen.records} == {"acc_norm"}
    assert {record.score for record in chosen.records} == {0.0}
    with pytest.raises(UsageError, match="choose one of acc, acc_norm"):
        adopt.read(run, adopt.AdoptionChoices(metrics={"tiny": "f1"}))


def test_scores_off_the_scale_are_refused_and_losses_are_flipped() -> None:
    assert checked_score(0.25, "brier_score", "here", higher_is_better=False) == 0.75
    assert checked_score(True, "acc", "here") == 1.0
    assert checked_score("0.5", "acc", "here") == 0.5
    for value in (12.3, [1, 2], "text", None, -0.1, math.inf):
        with pytest.raises(UsageError, match="only scores from 0 to 1"):
            checked_score(value, "perplexity", "here")


def test_lower_is_better_is_known_from_the_results(tmp_path: Path) -> None:
    run = lm_eval_run(tmp_path, ROWS, higher_is_better={"tiny": {"acc": False}})
    records = adopt.read(run).records
    assert [record.score for record in records] == [0, 0, 1, 0]
    assert records[0].metric == "1-acc"


def test_equal_documents_are_repeats_of_one_item(tmp_path: Path) -> None:
    rows = [*ROWS[:3], lm_eval_row(3, doc_hash="d0")]
    records = adopt.read(lm_eval_run(tmp_path, rows)).records
    assert [(record.doc_hash, record.repeat) for record in records] == [
        ("d0", 0), ("d1", 0), ("d2", 0), ("d0", 1),
    ]  # fmt: skip


def test_mutual_information_keeps_the_conditional_half(tmp_path: Path) -> None:
    double = {
        "arguments": {f"gen_args_{k}": {"arg_0": "", "arg_1": f" {k % 3}"} for k in range(6)},
        "filtered_resps": [["-3.0", "False"], ["-1.0", "False"], ["-4.0", "False"]] * 2,
        "metrics": ["acc", "acc_mutual_info"],
    }
    records = adopt.read(
        lm_eval_run(tmp_path, [row | double | {"acc": 1.0} for row in ROWS])
    ).records
    assert records[0].choice_logprobs == [-3.0, -1.0, -4.0]
    assert records[0].chance == pytest.approx(1 / 3)


def test_text_and_list_targets_find_their_choices(tmp_path: Path) -> None:
    rows = [*ROWS[:2], lm_eval_row(2, target="1 "), lm_eval_row(3, target="[0, 1]")]
    records = adopt.read(lm_eval_run(tmp_path, rows)).records
    assert [record.gold for record in records] == [1, 1, 1, 0]
    assert records[3].chance == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chat_template_sha": "abc"}, "run: chat_template_sha differs: base None"),
        ({"tokenizer_bos_token": ["<bos>", "2"]}, r"tokenizer_bos_token\[0\] differs"),
        ({"versions": {"tiny": 2}}, "tiny: version differs: base 1, candidate 2"),
        ({"task_hashes": {"tiny": "other"}}, "task hash differs"),
        ({"configs": {"tiny": {"output_type": "multiple_choice", "num_fewshot": 5}}}, "fewshot"),
    ],
)
def test_unequal_configurations_are_refused(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    base = lm_eval_run(tmp_path / "base", ROWS)
    other = lm_eval_run(tmp_path / "candidate", ROWS, **changes)
    with pytest.raises(IntegrityError, match=message):
        adopt.pair(base, other)


def test_other_versions_are_remarks(tmp_path: Path) -> None:
    base = lm_eval_run(tmp_path / "base", ROWS)
    other = lm_eval_run(tmp_path / "candidate", ROWS, lm_eval_version="0.4.12")
    remarks = adopt.pair(base, other).remarks
    assert "harness: base lm-eval 0.4.13, candidate lm-eval 0.4.12" in remarks
    assert adopt.pair(base, base).remarks == []


def test_several_runs_in_a_folder_are_not_guessed_between(tmp_path: Path) -> None:
    lm_eval_run(tmp_path / "one", ROWS)
    lm_eval_run(tmp_path / "two", ROWS)
    with pytest.raises(UsageError, match="name one results file"):
        adopt.read(tmp_path)
    with pytest.raises(UsageError, match="neither lm-eval"):
        adopt.read(tmp_path / "one", CHOICES) and adopt.read(Path(__file__).parents[2] / "suites")
    with pytest.raises(UsageError, match="does not exist"):
        adopt.read(tmp_path / "three")


def test_deep_json_is_refused(tmp_path: Path) -> None:
    run = lm_eval_run(tmp_path, ROWS)
    next(run.glob("samples_*")).write_text("[" * 100_000 + "]" * 100_000)
    with pytest.raises(IntegrityError, match="nested too deeply"):
        adopt.read(run)


def test_real_lm_eval_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of lm-eval's own files carry what its results file sums up."""
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    results = run_lm_eval(tmp_path, tmp_path / "out")
    read = adopt.read(tmp_path / "out", CHOICES)
    assert {(r.task, r.axis, r.filter, r.metric) for r in read.records} == {
        ("tiny_mc", "temporal", "none", "acc"),
        ("tiny_ff", "numeric", "strict", "exact_match"),
    }
    assert {record.cluster for record in read.records} == {"g0", "g1", "g2"}
    choice = [record for record in read.records if record.task == "tiny_mc"]
    assert [r.item_id for r in choice] == [f"i{n}" for n in range(5)]
    assert sum(r.score for r in choice) / 5 == results["results"]["tiny_mc"]["acc,none"]
    for record in choice:
        assert record.choice_logprobs is not None
        best = max(range(3), key=record.choice_logprobs.__getitem__)
        assert record.score == float(best == record.gold)
    assert read.tasks["tiny_ff"].notes == ["tiny_ff: filter strict; not judged: loose"]
    adopt.check_alike(read, read)
