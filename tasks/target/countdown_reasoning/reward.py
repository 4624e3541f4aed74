r"""Reward of countdown_reasoning: a tenth for the format, the rest for a correct answer.

    reward = 0.1 format + 0.9 answer

`format` is 1 for `<think>...</think>\n<answer>...</answer>` and nothing else; otherwise 0.1 for a
thought and 0.5 for an answer in tags. `answer` is 1 where the last answer uses every number exactly
once and equals the target. Both parts are those of VsonicV/es-fine-tuning-paper,
countdown/countdown_task.py. Papers weight them in two ways: arXiv:2509.24372 adds the whole answer
(at most 1.1), arXiv:2601.20861 nine tenths of it (at most 1). This is the second, because rewards
here are in [0, 1]; scores of the two cannot be compared.

Differences from that code: the opening tag is the model's own and not part of the prompt; blanks
around a response are ignored; an expression is read by the parser of target/countdown with exact
fractions instead of `eval`, so `**`, `//`, a leading sign and numbers of over six digits are no
expression. Pure: no I/O, no state.
"""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_PATH = Path(__file__).resolve().parents[1] / "countdown" / "reward.py"
_SPEC = importlib.util.spec_from_file_location("retainbench_countdown_reward", _PATH)
assert _SPEC is not None
assert _SPEC.loader is not None
_COUNTDOWN = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_COUNTDOWN)

LONGEST = 20_000
"""Characters of a response that are read."""
FORMAT_WEIGHT = 0.1


def _between(text: str, tag: str) -> list[str]:
    """What is inside each pair of tags; linear in the length of the text."""
    parts = (part.partition(f"</{tag}>") for part in text.split(f"<{tag}>")[1:])
    return [inside for inside, closed, _ in parts if closed]


def well_formed(response: str) -> float:
    """1 for thought and answer alone, else 0.1 for a thought and 0.5 for an answer."""
    text = response[:LONGEST].strip()
    if text.startswith("<think>") and text.endswith("</answer>") and "</think>\n<answer>" in text:
        return 1.0
    return 0.1 * bool(_between(text, "think")) + 0.5 * bool(_between(text, "answer"))


def correct(response: str, item: Mapping[str, Any]) -> bool:
    """Whether the last answer uses each number once and equals the target."""
    answers = _between(response[:LONGEST], "answer")
    if not answers or not re.fullmatch(r"[0-9+\-*/() ]+", answers[-1]):
        return False
    try:
        value, used = _COUNTDOWN.parse(answers[-1])
    except _COUNTDOWN.ExpressionError:
        return False
    return bool(value == item["target"] and sorted(used) == sorted(item["numbers"]))


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether there is an answer in tags."""
    del item
    return bool(_between(response[:LONGEST], "answer"))


def reward(response: str, item: Mapping[str, Any]) -> float:
    """0.1 times the format and 0.9 for a correct answer."""
    answered = 1 - FORMAT_WEIGHT if correct(response, item) else 0.0
    return FORMAT_WEIGHT * well_formed(response) + answered


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
