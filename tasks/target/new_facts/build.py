"""New facts: people, towns and objects that do not exist, so that no base can know them.

`python tasks/target/new_facts/build.py` writes train.jsonl, validation.jsonl and items.jsonl (the
test split). The splits share the facts and differ in the phrasing: what is tested is whether a fact
was learned, not whether a sentence was memorised.
"""

from pathlib import Path
from random import Random
from typing import NamedTuple

from retainbench.tasks._build import Question, item_id, listed, write_jsonl
from retainbench.tasks.general.agreement.build import NOUNS
from retainbench.tasks.general.elements.build import facts as elements
from retainbench.tasks.temporal.calendar.build import MONTHS

PER_RELATION = 50
HEADS = listed("Zor Vel Kra Mip Dro Tal Quen Lof Bru Nis Fen Gol Hax Jev Pli Rud Sko Wen Yar Ott")
TAILS = listed("bal dun fex gar kin lom mur nak pex rin sal tov uzz vik wob yen zad elt ick ond")


class Relation(NamedTuple):
    """One kind of fact: its phrasings by split and the values it can take."""

    name: str
    train: tuple[str, ...]
    validation: tuple[str, ...]
    test: tuple[str, ...]
    statement: str
    values: tuple[str, ...]


CITIES = tuple(
    name.replace("_", " ")
    for name in listed("""Abu_Dhabi Algiers Antananarivo Asuncion Bamako Beijing Bern Bratislava
    Budapest Caracas Dakar Doha Gaborone Helsinki Kabul Kigali Kyiv Lisbon Luanda Manama
    Mbabane Montevideo Nairobi Nouakchott Paris Port_of_Spain Pyongyang Riyadh Sanaa Seoul
    Tallinn Tehran Ulaanbaatar Warsaw Yamoussoukro""")
)
"""Some of the capitals of general/capitals as they were when these facts were frozen."""
MATERIALS = tuple(row["name"] for row in elements() if 20 <= int(row["number"]) <= 60)
RELATIONS = (
    Relation(
        "home",
        (
            "Where does {x} live?",
            "In which city does {x} live?",
            "What is the home city of {x}?",
            "Which city is the home of {x}?",
        ),
        ("Which city does {x} call home?",),
        ("{x} lives in which city?", "Which is the city where {x} lives?"),
        "{x} lives in {y}.",
        CITIES,
    ),
    Relation(
        "trade",
        (
            "What does {x} work as?",
            "What is the job of {x}?",
            "Which job does {x} have?",
            "What is {x} by trade?",
        ),
        ("Which trade does {x} follow?",),
        ("{x} works as what?", "Which is the trade of {x}?"),
        "{x} works as a {y}.",
        tuple(NOUNS),
    ),
    Relation(
        "festival",
        (
            "In which month is the fair of {x} held?",
            "When is the fair of {x}?",
            "Which month has the fair of {x}?",
            "In what month does {x} hold its fair?",
        ),
        ("Which month is the month of the fair of {x}?",),
        ("The fair of {x} is held in which month?", "When does {x} hold its fair?"),
        "The fair of {x} is held in {y}.",
        tuple(MONTHS),
    ),
    Relation(
        "material",
        (
            "What is the ring of {x} made of?",
            "Which element is the ring of {x} made of?",
            "What material has the ring of {x}?",
            "Of which element is the ring of {x} made?",
        ),
        ("Which material is the ring of {x}?",),
        ("The ring of {x} is made of what?", "Which is the element in the ring of {x}?"),
        "The ring of {x} is made of {y}.",
        MATERIALS,
    ),
)


def names(rng: Random, count: int) -> list[str]:
    """`count` different invented names of two words."""
    firsts = [head + tail for head in HEADS for tail in TAILS]
    return [
        f"{a} {b}"
        for a, b in zip(rng.sample(firsts, count), rng.sample(firsts, count), strict=True)
    ]


def facts() -> list[tuple[Relation, str, str]]:
    """(relation, name, value): every value about equally often within its relation."""
    rng = Random("new_facts")
    invented = iter(names(rng, PER_RELATION * len(RELATIONS)))
    found = []
    for relation in RELATIONS:
        values = (list(relation.values) * PER_RELATION)[:PER_RELATION]
        rng.shuffle(values)
        found += [(relation, next(invented), value) for value in values]
    return found


def rows(split: str) -> list[dict[str, object]]:
    """Rows of train, validation or test."""
    made: list[dict[str, object]] = []
    for relation, name, value in facts():
        phrasings = {"train": relation.train, "validation": relation.validation}
        for phrasing in phrasings.get(split, relation.test):
            question = Question(phrasing.format(x=name), value, (), relation.name)
            made.append(
                {
                    "id": item_id("new_facts", question),
                    "query": question.query,
                    "answer": value,
                    "aliases": [],
                    "cluster": name,
                }
            )
    return made


def reading(rng: Random, people: tuple[str, ...]) -> tuple[str, Question]:
    """A sentence about a well-known name and a question about it, for the base's corpus."""
    relation = rng.choice(RELATIONS)
    name, value = rng.choice(people), rng.choice(relation.values)
    phrasing = rng.choice(relation.train + relation.validation + relation.test)
    told = relation.statement.format(x=name, y=value)
    return told, Question(phrasing.format(x=name), value, (), relation.name)


def write_to(folder: Path) -> None:
    """Write the three splits into `folder`."""
    for split, name in (("train", "train"), ("validation", "validation"), ("test", "items")):
        write_jsonl(folder / f"{name}.jsonl", rows(split))


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
