"""Chemical elements: name, symbol and atomic number.

`python tasks/general/elements/build.py` writes items.jsonl from facts.jsonl (a tracked table);
`--facts` renews that table from the package mendeleev.
"""

import json
import sys
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, cycle, draw, freeze_choices, read_jsonl

FACTS = Path(__file__).resolve().parent / "facts.jsonl"


def write_facts() -> None:
    """facts.jsonl: atomic number, symbol, name of the elements up to uranium."""
    from mendeleev import element

    rows = []
    for number in range(1, 93):
        entry = element(number)
        rows.append({"number": number, "symbol": entry.symbol, "name": entry.name.lower()})
    FACTS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def facts() -> list[dict[str, str]]:
    """Rows of facts.jsonl, all values as text."""
    return [{key: str(value) for key, value in row.items()} for row in read_jsonl(FACTS)]


def pool(rng: Random) -> list[Question]:
    """Symbol and number of a name, and back; distractors from the whole table."""
    rows = facts()
    names = cycle([row["name"] for row in rows], rng)
    symbols = cycle([row["symbol"] for row in rows], rng)
    numbers = cycle([row["number"] for row in rows], rng)
    questions = []
    for row in rows:
        name, symbol, number = row["name"], row["symbol"], row["number"]
        told = (
            f"The element {name} has the symbol {symbol}.",
            f"{symbol} is the symbol of {name}, element number {number}.",
        )
        asked = (
            (f"What is the chemical symbol of {name}?", symbol, symbols[symbol], "symbol"),
            (f"Which chemical element has the symbol {symbol}?", name, names[name], "name"),
            (f"What is the atomic number of {name}?", number, numbers[number], "number"),
            (f"Which chemical element has the number {number}?", name, names[name], "element"),
        )
        questions += [Question(*parts, told, unit=name) for parts in asked]
    return questions


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("elements")), 320, Random("elements:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    if "--facts" in sys.argv:
        write_facts()
    write_to(Path(__file__).resolve().parent)
