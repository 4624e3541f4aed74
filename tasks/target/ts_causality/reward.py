"""Reward of ts_causality: 1.0 for the right leader and lag, else 0.0. Pure."""

import re
from collections.abc import Mapping
from typing import Any

OPTIONS = ("a by 1", "a by 2", "b by 1", "b by 2", "neither")


def choice(response: str) -> str:
    """First line in lower case without punctuation and without the word series."""
    line = response.strip().split("\n", 1)[0][:80].lower()
    return re.sub(r"^series\s+", "", re.sub(r"[^a-z0-9 ]+", "", line).strip())


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether the response is one of the five answers and nothing else."""
    del item
    return choice(response) in OPTIONS


def reward(response: str, item: Mapping[str, Any]) -> float:
    """1.0 for the item's answer."""
    return float(choice(response) == str(item["answer"]).lower())


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
