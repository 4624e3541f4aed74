"""The metric of free-form tasks whose answer is a number: `_dataset.exact` for values.

Needs nothing of retainbench, as `_dataset.py`, so that plain lm-eval can run a task with it. The
last number on the first line of a response is compared by value with the answer and its aliases. A
sign (not a dash after a word or number) and decimals count; thousands commas, currency and percent
signs and trailing zeros do not.
"""

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

NUMBER = re.compile(
    r"(?:(?<!\w)[-\u2212]\$?)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)", re.ASCII
)
LONGEST = 1_000
"""Characters of a response's first line that are read."""


def number(text: str) -> Decimal | None:
    """The last number on the first line, or None.

    >>> number("18 - 3 = $1,015.50.")
    Decimal('1015.50')
    """
    first = text.strip().split("\n", 1)[0][:LONGEST]
    found = NUMBER.findall(first)
    plain = found[-1].translate({ord(","): None, ord("$"): None, 0x2212: "-"}) if found else None
    return Decimal(plain) if plain else None


def match(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: whether the value is right; whether any number was said."""
    said = number(results[0])
    accepted = {number(text) for text in (doc["answer"], *doc["aliases"])}
    right = said is not None and said in accepted
    return {"exact_match": float(right), "valid": float(said is not None)}
