"""What a retention task must keep: a lock, a chance that is true, choices without shortcuts.

Reads a task's folder. Command: `retainbench check FOLDER`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from retainbench.harness.contracts.rules import Rule, all_of
from retainbench.harness.contracts.target import lock
from retainbench.harness.core.schema import Policy
from retainbench.harness.statistics.verdict import FEWEST_CLUSTERS
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.catalogue import TaskInfo
from retainbench.harness.tasks.rendering.answers import judging
from retainbench.harness.tasks.rendering.prompts import judged
from retainbench.tasks._dataset import exact, normalised
from retainbench.tasks._numeric import match

Row = dict[str, Any]
ERRORS = 3
"""Standard errors by which a picker may miss chance."""
COMMON = 0.4
"""Most that the commonest answer may earn on a free-form task."""


def check(info: TaskInfo) -> Iterator[Rule]:
    """The rules of a retention task, one after another."""
    rules: list[tuple[str, Callable[[], str]]] = [
        ("lock", lambda: lock(info)),
        ("different questions", lambda: _different(info)),
    ]
    if info.kind == "perplexity":
        return all_of([*rules, ("documents", lambda: _documents(info))])
    rules += [("chance", lambda: _chance(info))]
    if info.kind == "multiple_choice":
        rules += [("no prefix choice", lambda: _prefixes(info))]
        rules += [("no shortcut", lambda: _shortcuts(info))]
    else:
        rules += [("gold answers match", lambda: _gold(info))]
    return all_of(rules)


def _different(info: TaskInfo) -> str:
    seen: dict[str, str] = {}
    for row in catalogue.items(info):
        shown = " | ".join(sorted(row.get("choices", ()))) or " ".join(row["answer"].split())
        text = normalised(row["query"]) or normalised(shown)
        other = seen.setdefault(text, row["id"])
        if other != row["id"]:
            return f"item {row['id']} asks what item {other} asks"
    return ""


def _chance(info: TaskInfo) -> str:
    rows = catalogue.items(info)
    if info.kind == "free_form":
        answer, count = Counter(normalised(row["answer"]) for row in rows).most_common(1)[0]
        if count / len(rows) > COMMON:
            return f"{answer[:40]!r} is the answer to {count} of {len(rows)} items: at most 40 %"
        return ""
    guess = sum(1 / len(row["choices"]) for row in rows) / len(rows)
    if info.chance is not None and info.code is None and abs(info.chance - guess) > 1e-6:
        return f"metadata.chance is {info.chance:g}, a guesser gets {guess:g}. Leave chance out"
    return ""


def _documents(info: TaskInfo) -> str:
    """Enough of them, and no query: a document is read from its first token on."""
    rows, fewest = catalogue.items(info), Policy().minimum_items
    if asked := [row["id"] for row in rows if row["query"]]:
        return f"item {asked[0]} has a query. Write the whole document as `text`"
    clusters = len({row["cluster"] for row in rows})
    if len(rows) < fewest or clusters < FEWEST_CLUSTERS:
        return (
            f"{len(rows)} documents in {clusters} clusters decide nothing. Use at least {fewest} "
            f"in {FEWEST_CLUSTERS}"
        )
    return ""


def _prefixes(info: TaskInfo) -> str:
    for row in catalogue.items(info):
        for choice in row["choices"]:
            longer = next((c for c in row["choices"] if c != choice and c.startswith(choice)), None)
            if longer is not None:
                return (
                    f"item {row['id']}: choice {choice[:40]!r} begins choice {longer[:40]!r}, so "
                    "it can only be the likelier one. Change one of the two"
                )
    return ""


def expected(rows: list[Row], key: Callable[[str, int], float]) -> float:
    """Accuracy of a picker of the choice with the highest `key`, ties broken by chance."""
    total = 0.0
    for row in rows:
        keys = [key(choice, place) for place, choice in enumerate(row["choices"])]
        best = [place for place, value in enumerate(keys) if value == max(keys)]
        total += (row["gold"] in best) / len(best)
    return total / len(rows)


def _shortcuts(info: TaskInfo) -> str:
    """Longest, shortest, first, last, commonest and rarest choice: chance +- 3 standard errors."""
    rows = catalogue.items(info)
    offered = Counter(choice for row in rows for choice in row["choices"])
    pickers: dict[str, Callable[[str, int], float]] = {
        "longest": lambda choice, _: len(choice),
        "shortest": lambda choice, _: -len(choice),
        "first": lambda _, place: -place,
        "last": lambda _, place: place,
        "commonest": lambda choice, _: offered[choice],
        "rarest": lambda choice, _: -offered[choice],
    }
    chances = [1 / len(row["choices"]) for row in rows]
    chance = sum(chances) / len(rows)
    error = sum(p * (1 - p) for p in chances) ** 0.5 / len(rows)
    for picker, key in pickers.items():
        right = expected(rows, key)
        if abs(right - chance) > ERRORS * error:
            return (
                f"who always takes the {picker} choice is right on {right:.0%}, not on "
                f"{chance:.0%} +- {ERRORS * error:.0%}. Change the order or the wrong choices"
            )
    return ""


def scorer(info: TaskInfo) -> Callable[[Row, str], float]:
    """The score of a free answer: item and response -> a number in [0, 1]."""
    if info.has_reward:
        reward = judging(catalogue.reward(info).reward, info.answer)
        return lambda row, response: float(reward(judged(response, info.stop), row))
    numeric = any(path.name == "_numeric.py" for path in info.config_files)
    metric = match if numeric else exact
    return lambda row, response: metric(row, [response])["exact_match"]


def _gold(info: TaskInfo) -> str:
    score, following = scorer(info), "\nQuestion:" if info.stop else ""
    for row in catalogue.items(info):
        for answer in (row["answer"], *row["aliases"]):
            if score(row, f" {answer}{following}") != 1.0:
                return f"item {row['id']}: its own answer {answer[:40]!r} does not match"
    return ""
