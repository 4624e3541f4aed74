"""Where the answer of a response is: by hand, for hostile responses, in training and in scoring."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import ValidationError

from fixtures.waiting import at_most
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.models import loading
from retainbench.harness.running.training.jobs import load_target
from retainbench.harness.scoring import sample_rows
from retainbench.harness.scoring.backend import generation_options
from retainbench.harness.scoring.stops import stop_rule
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.harness.tasks.folder import read_task
from retainbench.harness.tasks.rendering.answers import AnswerRule, extract, judging
from retainbench.harness.tasks.rendering.prompts import judged
from retainbench.trainers._shared.rollout import ended

CASES = [
    ({}, " 42\nQuestion: next", " 42"),
    ({"from": "all"}, "a\nb", "a\nb"),
    ({"from": "last_line"}, "a\n\n b \n \n", "b"),
    ({"from": "last_line"}, "\n", ""),
    ({"from": "boxed"}, r"\boxed{1} then \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
    ({"from": "boxed"}, r"\boxed{1} then \boxed{2", "1"),
    ({"from": "boxed"}, "none", ""),
    ({"from": "tag", "tag": "answer"}, "<answer>1</answer> no <answer> 2 </answer>.", "2"),
    ({"from": "tag", "tag": "answer"}, "<answer>1", ""),
    ({"from": "regex", "pattern": r"#### (-?\d+)"}, "#### 1\n#### -7", "-7"),
    ({"from": "regex", "pattern": r"\d+"}, "1, 2 and 30", "30"),
    ({"from": "regex", "pattern": r"x"}, "1", ""),
    ({"from": "all", "think": "strip"}, "<think>\na\n</think>\n\n7", "7"),
    ({"from": "all", "think": "strip"}, "a</think>7", "7"),
    ({"from": "all", "think": "strip"}, "<think>never closed 7", ""),
    ({"from": "all", "think": "strip"}, "7", "7"),
    ({"from": "all", "think": "keep"}, "<think>a</think>7", "<think>a</think>7"),
]


@pytest.mark.parametrize(("rule", "response", "answer"), CASES)
def test_answers_by_hand(rule: dict[str, str], response: str, answer: str) -> None:
    assert extract(AnswerRule.model_validate(rule), response) == answer


@pytest.mark.parametrize("source", ["boxed", "tag", "last_line"])
def test_long_responses_take_little_time(source: str) -> None:
    rule = AnswerRule(source=source, tag="a" if source == "tag" else None)
    with at_most(20):
        for part in (r"\boxed{", "<a>", "</a>", "{", "\n", "<think>"):
            extract(rule, part * 200_000)


def test_a_pattern_that_takes_for_ages_is_refused() -> None:
    rule = AnswerRule(source="regex", pattern=r"^(a|aa)+$")
    with pytest.raises(IntegrityError, match="nested repeats"):
        extract(rule, "a" * 100 + "!")


@pytest.mark.parametrize(
    "rule", [{"from": "tag"}, {"tag": "a"}, {"from": "regex", "pattern": "("}, {"from": "middle"}]
)
def test_a_rule_that_is_incomplete_is_refused(rule: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        AnswerRule.model_validate(rule)


def test_a_reward_of_three_arguments_sees_the_whole_response() -> None:
    rule = AnswerRule(source="last_line")
    seen = judging(lambda answer, item, response: (answer, item, response), rule)
    assert seen("a\nb", 1) == ("b", 1, "a\nb")
    assert judging(lambda answer, item: (answer, item), rule)("a\nb", 1) == ("b", 1)


def test_a_response_ends_at_the_first_of_its_stop_strings() -> None:
    assert judged("a</s>b\n", ["\n", "</s>"]) == "a"
    assert judged("a\nb", []) == "a\nb"


def test_a_stop_string_of_several_tokens_finishes_a_response(tiny_base: Path) -> None:
    tokenizer = loading.load(tiny_base).tokenizer
    stops = stop_rule([tokenizer.eos_token_id], len(tokenizer), ["END"], tokenizer)
    ids = tokenizer("a END")["input_ids"]
    assert ended(stops, ids)
    assert not ended(stops, ids[:-1])
    assert not ended(stops, [])


def long_answers(tmp_path: Path) -> Catalogue:
    """Countdown with another YAML: the answer is the last line of a long response."""
    folder = tmp_path / "target" / "countdown_long"
    source = catalogue.own()["countdown"].folder
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns("*.lock", "countdown.yaml"))
    text = (source / "countdown.yaml").read_text(encoding="utf-8")
    text = text.replace("rb_countdown", "rb_countdown_long").replace(
        "../../_free_form.yaml", str(source.parents[1] / "_free_form.yaml")
    )
    text = text.replace("target/countdown", "target/countdown_long")
    text += "  answer: {from: last_line}\n  think: strip\n"
    text += "generation_kwargs: {until: [], do_sample: false, max_gen_toks: 48}\n"
    (folder / "countdown_long.yaml").write_text(text, encoding="utf-8")
    return Catalogue((replace(read_task(folder), folder=source),))


def test_a_target_of_many_lines_is_trained_and_scored_alike(tmp_path: Path) -> None:
    """The same stop rule, limit and answer."""
    known = long_answers(tmp_path)
    info = known.tasks["countdown_long"]
    target = load_target("countdown_long", known)
    assert (target.stop, target.max_new_tokens) == ((), 48)
    item = target.train[0]
    assert target.reward(f"<think>\n1\n</think>\nso\n{item['answer']}", item) == 1.0
    assert target.reward(f"{item['answer']}\nor not", item) < 1.0
    assert target.response("a\nb") == "a\nb"
    options = generation_options({"until": [], "do_sample": False, "max_gen_toks": 48}, 1)
    assert (options.until, options.tokens) == ((), 48)
    rows = [{"resps": [[f"so\n{item['answer']}"]], "doc": item, "reward": 0.0, "valid": 0.0}]
    (judged_row,) = sample_rows.judged(info, rows)
    assert (judged_row["reward"], judged_row["valid"]) == (1.0, True)


def test_default_targets_judge_the_first_line() -> None:
    info, target = catalogue.own()["countdown"], load_target("countdown")
    assert (info.stop, info.answer, target.stop) == (("\n",), AnswerRule(), ("\n",))
    assert target.response(" 42\nQuestion") == " 42"
