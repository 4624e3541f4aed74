"""Writing by rules: a short text about a topic that keeps rules which a program can check.

`python tasks/instructions/writing_rules/build.py` writes items.jsonl. An item has one rule that
belongs to its topic and one or two about form, so that no one text keeps the rules of many items.
The answer of an item is a plain text that keeps them all, to show that this can be done.
"""

import json
from pathlib import Path
from random import Random
from typing import NamedTuple

from retainbench.tasks._build import Question, item_id, listed, write_jsonl
from retainbench.tasks.instructions.writing_rules.reward import reward

ITEMS = 200
TOPICS = listed("""harbour bakery glacier orchestra lighthouse garden railway library desert market
    bridge forest museum island castle volcano river theatre airport school kitchen mountain village
    stadium beach farm hospital station tower canal meadow workshop vineyard factory observatory
    aquarium quarry monastery lagoon orchard""")
COMPANIONS = listed("""morning silence bread winter music stone travel colour patience memory wind
    light water family history evening""")


class WritingRule(NamedTuple):
    """One rule, how it is asked for, and how a text is changed to keep it."""

    kind: str
    asked: str
    text: str = ""
    number: int = 0

    def row(self) -> dict[str, object]:
        """The rule as an item has it."""
        return {"kind": self.kind, "text": self.text, "number": self.number}


def of_topic(rng: Random, topic: str) -> WritingRule:
    """A rule that only texts about the topic keep."""
    last, often = f"{rng.choice(COMPANIONS)} at the {topic}", rng.randint(2, 4)
    return rng.choice(
        [
            WritingRule("keyword", f'Use the word "{topic}" at least {often} times.', topic, often),
            WritingRule("ending", f'End with the words "{last}".', last),
            WritingRule("first_word", f'Begin with the word "{topic}".', topic),
            WritingRule("json_key", f'Write it as a JSON object with the key "{topic}".', topic),
        ]
    )


def of_form(rng: Random) -> WritingRule:
    """A rule about form."""
    word, few = rng.choice(["very", "beautiful", "place", "people"]), rng.randint(2, 4)
    many, most = rng.randint(20, 40), rng.randint(15, 30)
    apart = "with an empty line between them"
    return rng.choice(
        [
            WritingRule("at_least", f"Write at least {many} words.", number=many),
            WritingRule("at_most", f"Write at most {most} words.", number=most),
            WritingRule("forbidden", f'Do not use the word "{word}".', word),
            WritingRule("lower_case", "Use lower-case letters only."),
            WritingRule("capitals", "Use capital letters only."),
            WritingRule("no_comma", "Do not use any comma."),
            WritingRule("bullets", f'Use exactly {few} lines that begin with "- ".', number=few),
            WritingRule("paragraphs", f"Write exactly {few} paragraphs {apart}.", number=few),
            WritingRule("quoted", "Put the whole answer in double quotation marks."),
            WritingRule("title", "Give it a title in double angular brackets, such as <<title>>."),
        ]
    )


def kept(text: str, rules: list[WritingRule]) -> bool:
    """Whether the task's own reward finds that a text keeps the rules."""
    return reward(text, {"rules": [rule.row() for rule in rules]}) == 1.0


def example(topic: str, rules: list[WritingRule]) -> str:
    """A text that keeps the rules, if they go together."""
    by_kind = {rule.kind: rule for rule in rules}
    count = max((by_kind[k].number for k in ("bullets", "paragraphs") if k in by_kind), default=1)
    sentences = [f"{topic} next to {topic}"] * count
    if "keyword" in by_kind:
        sentences[-1] += (
            f", {topic} after {topic}" if "no_comma" not in by_kind else f" {topic} {topic}"
        )
    if "at_least" in by_kind:
        sentences[-1] += " and so on" * (by_kind["at_least"].number // 3)
    if "ending" in by_kind:
        sentences[-1] += f" {by_kind['ending'].text}"
    marked = [f"- {sentence}" for sentence in sentences] if "bullets" in by_kind else sentences
    text = ("\n\n" if "paragraphs" in by_kind else "\n").join(marked)
    if "title" in by_kind:
        text = f"<<{topic}>>\n{text}"
    if "json_key" in by_kind:
        text = json.dumps({topic: text})
    if "quoted" in by_kind:
        text = f'"{text}"'
    return text.upper() if "capitals" in by_kind else text


def rows() -> list[dict[str, object]]:
    """The items: every topic equally often, rules drawn until they go together."""
    rng = Random("writing_rules")
    made: dict[str, dict[str, object]] = {}
    while len(made) < ITEMS:
        topic = TOPICS[len(made) % len(TOPICS)]
        rules = [of_topic(rng, topic), *(of_form(rng) for _ in range(rng.randint(1, 2)))]
        text = example(topic, rules)
        if len({rule.kind for rule in rules}) < len(rules) or not kept(text, rules):
            continue
        query = f"Write a short text about a {topic}. " + " ".join(rule.asked for rule in rules)
        identity = item_id("writing_rules", Question(query, "", (), topic))
        row: dict[str, object] = {"id": identity, "query": query, "answer": text, "aliases": []}
        made.setdefault(query, row | {"cluster": topic, "rules": [rule.row() for rule in rules]})
    return list(made.values())


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    write_jsonl(folder / "items.jsonl", rows())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
