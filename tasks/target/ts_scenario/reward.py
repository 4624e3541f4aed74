"""Reward of ts_scenario: 1.0 for the right name of the process, else 0.0. Pure."""

import re
from collections.abc import Mapping
from typing import Any

OPTIONS = ("rise", "fall", "cycle", "shift", "spike")


def choice(response: str) -> str:
    """First line in lower case without article and punctuation."""
    line = response.strip().split("\n", 1)[0][:80].lower()
    return re.sub(r"^(an?|the)\s+", "", re.sub(r"[^a-z ]+", "", line).strip())


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether one of the five names is said and nothing else."""
    del item
    return choice(response) in OPTIONS


def reward(response: str, item: Mapping[str, Any]) -> float:
    """1.0 for the item's answer."""
    return float(choice(response) == item["answer"])


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
