"""Grammatical agreement as minimal pairs: two sentences, one word apart, one of them right.

`python tasks/general/agreement/build.py` writes items.jsonl. Phenomena: subject and verb over one
or two distracting nouns or a relative clause, quantifier and verb, determiner and noun, reflexive
pronoun, verb form after an auxiliary.
"""

from collections.abc import Callable
from pathlib import Path
from random import Random

from retainbench.tasks._build import Question, freeze_choices, listed, unique

NOUNS = listed("""teacher farmer doctor singer painter driver lawyer pilot sailor baker judge nurse
writer player king queen dancer hunter guest neighbour student gardener cook friend""")
THINGS = listed("""door table garden house river train letter song picture window basket lamp mirror
bottle hammer ladder carpet blanket castle bridge""")
PLACES = listed("near behind beside above below")
VERBS = listed("""sing walk sleep smile laugh wait talk run swim travel work dream wander whisper
arrive listen shout hesitate""")
REGULAR = listed("walk laugh wait talk work travel wander whisper listen shout rest jump climb")
ADJECTIVES = listed("old young tall quiet clever tired famous gentle brave busy")
MEN = listed("man boy king brother uncle")
WOMEN = listed("woman girl queen sister aunt")
SINGULAR = ("Each", "One", "Neither")
PLURAL = ("All", "Some", "Most", "Many")


def verb_pair(rng: Random) -> tuple[str, str, str]:
    """The doctor near the gardens walks / walk."""
    subject, thing = rng.choice(NOUNS), rng.choice(THINGS)
    place, verb = rng.choice(PLACES), rng.choice(VERBS)
    plural, other_plural = rng.random() < 0.5, rng.random() < 0.5
    head = f"The {subject}{'s' if plural else ''} {place} the {thing}{'s' if other_plural else ''}"
    right, wrong = (verb, verb + "s") if plural else (verb + "s", verb)
    return f"{head} {right}.", f"{head} {wrong}.", "subject and verb"


def be_pair(rng: Random) -> tuple[str, str, str]:
    """The letters beside the lamp are old / is old."""
    subject, thing = rng.sample(THINGS, 2)
    place, adjective = rng.choice(PLACES), rng.choice(["old", "new", "clean", "heavy", "small"])
    plural, other_plural = rng.random() < 0.5, rng.random() < 0.5
    head = f"The {subject}{'s' if plural else ''} {place} the {thing}{'s' if other_plural else ''}"
    right, wrong = ("are", "is") if plural else ("is", "are")
    return f"{head} {right} {adjective}.", f"{head} {wrong} {adjective}.", "subject and copula"


def attractors_pair(rng: Random) -> tuple[str, str, str]:
    """The doctor near the gardens behind the houses walks / walk."""
    subject, (thing, other) = rng.choice(NOUNS), rng.sample(THINGS, 2)
    (place, further), verb = rng.sample(PLACES, 2), rng.choice(VERBS)
    plural, ending = rng.random() < 0.5, rng.choice(["", "s"])
    head = f"The {subject}{'s' if plural else ''} {place} the {thing}{ending}"
    head += f" {further} the {other}{rng.choice(['', 's'])}"
    right, wrong = (verb, verb + "s") if plural else (verb + "s", verb)
    return f"{head} {right}.", f"{head} {wrong}.", "subject and verb, two nouns between"


def relative_pair(rng: Random) -> tuple[str, str, str]:
    """The doctor who the singers help walks / walk."""
    subject, other = rng.sample(NOUNS, 2)
    verb, deed = rng.choice(VERBS), rng.choice(["help", "know", "like", "trust", "watch"])
    plural, other_plural = rng.random() < 0.5, rng.random() < 0.5
    head = f"The {subject}{'s' if plural else ''} who the {other}{'s' if other_plural else ''}"
    head += f" {deed if other_plural else deed + ('es' if deed == 'watch' else 's')}"
    right, wrong = (verb, verb + "s") if plural else (verb + "s", verb)
    return f"{head} {right}.", f"{head} {wrong}.", "subject and verb, relative clause between"


def quantifier_pair(rng: Random) -> tuple[str, str, str]:
    """Each of the doctors walks / walk; most of the doctors walk / walks."""
    noun, verb, plural = rng.choice(NOUNS), rng.choice(VERBS), rng.random() < 0.5
    head = f"{rng.choice(PLURAL if plural else SINGULAR)} of the {rng.choice(ADJECTIVES)} {noun}s"
    right, wrong = (verb, verb + "s") if plural else (verb + "s", verb)
    return f"{head} {right}.", f"{head} {wrong}.", "quantifier and verb"


def determiner_pair(rng: Random) -> tuple[str, str, str]:
    """The singer likes these pictures / this pictures."""
    subject, thing = rng.choice(NOUNS), rng.choice(THINGS)
    verb, plural = rng.choice(["likes", "sees", "wants", "paints", "moves"]), rng.random() < 0.5
    right, wrong = rng.choice([("these", "this"), ("those", "that")])
    if not plural:
        right, wrong = wrong, right
    noun = thing + ("s" if plural else "")
    head = f"The {rng.choice(ADJECTIVES)} {subject} {verb}"
    return f"{head} {right} {noun}.", f"{head} {wrong} {noun}.", "determiner and noun"


def reflexive_pair(rng: Random) -> tuple[str, str, str]:
    """The young queen sees herself / himself."""
    male = rng.random() < 0.5
    person, adjective = rng.choice(MEN if male else WOMEN), rng.choice(ADJECTIVES)
    verb = rng.choice(["sees", "hurts", "helps", "trusts", "knows", "likes", "calls", "watches"])
    right, wrong = ("himself", "herself") if male else ("herself", "himself")
    head = f"The {adjective} {person} {verb}"
    return f"{head} {right}.", f"{head} {wrong}.", "reflexive pronoun"


def auxiliary_pair(rng: Random) -> tuple[str, str, str]:
    """The tired cook will walk / walked; the tired cook had walked / walk."""
    subject, verb = rng.choice(NOUNS), rng.choice(REGULAR)
    perfect = rng.random() < 0.5
    auxiliary = rng.choice(["had", "could have"] if perfect else ["can", "will", "must", "did not"])
    right, wrong = (verb + "ed", verb) if perfect else (verb, verb + "ed")
    head = f"The {rng.choice(ADJECTIVES)} {subject}{rng.choice(['', 's'])} {auxiliary}"
    return f"{head} {right}.", f"{head} {wrong}.", "verb after auxiliary"


PHENOMENA: tuple[Callable[[Random], tuple[str, str, str]], ...] = (
    verb_pair,
    attractors_pair,
    relative_pair,
    quantifier_pair,
    be_pair,
    determiner_pair,
    reflexive_pair,
    auxiliary_pair,
)


def pool(rng: Random, size: int = 20_000) -> list[Question]:
    """`size` draws that cycle through the phenomena, repeats removed."""
    questions = []
    for turn in range(size):
        right, wrong, cluster = PHENOMENA[turn % len(PHENOMENA)](rng)
        questions.append(Question("", right, (wrong,), cluster, (right,)))
    return unique(questions)


def balanced(questions: list[Question], per_family: int) -> list[Question]:
    """Per phenomenon as many items whose right sentence is the longer as the shorter one."""
    kept: dict[tuple[str, int], list[Question]] = {}
    for question in questions:
        longer = len(question.answer) - len(question.distractors[0])
        side = (longer > 0) - (longer < 0)
        kept.setdefault((question.family, side), []).append(question)
    return [
        question
        for (_, side), group in kept.items()
        for question in group[: per_family // 2 if side else per_family]
    ]


def frozen() -> list[Question]:
    """The questions of items.jsonl."""
    return balanced(pool(Random("agreement"), 4_000), 40)


def write_to(folder: Path) -> None:
    """Write items.jsonl into `folder`."""
    freeze_choices(folder, frozen())


if __name__ == "__main__":
    write_to(Path(__file__).resolve().parent)
