"""Number sequences: say the next term of a progression.

`python tasks/numeric/sequences/build.py` writes items.jsonl. Families: arithmetic up and down,
geometric, two alternating steps, growing steps.
"""

from dataclasses import replace
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, cycle, draw, freeze_choices, ladder, unique

SHOTS = (
    ("What number comes next in 2, 4, 6, 8?", "10"),
    ("What number comes next in 50, 45, 40, 35?", "30"),
    ("What number comes next in 1, 4, 6, 9?", "11"),
    ("What number comes next in 7, 8, 10, 13?", "17"),
    ("What number comes next in 30, 40, 50, 60?", "70"),
)


def terms(rng: Random, family: str) -> list[int]:
    """Five terms of a random member of `family`; the last is the one asked for."""
    start, step, other = rng.randint(1, 40), rng.randint(2, 12), rng.randint(1, 9)
    if family == "up":
        return [start + step * i for i in range(5)]
    if family == "down":
        return [start + 8 + step * (5 - i) for i in range(5)]
    if family == "geometric":
        first = rng.randint(1, 12)
        return [first * 2**i for i in range(5)]
    if family == "alternating":
        return [start + step * ((i + 1) // 2) + other * (i // 2) for i in range(5)]
    return [start + other * i + i * (i + 1) // 2 for i in range(5)]


FAMILIES = ("up", "down", "alternating", "growing", "geometric")


def question(rng: Random, family: str) -> Question:
    """One sequence with a ladder of distractors around its next term."""
    *shown, gold = terms(rng, family)
    steps = [step for step, least in ((1, 3), (2, 6), (5, 25)) if gold >= least]
    text = ", ".join(str(term) for term in shown)
    choices = tuple(str(wrong) for wrong in ladder(rng, gold, rng.choice(steps)))
    told = (f"The sequence {text} goes on with {gold}.",)
    return Question(f"What number comes next in {text}?", str(gold), choices, family, told)


def pool(rng: Random, size: int = 20_000) -> list[Question]:
    """`size` draws that cycle through the families, repeats removed."""
    return unique(question(rng, FAMILIES[turn % len(FAMILIES)]) for turn in range(size))


def reserved() -> list[Question]:
    """Questions that the corpus of the embedded base leaves out; the items are some of them."""
    rng = Random("sequences")
    questions = pool(rng, 4_000)
    sizes = {"up": 80, "down": 80, "alternating": 90, "growing": 90, "geometric": 8}
    return [
        q
        for family, count in sizes.items()
        for q in draw([p for p in questions if p.family == family], count, rng)
    ]


def frozen() -> list[Question]:
    """The questions of items.jsonl, fewer of the falling ones, which small models find hardest.

    Distractors are other items' answers, all offered equally often: close ones on a ladder left
    SmolLM2-135M below chance.
    """
    kept = [q for q in reserved() if q.family != "down"]
    kept += [q for q in reserved() if q.family == "down"][:40]
    wrong = cycle([q.answer for q in kept], Random("sequences:distractors:2"))
    return [replace(q, distractors=wrong[q.answer]) for q in kept]


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
