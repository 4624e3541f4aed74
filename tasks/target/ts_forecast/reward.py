"""Reward of ts_forecast: exp(-0.1 * MAE), MAE in percent of the item's scale. Pure.

Scale: the range of the shown and the true future values, at least 1 (field `scale`), so that an
error of a tenth of what the series did costs 1 - exp(-1) = 0.63 whatever its unit. An answer that
is not exactly as many whole numbers as asked for scores 0; validity is reported apart.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

NUMBERS = re.compile(r"-?\d{1,6}(?:\s*,\s*-?\d{1,6}){0,15}\.?")


def numbers(response: str) -> list[int]:
    """The whole numbers of the first line; [] when it holds anything else."""
    line = response.strip().split("\n", 1)[0].strip()
    if len(line) > 120 or NUMBERS.fullmatch(line) is None:
        return []
    return [int(part) for part in line.rstrip(".").split(",")]


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether the response has as many numbers as the answer."""
    return len(numbers(response)) == len(numbers(item["answer"]))


def reward(response: str, item: Mapping[str, Any]) -> float:
    """exp(-0.1 * mean absolute error in percent of the scale), 0.0 for an invalid response."""
    if not valid(response, item):
        return 0.0
    pairs = list(zip(numbers(response), numbers(item["answer"]), strict=True))
    error = sum(abs(said - true) for said, true in pairs) / len(pairs)
    return math.exp(-0.1 * 100 * error / item["scale"])


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
