"""The rewards of targets that are made of a user's own rows (`retainbench new target`).

Reads `reward.json` next to it, which names one of the rewards below and its settings, or the user's
own `reward.py` with `reward(response, item)` and, if it likes, `valid(response, item)`. Needs
nothing of retainbench, as `_dataset.py`, so that plain lm-eval can run a target with it. Every
reward is a number in [0, 1] that depends on response and item alone.
"""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

HERE = Path(__file__).resolve().parent
LONGEST = 20_000
"""Characters of a response that are read."""
NUMBER = re.compile(
    r"(?:(?<!\w)[-\u2212]\$?)?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d{1,30})(?:\.\d{1,30})?|\.\d{1,30})",
    re.ASCII,
)
Item = Mapping[str, Any]
Settings = Mapping[str, Any]


def settings() -> Settings:
    """The content of reward.json; empty where the target has a reward.py."""
    path = HERE / "reward.json"
    found: Settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _own() -> ModuleType | None:
    """The user's reward.py, run once."""
    path = HERE / "reward.py"
    if not path.is_file():
        return None
    module = ModuleType("retainbench_own_reward")
    module.__file__ = str(path)
    exec(compile(path.read_bytes(), path, "exec"), module.__dict__)  # noqa: S102 - the user's own
    return module


OWN = _own()
SETTINGS = settings()


def reward(response: str, item: Item) -> float:
    """What a response is worth, in [0, 1]."""
    if OWN is not None:
        return float(OWN.reward(response, item))
    return KINDS[SETTINGS["kind"]](response[:LONGEST], item, SETTINGS)


def valid(response: str, item: Item) -> bool:
    """Whether the response could be read as an answer at all."""
    if OWN is not None and hasattr(OWN, "valid"):
        return bool(OWN.valid(response, item))
    if OWN is not None:
        return bool(response.strip())
    return READABLE.get(SETTINGS["kind"], _anything)(response[:LONGEST], item, SETTINGS)


def process_results(doc: Item, results: list[str]) -> dict[str, float]:
    """lm-eval's hook: the metrics of one generated answer."""
    return {"reward": reward(results[0], doc), "valid": float(valid(results[0], doc))}


def normalised(text: str) -> str:
    """Lower case, without outer punctuation and repeated spaces."""
    return re.sub(r"\s+", " ", text.lower()).strip(" .,;:!?\"'")


def answers(item: Item) -> list[str]:
    """The answer and its aliases."""
    return [item["answer"], *item.get("aliases", ())]


def exact(response: str, item: Item, _: Settings) -> float:
    """1.0 for the answer or an alias, after normalisation."""
    return float(normalised(response) in map(normalised, answers(item)))


def number(text: str) -> Decimal | None:
    """The last number of a text, without thousands commas and currency signs; None without any."""
    found = NUMBER.findall(text)
    if not found:
        return None
    return Decimal(found[-1].translate({ord(","): None, ord("$"): None, 0x2212: "-"}))


def numeric(response: str, item: Item, settings: Settings) -> float:
    """1.0 where the last number is the answer's, within `tolerance` (absolute) or `relative`."""
    said = number(response)
    right = [found for text in answers(item) if (found := number(text)) is not None]
    if said is None:
        return 0.0
    allowed, share = (Decimal(str(settings.get(key, 0))) for key in ("tolerance", "relative"))
    return float(any(abs(said - one) <= max(allowed, share * abs(one)) for one in right))


def choice(response: str, item: Item, settings: Settings) -> float:
    """1.0 where the only one of `options` that the response names is the answer."""
    named = _named(response, settings)
    return float(named == {normalised(item["answer"])})


def _named(response: str, settings: Settings) -> set[str]:
    said = words(response)
    options = {normalised(option) for option in settings["options"]}
    return {option for option in options if words(option) in said}


def words(text: str) -> str:
    """Lower-case words with one space before, between and after them."""
    found = re.findall(r"[^\W_]+", text.lower())
    return f" {' '.join(found)} "


def contains(response: str, item: Item, _: Settings) -> float:
    """1.0 where the answer or an alias is part of the response, after normalisation."""
    text = normalised(response)
    return float(any(normalised(answer) in text for answer in answers(item)))


def regex(response: str, item: Item, settings: Settings) -> float:
    """1.0 where the last match of `pattern` (its first group, if any) is the answer.

    Without a match the response as a whole is compared.
    """
    found = list(re.finditer(settings["pattern"], response))
    said = found[-1].group(1 if found[-1].re.groups else 0) if found else response
    return float(normalised(said) in map(normalised, answers(item)))


def json_object(response: str, item: Item, settings: Settings) -> float:
    """Share of `fields` that are as in the answer, a JSON object; without fields all must be equal.

    0.0 where no object can be read, or where it breaks `schema`.
    """
    said, right = _object(response, settings), json.loads(item["answer"])
    if said is None:
        return 0.0
    fields = settings.get("fields")
    if not fields:
        return float(said == right)
    return sum(field in said and said[field] == right.get(field) for field in fields) / len(fields)


def _object(response: str, settings: Settings) -> dict[str, Any] | None:
    start = response.find("{")
    if start < 0:
        return None
    try:
        value, _ = json.JSONDecoder().raw_decode(response, start)
    except (ValueError, RecursionError):
        return None
    if "schema" in settings:
        import jsonschema

        if not jsonschema.Draft202012Validator(settings["schema"]).is_valid(value):
            return None
    return value if isinstance(value, dict) else None


def math(response: str, item: Item, _: Settings) -> float:
    """1.0 where a response is the answer, or math-verify finds the two expressions equal.

    The answer is LaTeX with or without dollar signs; so is a response that is nothing else.
    """
    from math_verify import verify

    if "".join(response.split()) in ("".join(answer.split()) for answer in answers(item)):
        return 1.0
    said = _expressions(response, not PROSE.search(COMMAND.sub("", response)))
    return float(any(verify(_expressions(answer, True), said) for answer in answers(item)))


LONGEST_BARE = 300
"""Characters of an expression without a mark."""
COMMAND = re.compile(r"\\[A-Za-z]+")
PROSE = re.compile(r"[A-Za-z]{2}|\n|\$|\\[(\[]")
"""After commands are left out: words, lines or marked formulas."""


@lru_cache(maxsize=4_096)
def _expressions(text: str, bare: bool) -> list[Any]:
    """What math-verify reads in a text; without a mark it misses roots, tuples and polynomials.

    Args:
        bare: the text is one expression, to be marked as such first.
    """
    from math_verify import parse

    text = text.replace("\\$", "").replace("\\!", "")  # a currency sign, a narrow space
    forms = [text]
    if len(text) <= LONGEST_BARE and "$" not in text and "\\boxed" not in text:
        forms.insert(0 if bare else 1, f"\\boxed{{{text}}}")
    found: list[Any] = []
    for form in forms:
        found += parse(form)
        if any(not isinstance(expression, str) for expression in found):
            break
    return found


def _anything(response: str, _item: Item, _settings: Settings) -> bool:
    return bool(response.strip())


Reward = Callable[[str, Item, Settings], float]
KINDS: dict[str, Reward] = {
    "exact": exact,
    "numeric": numeric,
    "choice": choice,
    "contains": contains,
    "regex": regex,
    "json": json_object,
    "math": math,
}
READABLE: dict[str, Callable[[str, Item, Settings], bool]] = {
    "numeric": lambda response, _, settings: number(response) is not None,
    "choice": lambda response, _, settings: len(_named(response, settings)) == 1,
    "json": lambda response, _, settings: _object(response, settings) is not None,
}
