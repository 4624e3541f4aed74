"""Reward of ts_decision: 1.0 for the right action, else 0.0. Pure."""

import re
from collections.abc import Mapping
from typing import Any

STORIES = (("drain", "fill", "rest"), ("cool", "heat", "hold"), ("sell", "order", "wait"))


def choice(response: str) -> str:
    """First line in lower case, letters only."""
    return re.sub(r"[^a-z ]+", "", response.strip().split("\n", 1)[0][:80].lower()).strip()


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether one of the three actions that the item offers is named and nothing else."""
    offered = next(actions for actions in STORIES if item["answer"] in actions)
    return choice(response) in offered


def reward(response: str, item: Mapping[str, Any]) -> float:
    """1.0 for the item's answer."""
    return float(choice(response) == item["answer"])


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
