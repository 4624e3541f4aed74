"""Reward of countries_brief: half for the right name, and up to as much again for brevity.

    reward = named (1/2 + 1/2 brevity),    brevity = 1 / words

`named` is 1 where the name is in the first line of a response as a whole word, whatever its case
and accents, else 0: a short wrong answer earns nothing. A sentence of five words with the right
name earns 0.6. Pure: no I/O, no state.
"""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

LONGEST = 300
"""Characters of a response that are read."""


def words(text: str) -> list[str]:
    """Lower-case words of the first line, without accents; a hyphen does not end a word."""
    first = text[:LONGEST].strip().split("\n", 1)[0]
    plain = unicodedata.normalize("NFKD", first.lower().replace("\u2019", "'"))
    letters = "".join(char for char in plain if not unicodedata.combining(char))
    return re.findall(r"\w+(?:[-']\w+)*", letters)


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether the response is one word."""
    del item
    return len(words(response)) == 1


def reward(response: str, item: Mapping[str, Any]) -> float:
    """0.0 without the right name, near 0.5 with it in a long sentence, 1.0 alone."""
    found = words(response)
    named = [words(answer) for answer in (item["answer"], *item["aliases"])]
    if not any(name[0] in found for name in named):
        return 0.0
    return 0.5 + 0.5 / len(found)


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
