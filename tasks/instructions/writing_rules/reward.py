"""Score of writing_rules: 1.0 when a response keeps every rule of its item, else 0.0.

The rules are of the kinds that IFEval (arXiv:2311.07911) checks, and so is the score, its strict
prompt-level accuracy. A rule is `{kind, text, number}`; each kind is one function below, which
reads at most LONGEST characters and uses no pattern of its item. Pure: no I/O, no state.
"""

import json
import re
from collections.abc import Callable, Mapping
from typing import Any

LONGEST = 10_000
"""Characters of a response that are read; more than its longest answer has."""


def words(text: str) -> list[str]:
    """Lower-case words."""
    return re.findall(r"[^\W_]+(?:['-][^\W_]+)*", text.lower())


def _count(response: str, text: str) -> int:
    return words(response).count(text.lower())


def _object(response: str) -> Any:
    """A response that is JSON, in a code fence or not; None else."""
    inside = response.removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        return json.loads(inside)
    except (ValueError, RecursionError):
        return None


def _bullets(response: str) -> int:
    return sum(line.lstrip().startswith(("- ", "* ")) for line in response.splitlines())


def _paragraphs(response: str) -> int:
    return sum(bool(part.strip()) for part in re.split(r"\n[ \t]*\n", response))


KINDS: dict[str, Callable[[str, str, int], bool]] = {
    "at_least": lambda r, _text, n: len(words(r)) >= n,
    "at_most": lambda r, _text, n: 0 < len(words(r)) <= n,
    "keyword": lambda r, text, n: _count(r, text) >= n,
    "forbidden": lambda r, text, _n: _count(r, text) == 0,
    "lower_case": lambda r, _text, _n: r == r.lower(),
    "capitals": lambda r, _text, _n: r == r.upper(),
    "no_comma": lambda r, _text, _n: "," not in r,
    "bullets": lambda r, _text, n: _bullets(r) == n,
    "paragraphs": lambda r, _text, n: _paragraphs(r) == n,
    "first_word": lambda r, text, _n: words(r)[:1] == [text.lower()],
    "ending": lambda r, text, _n: r.rstrip('" ').lower().endswith(text.lower()),
    "quoted": lambda r, _text, _n: len(r) > 1 and r.startswith('"') and r.endswith('"'),
    "title": lambda r, _text, _n: re.search(r"<<[^<>\n]{1,200}>>", r) is not None,
    "json_key": lambda r, text, _n: isinstance(o := _object(r), dict) and text in o,
}
"""Kind -> (response, text, number) -> whether the rule is kept."""


def kept(response: str, item: Mapping[str, Any]) -> list[bool]:
    """Of each rule of an item, whether a response keeps it."""
    text = response[:LONGEST].strip()
    return [KINDS[rule["kind"]](text, rule["text"], rule["number"]) for rule in item["rules"]]


def valid(response: str, item: Mapping[str, Any]) -> bool:
    """Whether anything was answered."""
    del item
    return bool(response.strip())


def reward(response: str, item: Mapping[str, Any]) -> float:
    """1.0 when all rules are kept."""
    return float(valid(response, item) and all(kept(response, item)))


def process_results(doc: Mapping[str, Any], results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}
