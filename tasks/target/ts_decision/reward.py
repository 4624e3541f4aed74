"""Reward of ts_decision: 1.0 for the right action at the right time, else 0.0. Pure."""

import re
from collections.abc import Mapping
from typing import Any

STORIES = (("drain", "fill", "rest"), ("cool", "heat", "hold"), ("sell", "order", "wait"))


def choice(response: str) -> str:
    """First line in lower case, letters only."""
    return re.sub(r"[^a-z ]+", "", response.strip().split("\n", 1)[0][:80].lower()).strip()


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether one of the five answers that the item offers is named and nothing else."""
    high, low, stay = next(s for s in STORIES if str(item["answer"]).split()[0] in s)
    timed = [f"{action} {when}" for action in (high, low) for when in ("now", "soon")]
    return choice(response) in [*timed, stay]


def reward(response: str, item: Mapping[str, Any]) -> float:
    """1.0 for the item's answer."""
    return float(choice(response) == item["answer"])


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
