r"""Reward of ts_reasoning: a tenth for the format, the rest for the answer.

    reward = 0.1 format + 0.9 answer

`format` is 1 for `<think>...</think>\n<answer>...</answer>` and nothing else, otherwise 0. `answer`
is 1 or 0 for a letter, and exp(-0.1 MAE) for a forecast, as in TimeOmni-1 (arXiv:2509.24803), whose
MAE is in the unit of the series; here it is in percent of the item's scale, the range of the shown
and the true values, as in target/ts_forecast. No letter, or a list of another length than asked
for, earns nothing for the answer: a score of valid answers alone would hide failures. Pure: no I/O,
no state.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

LONGEST = 20_000
"""Characters of a response that are read."""
FORMAT_WEIGHT = 0.1
MOST_VALUES = 64
LETTER = re.compile(r"\(?([A-D])\)?[.:]?")
VALUE = re.compile(r"-?\d{1,9}(?:\.\d{1,9})?", re.ASCII)


def answer_of(response: str) -> str:
    """What is inside the last pair of answer tags; "" without one."""
    before, closed, _ = response[:LONGEST].rpartition("</answer>")
    _, opened, inside = before.rpartition("<answer>")
    return inside.strip() if closed and opened else ""


def well_formed(response: str) -> bool:
    """Whether there are a thought and an answer in tags and nothing else."""
    text = response[:LONGEST].strip()
    parts = text.split("</think>\n<answer>")
    return len(parts) == 2 and text.startswith("<think>") and text.endswith("</answer>")


def values(text: str) -> list[float]:
    """A list of numbers, with or without brackets; [] when there is anything else."""
    parts = text.removeprefix("[").removesuffix("]").split(",", MOST_VALUES)
    found = [VALUE.fullmatch(part.strip()) for part in parts]
    return [float(match[0]) for match in found if match] if all(found) else []


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether there is an answer of the kind that is asked for."""
    answer = answer_of(response)
    if item["scale"] is None:
        return LETTER.fullmatch(answer) is not None
    return len(values(answer)) == len(values(item["answer"]))


def worth(response: str, item: Mapping[str, Any]) -> float:
    """The answer's reward in [0, 1]; 0.0 without a valid one."""
    if not valid(response, item):
        return 0.0
    answer = answer_of(response)
    if item["scale"] is None:
        match = LETTER.fullmatch(answer)
        return float(match is not None and match[1] == item["answer"])
    pairs = list(zip(values(answer), values(item["answer"]), strict=True))
    error = sum(abs(given - true) for given, true in pairs) / len(pairs)
    return math.exp(-0.1 * 100 * error / item["scale"])


def reward(response: str, item: Mapping[str, Any]) -> float:
    """A tenth for the format and nine tenths for the answer."""
    answered = (1 - FORMAT_WEIGHT) * worth(response, item)
    return FORMAT_WEIGHT * well_formed(response) + answered


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: reward, validity, format and answer, each by itself."""
    response = results[0]
    return {
        "reward": reward(response, doc),
        "valid": float(valid(response, doc)),
        "format": float(well_formed(response)),
        "answer": worth(response, doc),
    }
