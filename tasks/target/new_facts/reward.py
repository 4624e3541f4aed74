"""Reward of new_facts: 1.0 when the first line is the answer, read without case and punctuation.

Pure: no I/O, no state. A well-formed answer is any non-empty first line of at most 60 characters.
"""

import re
from collections.abc import Mapping
from typing import Any

LONGEST = 60


def answer_line(response: str) -> str:
    """First line in lower case, words and digits only."""
    line = response.strip().split("\n", 1)[0]
    return re.sub(r"\W+", " ", line[:200].lower()).strip()


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether the response is a short non-empty line."""
    del item
    return 0 < len(answer_line(response)) <= LONGEST


def reward(response: str, item: Mapping[str, Any]) -> float:
    """1.0 for the answer or one of its aliases, else 0.0."""
    accepted = {answer_line(str(text)) for text in (item["answer"], *item["aliases"])}
    return float(answer_line(response) in accepted)


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
