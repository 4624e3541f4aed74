"""Files as people have them: every row about adopted results of ../shared/cases/README.md."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from retainbench.harness.adoption.choices import DEFAULT_CHOICES, AdoptionChoices
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.verdicts import GateResult
from retainbench.harness.gate.command import Sources, command

CASES = Path(__file__).parents[3] / "shared" / "cases" / "real"

pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not here")


def gated(case: Path, choices: AdoptionChoices = DEFAULT_CHOICES) -> GateResult:
    policy = case.parent / "policy.yaml"
    policy.write_text("margin: 0.05\n")
    sources = Sources(
        base_results=case / "base", candidate_results=case / "candidate", choices=choices
    )
    return command(sources, policy=policy).results[0]


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A copy of the case that the test names, which it may change."""
    return Path(shutil.copytree(CASES / request.param, tmp_path / request.param))


def edit(case: Path, change: Any, side: str = "candidate") -> None:
    """Apply a change to the results file of a side."""
    (file,) = (case / side).glob("*.json")
    results = json.loads(file.read_text())
    change(results)
    file.write_text(json.dumps(results))


@pytest.mark.parametrize(
    ("case", "verdict", "chance", "remarks"),
    [
        ("lm_eval_mc2_chance", "INCONCLUSIVE", 1 / 2, []),
        ("lm_eval_no_configs", "INCONCLUSIVE", 1 / 4, []),
        ("lm_eval_multiple_contexts", "PASS", 1 / 2, []),
        ("lm_eval_function_address", "PASS", 1 / 4, []),
        ("lm_eval_0_4_5_rows", "PASS", 1 / 4, []),
        ("lm_eval_output_path_file", "PASS", 1 / 4, []),
        ("lm_eval_one_unscaled_task", "PASS", 1 / 4, ["pages: not judged"]),
        ("lm_eval_limit_above_items", "PASS", 1 / 4, ["limit differs: base None"]),
        (
            "lm_eval_eos_changed",
            "PASS",
            1 / 4,
            ["eot_token_id differs: base 2, candidate 7", "tokenizer_eos_token[0]"],
        ),
        ("inspect_failed_then_retried", "PASS", 0, ["a.json has status 'error'"]),
    ],
    indirect=["case"],
)
def test_ordinary_results_are_judged(
    case: Path, verdict: str, chance: float, remarks: list[str]
) -> None:
    result = gated(case)
    assert (result.verdict, result.tier) == (verdict, "full")
    assert [task.change.chance for task in result.tasks] == [chance]
    for remark in remarks:
        assert any(remark in line for line in result.remarks), result.remarks
    assert bool(remarks) == bool(result.remarks)


@pytest.mark.parametrize("case", ["lm_eval_function_address"], indirect=True)
def test_a_real_difference_is_shown_with_its_path(case: Path) -> None:
    edit(
        case, lambda r: r["configs"]["made"]["fewshot_config"].update(samples="<function g at 0x1>")
    )
    expected = (
        "made: fewshot_config.samples differs: base '<function shots>', candidate '<function g>'"
    )
    assert expected in gated(case).remarks


@pytest.mark.parametrize("case", ["lm_eval_backend_silent"], indirect=True)
def test_a_silent_change_of_the_questions_is_refused_or_shown(case: Path) -> None:
    with pytest.raises(IntegrityError, match=r"model_args\.add_bos_token differs: base None"):
        gated(case)
    edit(case, lambda results: results["config"]["model_args"].pop("add_bos_token"))
    remarks = gated(case).remarks
    for name in ("model differs: base 'hf', candidate 'vllm'", "load_in_4bit", "max_length"):
        assert any(name in line for line in remarks), remarks
    assert not any("pretrained" in line for line in remarks)


@pytest.mark.parametrize("case", ["lm_eval_one_unscaled_task"], indirect=True)
def test_tasks_are_chosen_left_out_and_named_where_one_side_lacks_them(case: Path) -> None:
    assert gated(case, AdoptionChoices(left_out=["pages"])).remarks == []
    assert gated(case, AdoptionChoices(tasks=["made"])).remarks == []
    with pytest.raises(UsageError, match="word_perplexity is"):
        gated(case, AdoptionChoices(tasks=["pages"]))
    with pytest.raises(UsageError, match="no task is called 'mde'; has made"):
        gated(case, AdoptionChoices(tasks=["made", "mde"]))
    with pytest.raises(UsageError, match="no task is called 'page'; has made, pages"):
        gated(case, AdoptionChoices(left_out=["page"]))
    copy = case / "base" / next((case / "base").glob("samples_made*")).name
    copy.with_name(copy.name.replace("made", "more")).write_bytes(copy.read_bytes())
    counts = {"more": {"original": 200, "effective": 200}}
    edit(case, lambda results: results["n-samples"].update(counts), "base")
    with pytest.raises(IntegrityError, match=r"only the base has scores for more.*--leave-out"):
        gated(case)
    assert gated(case, AdoptionChoices(left_out=["more"])).verdict == "PASS"


@pytest.mark.parametrize("case", ["lm_eval_multiple_contexts"], indirect=True)
def test_another_second_context_is_another_question(case: Path) -> None:
    (file,) = (case / "candidate").glob("*.jsonl")
    file.write_text(file.read_text().replace("So 5 Bo", "So 5 Eve"))
    with pytest.raises(IntegrityError, match="made: the model was sent other requests"):
        gated(case)


@pytest.mark.parametrize("case", ["inspect_errored_sample"], indirect=True)
def test_an_errored_sample_is_named(case: Path) -> None:
    with pytest.raises(IntegrityError, match="sample 7 epoch 1 ended with an error"):
        gated(case)


@pytest.mark.parametrize("case", ["lm_eval_eos_changed"], indirect=True)
def test_remarks_are_data_next_to_the_verdict(case: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("margin: 0.05\n")
    sources = Sources(base_results=case / "base", candidate_results=case / "candidate")
    done = command(sources, policy=policy, out=tmp_path / "out")
    remark = "eot_token_id differs: base 2, candidate 7"
    assert f"  note: {remark}" in done.lines
    stored = json.loads((tmp_path / "out" / "gate.json").read_text())
    assert remark in stored["results"][0]["remarks"]
    assert f'name="remark_1" value="{remark}"' in (tmp_path / "out" / "junit.xml").read_text()
    assert "note: eot" in (tmp_path / "out" / "summary.md").read_text()
    assert {"base_results", "candidate_results"} <= stored["results"][0]["digests"].keys()
