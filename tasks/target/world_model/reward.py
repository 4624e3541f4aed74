"""Reward of world_model: the share of the state variables that are exactly right. Pure.

An answer that does not name exactly as many variables as asked for scores 0.
"""

from collections.abc import Mapping
from typing import Any


def state(response: str) -> list[str]:
    """The first line's comma-separated parts, lower case."""
    line = response.strip().split("\n", 1)[0].strip()[:120]
    return [part.strip(" .").lower() for part in line.split(",")]


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether every state variable has a value: a number where one is due, else a word."""
    said, true = state(response), state(item["answer"])
    same_kind = (
        a.lstrip("-").isdigit() == b.lstrip("-").isdigit() for a, b in zip(said, true, strict=False)
    )
    return len(said) == len(true) and all(said) and all(same_kind)


def reward(response: str, item: Mapping[str, Any]) -> float:
    """Exact variables / all variables; 0.0 when their number is wrong."""
    said, true = state(response), state(item["answer"])
    if len(said) != len(true):
        return 0.0
    return sum(a == b for a, b in zip(said, true, strict=True)) / len(true)


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
