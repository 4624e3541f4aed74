"""The rules of writing_rules by hand: what keeps each of them and what does not."""

from __future__ import annotations

import pytest

from fixtures.waiting import at_most
from retainbench.harness.tasks import catalogue

INFO = catalogue.own()["writing_rules"]
RULES = catalogue.reward(INFO)
CASES = [
    ("at_least", "", 3, "one two three", "one two"),
    ("at_most", "", 2, "it's well-known", "one two three"),
    ("keyword", "farm", 2, "A Farm, a farm.", "A farm, farms and farmland."),
    ("forbidden", "very", 0, "Everyone is here.", "It is Very old."),
    ("lower_case", "", 0, "all small, 1 2 3", "One capital"),
    ("capitals", "", 0, "ALL LARGE, 1 2 3", "ALL BUT ONe"),
    ("no_comma", "", 0, "No comma; none.", "One, comma"),
    ("bullets", "", 2, "- a\n- b", "- a\n- b\n* c"),
    ("paragraphs", "", 2, "a\nb\n \n\nc", "a\n\nb\n\nc"),
    ("first_word", "farm", 0, '"Farm life', "A farm"),
    ("ending", "wind at the farm", 0, "There is wind at the farm", "wind at the farm."),
    ("quoted", "", 0, '"All of it."', 'He said "all of it".'),
    ("title", "", 0, "<<A title>>\ntext", "<A title> text << >"),
    ("json_key", "farm", 0, '```json\n{"farm": 1}\n```', 'Here: {"farm": 1}'),
]


@pytest.mark.parametrize(("kind", "text", "number", "kept", "broken"), CASES)
def test_a_rule_is_kept_or_broken(
    kind: str, text: str, number: int, kept: str, broken: str
) -> None:
    item = {"rules": [{"kind": kind, "text": text, "number": number}]}
    assert RULES.reward(f" {kept}\n", item) == 1.0
    assert RULES.reward(broken, item) == 0.0
    assert RULES.reward(" \n", item) == 0.0


def test_every_kind_is_tested_and_asked_for() -> None:
    asked = {rule["kind"] for item in catalogue.items(INFO) for rule in item["rules"]}
    assert {case[0] for case in CASES} == set(RULES.KINDS) == asked


def test_one_broken_rule_of_several_is_enough() -> None:
    rules = [
        {"kind": "no_comma", "text": "", "number": 0},
        {"kind": "quoted", "text": "", "number": 0},
    ]
    assert RULES.kept('"a, b"', {"rules": rules}) == [False, True]
    assert RULES.reward('"a, b"', {"rules": rules}) == 0.0


def test_no_text_keeps_the_rules_of_many_items() -> None:
    """The texts that the items bring keep the rules of at most one item in ten."""
    items = catalogue.items(INFO)
    for text in [*(item["answer"] for item in items), "Yes", '"the farm"', "{}"]:
        assert sum(RULES.reward(text, item) for item in items) / len(items) <= 0.1, text


@pytest.mark.parametrize("part", ["[", "{", "<<", '"', "- ", "\n\n", "a", "farm "])
def test_long_answers_take_little_time(part: str) -> None:
    with at_most(5):
        for item in catalogue.items(INFO)[:40]:
            assert RULES.reward(part * 200_000, item) in (0.0, 1.0)
