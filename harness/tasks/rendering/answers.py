"""Which part of a response is its answer: `metadata.answer` and `metadata.think` of a target.

    metadata:
      answer: {from: tag, tag: answer}    # all, first_line (default), last_line, boxed, tag, regex
      think: strip                        # or keep (default)

A reward is called as `reward(answer, item)`, or as `reward(answer, item, response)` if it takes
three arguments: then it also sees the whole response. Where nothing is found the answer is empty.
The last match counts: a model that corrects itself means its last word. Pure and linear in the
length of the response, apart from `regex`, which has a limit of time. Torch-free.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

import regex
from pydantic import ConfigDict, Field, ValidationError, model_validator

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import Record

OPEN, CLOSE = "<think>", "</think>"
LONGEST = 100_000
"""Characters at the end of a response that are searched; a window of 32k tokens holds as many."""
SECONDS = 1.0
"""That a pattern may take on one response."""

Judge = Callable[[str, Any], Any]
"""Whole response and item -> what a reward module says of it."""


class AnswerRule(Record):
    """Where the answer is in a response."""

    model_config = ConfigDict(populate_by_name=True)

    source: Annotated[
        Literal["all", "first_line", "last_line", "boxed", "tag", "regex"], Field(alias="from")
    ] = "first_line"
    tag: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_-]{0,40}$")] | None = None
    """For `tag`: NAME of <NAME>answer</NAME>."""
    pattern: Annotated[str, Field(max_length=1_000)] | None = None
    """For `regex`: the first group of the last match, or all of it without a group."""
    think: Literal["strip", "keep"] = "keep"
    """`strip`: the answer comes after the last </think>; thought without an end has none."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if (self.source == "tag") != (self.tag is not None):
            raise ValueError("`tag` goes with `from: tag`")
        if (self.source == "regex") != (self.pattern is not None):
            raise ValueError("`pattern` goes with `from: regex`")
        if self.pattern is not None:
            try:
                regex.compile(self.pattern)
            except regex.error as error:
                raise ValueError(f"pattern: {error}") from error
        return self


FIRST_LINE = AnswerRule()


def rule_of(text: str, think: Literal["strip", "keep"] = "keep") -> AnswerRule:
    """A rule as a command line has it: `boxed`, `tag:NAME`, `regex:PATTERN`, ...

    Raises:
        UsageError: there is no such rule.

    >>> rule_of("tag:answer").tag
    'answer'
    """
    source, _, detail = text.partition(":")
    key = {"tag": "tag", "regex": "pattern"}.get(source)
    value = {"from": source, "think": think} | ({key: detail} if key else {})
    try:
        return AnswerRule.model_validate(value)
    except ValidationError as error:
        raise UsageError(
            f"--answer {text}: {error.errors()[0]['msg']}. Write all, first_line, last_line, "
            "boxed, tag:NAME or regex:PATTERN"
        ) from error


def extract(rule: AnswerRule, response: str) -> str:
    """The answer in a response; empty where there is none.

    Raises:
        IntegrityError: a pattern takes too long.

    >>> extract(AnswerRule(source="boxed"), r"so \\\\boxed{1}, no: \\\\boxed{\\\\frac{1}{2}}.")
    '\\\\\\\\frac{1}{2}'
    >>> extract(AnswerRule(source="tag", tag="answer", think="strip"), "<think>3<answer>7</answer>")
    ''
    """
    if rule.think == "strip":
        response = _after_thought(response)
    if rule.source == "first_line":
        return response.split("\n", 1)[0]
    if rule.source == "all":
        return response
    response = response[-LONGEST:]
    if rule.source == "last_line":
        return next((line.strip() for line in response.split("\n")[::-1] if line.strip()), "")
    if rule.source == "boxed":
        return _boxed(response)
    if rule.source == "tag":
        return _tagged(response, f"<{rule.tag}>", f"</{rule.tag}>")
    return _matched(response, str(rule.pattern))


def judging(function: Callable[..., Any], rule: AnswerRule) -> Judge:
    """A reward module's function, given whole responses."""
    sees_all = len(inspect.signature(function).parameters) > 2

    def judge(response: str, item: Any) -> Any:
        answer = extract(rule, response)
        return function(answer, item, response) if sees_all else function(answer, item)

    return judge


def _after_thought(response: str) -> str:
    _, found, after = response.rpartition(CLOSE)
    if found:
        return "" if OPEN in after else after.lstrip("\n")
    return "" if OPEN in response else response


def _boxed(response: str) -> str:
    r"""The braces of the last \boxed that are balanced."""
    for match in reversed(list(re.finditer(r"\\boxed\s?\{", response))[-100:]):
        depth = 1
        for place in range(match.end(), min(len(response), match.end() + 10_000)):
            depth += {"{": 1, "}": -1}.get(response[place], 0)
            if not depth:
                return response[match.end() : place]
    return ""


def _tagged(response: str, begin: str, end: str) -> str:
    before, found, _ = response.rpartition(end)
    _, opened, answer = before.rpartition(begin)
    return answer.strip() if found and opened else ""


def _matched(response: str, pattern: str) -> str:
    try:
        matches = list(regex.finditer(pattern, response, timeout=SECONDS))
    except TimeoutError:
        raise IntegrityError(
            f"answer.pattern {pattern!r} takes more than {SECONDS} s on a response of "
            f"{len(response)} characters; write one without nested repeats"
        ) from None
    if not matches:
        return ""
    last = matches[-1]
    return (last[1] if last.re.groups else last[0]) or ""
