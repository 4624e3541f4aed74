"""Facts about countries in one word: a chat model knows many of them and answers in sentences.

`python tasks/target/countries_brief/build.py` writes train.jsonl, validation.jsonl and items.jsonl
(the test split) from the table of general/capitals. Only names of one word are asked for. The
splits share no country; a training country is asked about in several phrasings.
"""

from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, item_id, write_jsonl
from retainbench.tasks.general.capitals.build import facts

PHRASINGS = {
    "capital": (
        "What is the capital of {country}?",
        "Which city is the capital of {country}?",
        "Name the capital of {country}.",
    ),
    "country": (
        "Which country has the capital {capital}?",
        "Of which country is {capital} the capital?",
        "{capital} is the capital of which country?",
    ),
    "continent": (
        "On which continent is {country}?",
        "Which continent is {country} on?",
        "{country} is on which continent?",
    ),
}
"""What is asked for -> phrasings; the first one is that of the test and validation items."""
COUNTRIES = {"test": 80, "validation": 20}
"""The other countries are for training."""


def countries(split: str) -> list[dict[str, str]]:
    """Rows of the table that belong to a split."""
    rows = facts()
    Random("countries_brief").shuffle(rows)
    test, validation = COUNTRIES["test"], COUNTRIES["test"] + COUNTRIES["validation"]
    parts = {"test": rows[:test], "validation": rows[test:validation], "train": rows[validation:]}
    return parts[split]


def rows(split: str) -> list[dict[str, object]]:
    """Items of train, validation or test."""
    made: list[dict[str, object]] = []
    for row in countries(split):
        for asked, phrasings in PHRASINGS.items():
            if " " in row[asked]:
                continue
            for phrasing in phrasings if split == "train" else phrasings[:1]:
                question = Question(phrasing.format(**row), row[asked], (), asked)
                identity = item_id("countries_brief", question)
                made.append(
                    {"id": identity, "query": question.query, "answer": row[asked]}
                    | {"aliases": [], "cluster": row["country"]}
                )
    return made


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    for split, name in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{name}.jsonl", rows(split))


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
