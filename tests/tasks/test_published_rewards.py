"""Our rewards and extraction against published verifiers, on answers made by hand.

The expected parts of countdown are what VsonicV/es-fine-tuning-paper, countdown/countdown_task.py
returns for `response`: (format, answer). Extraction is compared with lm-eval's own functions.
"""

from __future__ import annotations

import json
import math
import re

import pytest

from fixtures.waiting import at_most
from retainbench.harness.core import paths
from retainbench.harness.running.training.jobs import load_target
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.rendering.answers import extract, rule_of
from retainbench.tasks import _reward

ITEM = {"numbers": [4, 7, 9], "target": 12}
COUNTDOWN = [
    ("<think>9 + 7 = 16</think>\n<answer>9+7-4</answer>", 1.0, 1.0),
    ("<think>a\nb</think>\n<answer>(9 + 7) - 4</answer>", 1.0, 1.0),
    ("<think></think>\n<answer>9+7+4</answer>", 1.0, 0.0),
    ("<think>no line end</think><answer>9+7-4</answer>", 0.6, 1.0),
    ("<answer>9+7-4</answer>", 0.5, 1.0),
    ("<think>never closed <answer>9+7-4</answer>", 0.5, 1.0),
    ("<think>only thought</think>", 0.1, 0.0),
    ("<think>only thought</think> 9+7-4", 0.1, 0.0),
    ("9+7-4", 0.0, 0.0),
    ("", 0.0, 0.0),
    ("<answer>9+7+4</answer> no, <answer>9+7-4</answer>", 0.5, 1.0),
    ("<answer>9+7-4</answer> no, <answer>9+7+4</answer>", 0.5, 0.0),
    ("<answer>9+3</answer>", 0.5, 0.0),
    ("<answer>9+7-4+0</answer>", 0.5, 0.0),
    ("<answer>9+7-4 = 12</answer>", 0.5, 0.0),
    ("<answer>9+7-4", 0.0, 0.0),
    ("<answer></answer>", 0.5, 0.0),
    ("<answer>__import__('os')</answer>", 0.5, 0.0),
    ("<answer>4/(9-9)*7</answer>", 0.5, 0.0),
    ("<think>a</think>\n<answer>9+7-4</answer> and more", 0.6, 1.0),
]


@pytest.mark.parametrize(("response", "form", "answer"), COUNTDOWN)
def test_countdown_has_the_parts_of_the_published_reward(
    response: str, form: float, answer: float
) -> None:
    """Weighted as in arXiv:2601.20861; arXiv:2509.24372 adds the answer whole."""
    module = catalogue.reward(catalogue.own()["countdown_reasoning"])
    assert module.well_formed(response) == pytest.approx(form)
    assert module.correct(response, ITEM) == bool(answer)
    assert module.reward(response, ITEM) == pytest.approx(0.1 * form + 0.9 * answer)


@pytest.mark.parametrize("expression", ["9**7-4", "9//7+4", "-4+9+7"])
def test_what_only_eval_reads_is_no_expression(expression: str) -> None:
    """The documented difference from the published code."""
    module = catalogue.reward(catalogue.own()["countdown_reasoning"])
    assert not module.correct(f"<answer>{expression}</answer>", ITEM)


def test_a_model_that_repeats_tags_is_judged_in_little_time() -> None:
    target = load_target("countdown_reasoning")
    with at_most(5):
        for part in ("<think>", "<answer>", "</answer>", "<answer>(", "<think></think>\n<answer>"):
            assert target.reward(part * 100_000, target.train[0]) <= 0.1


@pytest.mark.parametrize(
    ("response", "reward", "valid"),
    [
        ("Nairobi", 1.0, True),
        (" nairobi.\nmore", 1.0, True),
        ("It is Nairobi", 0.5 + 0.5 / 3, False),
        ("The capital of Kenya is Nairobi.", 0.5 + 0.5 / 6, False),
        ("Mombasa", 0.0, True),
        ("", 0.0, False),
        ("Nairobian", 0.0, True),
    ],
)
def test_a_short_right_name_earns_most(response: str, reward: float, valid: bool) -> None:
    module = catalogue.reward(catalogue.own()["countries_brief"])
    item = {"answer": "Nairobi", "aliases": []}
    assert module.reward(response, item) == pytest.approx(reward)
    assert module.valid(response, item) is valid


def test_accents_do_not_count() -> None:
    module = catalogue.reward(catalogue.own()["countries_brief"])
    assert module.reward("Asunción", {"answer": "Asuncion", "aliases": []}) == 1.0
    assert module.reward("N\u2019Djamena", {"answer": "N'Djamena", "aliases": []}) == 1.0


TAGGED = "<think>a</think>\n<answer>{}</answer>"


@pytest.mark.parametrize(
    ("response", "form", "valid", "worth"),
    [
        (TAGGED.format("B"), True, True, 1.0),
        (TAGGED.format("(B)"), True, True, 1.0),
        (TAGGED.format("B."), True, True, 1.0),
        (TAGGED.format("A"), True, True, 0.0),
        (TAGGED.format("A or B"), True, False, 0.0),
        (TAGGED.format(""), True, False, 0.0),
        ("<answer>B</answer>", False, True, 1.0),
        ("<answer>A</answer> no: <answer>B</answer>", False, True, 1.0),
        ("<think>never closed\n<answer>B</answer>", False, True, 1.0),
        ("<think>B</think>", False, False, 0.0),
        ("B", False, False, 0.0),
        ("<answer>B", False, False, 0.0),
    ],
)
def test_a_letter_is_judged_apart_from_its_form(
    response: str, form: bool, valid: bool, worth: float
) -> None:
    module = catalogue.reward(catalogue.own()["ts_reasoning"])
    item = {"answer": "B", "scale": None}
    assert module.well_formed(response) is form
    assert module.valid(response, item) is valid
    assert module.worth(response, item) == worth
    assert module.reward(response, item) == pytest.approx(0.1 * form + 0.9 * worth)


@pytest.mark.parametrize(
    ("answer", "valid", "worth"),
    [
        ("[10.0, 12.5, 11.0]", True, 1.0),
        ("10, 12.5, 11", True, 1.0),
        ("[11.0, 13.5, 12.0]", True, math.exp(-0.1 * 100 * 1 / 20)),  # MAE 1 of a range of 20
        ("[10.0, 12.5]", False, 0.0),
        ("[10.0, 12.5, 11.0, 1.0]", False, 0.0),
        ("[10.0; 12.5; 11.0]", False, 0.0),
        ("about 10, 12.5, 11", False, 0.0),
        ("[nan, 12.5, 11.0]", False, 0.0),
        ("[1e1, 12.5, 11.0]", False, 0.0),
        ("[0, 0, 0]", True, math.exp(-0.1 * 100 * 33.5 / 3 / 20)),  # a zero forecast
        ("[" + "1, " * 100_000, False, 0.0),
    ],
)
def test_a_forecast_is_worth_its_error_and_nothing_if_it_is_no_list(
    answer: str, valid: bool, worth: float
) -> None:
    """exp(-a MAE) of TimeOmni-1 with a = 0.1, MAE in percent of the scale."""
    module = catalogue.reward(catalogue.own()["ts_reasoning"])
    item = {"answer": "[10.0, 12.5, 11.0]", "scale": 20.0}
    response = TAGGED.format(answer)
    assert module.valid(response, item) is valid
    assert module.worth(response, item) == pytest.approx(worth)


def test_no_letter_is_right_more_often_than_chance_allows() -> None:
    """Three standard errors of a quarter over the test items with options."""
    info = catalogue.own()["ts_reasoning"]
    answers = [row["answer"] for row in catalogue.items(info) if row["scale"] is None]
    error = (0.25 * 0.75 / len(answers)) ** 0.5
    for letter in "ABCD":
        assert abs(answers.count(letter) / len(answers) - 0.25) <= 3 * error, letter


def test_series_have_the_size_that_is_stated() -> None:
    """64 to 256 values; the two of a causality question together at most 220."""
    for row in catalogue.items(catalogue.own()["ts_reasoning"]):
        given = re.findall(r" -?\d+(?:\.\d+)?(?=[,.])", row["query"].split("\n")[0])
        assert 64 <= len(given) <= 256, row["id"]


MATH = [
    (r"\frac{14}{3}", r"\frac{14}{3}", 1.0),
    (r"\frac{14}{3}", r"So it is $\frac{14}{3}$.", 1.0),
    (r"\frac{14}{3}", r"Hence \boxed{\dfrac{14}{3}}.", 1.0),
    (r"\frac{14}{3}", "14/3", 1.0),
    (r"\frac{14}{3}", r"\boxed{\frac{14}{4}}", 0.0),
    ("72", "The answer is 72", 1.0),
    ("72", "$72$ dollars", 1.0),
    ("72", "", 0.0),
    ("72", "I do not know", 0.0),
    ("1000", "1,000", 1.0),
    ("1,000", r"\boxed{1000}", 1.0),
    (r"50\%", r"\boxed{50\%}", 1.0),
    (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \frac{\pi}{2})", 1.0),
    (r"\left( 3, \frac{\pi}{2} \right)", "3", 0.0),
    (r"\sqrt{51}", r"\sqrt{51}", 1.0),
    (r"\sqrt{51}", r"\boxed{\sqrt{51}}", 1.0),
    (r"\sqrt{51}", r"\sqrt{52}", 0.0),
    ("p - q", "p-q", 1.0),
    (r"\$32,\!348", r"So \boxed{\$32,348}.", 1.0),
    (r"\$18.90", "$18.90$", 1.0),
    ("[1,2)", "[1,2)", 1.0),
    (r"\text{Evelyn}", r"\text{Evelyn}", 1.0),
    # math-verify reads several boxed answers as a set; `answer: {from: boxed}` takes the last one.
    ("12", r"\boxed{11} no, \boxed{12}", 0.0),
]


@pytest.mark.parametrize(("answer", "response", "worth"), MATH)
def test_math_reads_answers_with_and_without_a_mark(
    answer: str, response: str, worth: float
) -> None:
    pytest.importorskip("math_verify")
    assert _reward.math(response, {"answer": answer}, {}) == worth


BOXED = [
    r"so \boxed{7}",
    r"first \boxed{1}, no: \boxed{2}",
    r"\boxed{\frac{1}{2}}",
    r"\boxed{\text{(B)}}",
    r"\boxed{12\text{ cm}}",
    r"\boxed{1,000}",
    r"\boxed{\left\{1, \frac{2}{3}\right\}}",
    r"\boxed{}",
    "the answer is 7",
    "",
]


@pytest.mark.parametrize("response", BOXED)
def test_boxed_answers_are_those_of_lm_eval(response: str) -> None:
    from lm_eval.tasks.hendrycks_math.utils import last_boxed_only_string, remove_boxed

    boxed = last_boxed_only_string(response)
    assert extract(rule_of("boxed"), response) == (remove_boxed(boxed) if boxed else "")


def test_solutions_of_math500_have_the_answer_in_their_box() -> None:
    """All 500 where the data are there; lm-eval's extraction finds the same."""
    from lm_eval.tasks.hendrycks_math.utils import last_boxed_only_string, remove_boxed

    path = paths.PACKAGE.parent / "shared" / "data" / "math500.jsonl"
    if not path.is_file():
        pytest.skip("needs ../shared/data")
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        boxed = extract(rule_of("boxed"), row["rationale"])
        assert boxed == remove_boxed(last_boxed_only_string(row["rationale"])), row["id"]


@pytest.mark.parametrize(
    "response",
    ["2 + 2 = 4\n#### 4", "#### 1,000", "#### -7", "#### 3.5", "4", "the answer is #4", ""],
)
def test_marked_numbers_are_those_of_lm_eval_on_gsm8k(response: str) -> None:
    """`strict-match` of lm-eval's gsm8k; where a mark occurs twice it takes the first one."""
    from lm_eval.filters.extraction import RegexFilter

    pattern = r"#### (\-?[0-9\.\,]+)"
    ((published,),) = RegexFilter(pattern, fallback="").apply([[response]], [{}])
    assert extract(rule_of(f"regex:{pattern}"), response) == published
