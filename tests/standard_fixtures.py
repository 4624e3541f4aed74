"""Datasets of `suites/standard.yaml` with invented rows, in the columns that lm-eval reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml
from hub_fixtures import Repository, jsonl

from retainbench.harness.core.schema import Source
from retainbench.harness.suites.lock import is_commit

NOW = "f" * 40
"""The commit at which every branch is."""
N = 4
ALL = ("train", "validation", "test")
SUBJECTS = (
    "biology", "business", "chemistry", "computer science", "economics", "engineering", "health",
    "history", "law", "math", "other", "philosophy", "physics", "psychology",
)  # fmt: skip
Rows = list[dict[str, Any]]


def letters(n: int, count: int) -> dict[str, list[str]]:
    return {"text": [f"{n}{i}" for i in range(count)], "label": list("ABCDE"[:count])}


def arc(n: int) -> dict[str, Any]:
    return {"id": f"{n}", "question": f"{n}?", "choices": letters(n, 4), "answerKey": "B"}


def openbook(n: int) -> dict[str, Any]:
    return {"question_stem": f"{n} is", "choices": letters(n, 4), "answerKey": "C"}


def commonsense(n: int) -> dict[str, Any]:
    return {"question": f"{n}?", "choices": letters(n, 5), "answerKey": "E"}


def hellaswag(n: int) -> dict[str, Any]:
    ends = [f"goes {n}{i}." for i in range(4)]
    return {
        "activity_label": "Walking", "ctx_a": f"{n} people", "ctx_b": "one", "endings": ends,
        "label": f"{n % 4}",
    }  # fmt: skip


def piqa(n: int) -> dict[str, Any]:
    return {"goal": f"Make {n}", "sol1": f"Add {n}.", "sol2": "Wait.", "label": n % 2}


def winogrande(n: int) -> dict[str, Any]:
    names = {"option1": "Ann", "option2": "Bob"}
    return {"sentence": f"{n} birds saw that _ was there.", "answer": "2", **names}


def truthful(n: int) -> dict[str, Any]:
    made = {"choices": [f"Yes {n}.", "No.", "Maybe."], "labels": [1, 1, 0]}
    return {"question": f"Is it {n}?", "mc1_targets": made, "mc2_targets": made}


def lambada(n: int) -> dict[str, Any]:
    return {"text": f"After {n} days they came home"}


def mmlu(n: int) -> dict[str, Any]:
    return {"question": f"{n}?", "choices": ["1", "2", "3", "4"], "answer": n % 4}


def mmlu_pro(subject: str, n: int) -> dict[str, Any]:
    return {
        "question": f"{n}?", "options": [f"{n}", "-"], "answer": "A", "category": subject,
        "cot_content": "A: Let's think step by step. The answer is (A).",
    }  # fmt: skip


def ifeval(n: int) -> dict[str, Any]:
    wanted = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{"num_words": None}]}
    return {"key": n, "prompt": f"Write {n} words without a comma.", **wanted}


def gsm(n: int) -> dict[str, Any]:
    return {"question": f"{n} and {n} owls?", "answer": f"Add.\n#### {2 * n}"}


def asdiv(n: int) -> dict[str, Any]:
    return {"body": f"{n} owls came.", "question": "How many?", "answer": f"{n} (owls)"}


def arithmetic(n: int) -> dict[str, Any]:
    return {"context": f"Q: What is {n} plus {n}?\n\nA:", "completion": f" {2 * n}"}


def math(n: int) -> dict[str, Any]:
    return {"problem": f"${n}+{n}$?", "solution": rf"It is $\boxed{{{2 * n}}}$."}


def agieval(n: int) -> dict[str, Any]:
    return {"query": f"{n}? A:", "choices": [f"(A){n}", "(B)no", "(C)-"], "gold": [n % 3]}


def taco(n: int) -> dict[str, Any]:
    asked = {"sentence": f"Story {n // 2}.", "question": "How long?", "answer": f"{n} days"}
    return asked | {"label": n % 2}


def bbh(n: int) -> dict[str, Any]:
    return {"input": f"Day {n}?\nOptions:\n(A) 1\n(B) 2", "target": "(B)"}


def bigbench(n: int) -> dict[str, Any]:
    return {
        "inputs": f"Q: {n}? A:", "targets": [f"{n}"], "multiple_choice_targets": [f"{n}", "no"],
        "multiple_choice_scores": [1, 0],
    }  # fmt: skip


def rows(make: Any) -> Rows:
    return [make(n) for n in range(1, N + 1)]


def every(of: Rows, *splits: str) -> dict[str, Rows]:
    return dict.fromkeys(splits, of)


def files(configs: Iterable[str], splits: Mapping[str, Rows]) -> dict[str, bytes]:
    """Every configuration has the same splits."""
    listed = [
        {"config_name": name, "data_files": [{"split": s, "path": f"{s}.jsonl"} for s in splits]}
        for name in configs
    ]
    card = f"---\n{yaml.safe_dump({'configs': listed})}---\n"
    return {"README.md": card.encode()} | {f"{s}.jsonl": jsonl(*r) for s, r in splits.items()}


def contents(subjects: Iterable[str]) -> dict[str, dict[str, bytes]]:
    """Files by dataset; `subjects` are mmlu's."""
    one = ("default",)
    pro = [mmlu_pro(subject, n) for subject in SUBJECTS for n in range(5)]
    digits = {"two": 2, "three": 3, "four": 4, "five": 5}
    big = ("date_understanding", "temporal_sequences", "timedial")
    return {
        "Rowan/hellaswag": files(one, every(rows(hellaswag), *ALL[:2])),
        "allenai/ai2_arc": files(("ARC-Easy", "ARC-Challenge"), every(rows(arc), *ALL)),
        "baber/piqa": files(one, every(rows(piqa), *ALL[:2])),
        "allenai/winogrande": files(("winogrande_xl",), every(rows(winogrande), *ALL[:2])),
        "allenai/openbookqa": files(("main",), every(rows(openbook), *ALL)),
        "tau/commonsense_qa": files(one, every(rows(commonsense), *ALL[:2])),
        "truthfulqa/truthful_qa": files(("multiple_choice",), every(rows(truthful), "validation")),
        "EleutherAI/lambada_openai": files(one, every(rows(lambada), "test")),
        "cais/mmlu": files(subjects, every(rows(mmlu), "test", "dev")),
        "TIGER-Lab/MMLU-Pro": files(one, every(pro, "test", "validation")),
        "google/IFEval": files(one, every(rows(ifeval), "train")),
        "openai/gsm8k": files(("main",), every(rows(gsm) * 3, "train", "test")),
        "madrylab/gsm8k-platinum": files(("main",), every(rows(gsm) * 3, "test")),
        "EleutherAI/asdiv": files(one, every(rows(asdiv), "validation")),
        "EleutherAI/arithmetic": {
            f"data/{word}_digit_addition.jsonl": jsonl(*rows(arithmetic)) for word in digits
        },
        "HuggingFaceH4/MATH-500": files(one, every(rows(math), "test")),
        "hails/agieval-aqua-rat": files(one, every(rows(agieval), "test")),
        "hails/agieval-sat-math": files(one, every(rows(agieval), "test")),
        "CogComp/mc_taco": files(one, every(rows(taco), "validation", "test")),
        "SaylorTwift/bbh": files(big[:2], every(rows(bbh), "test")),
        "hails/bigbench": files(
            [f"{name}_zero_shot" for name in big], every(rows(bigbench), "default")
        ),
    }


def datasets(sources: Mapping[str, Source], subjects: Iterable[str]) -> dict[str, Repository]:
    """Repositories that have every commit which the suite pins, and branches at `NOW`."""
    commits = {source.revision for source in sources.values() if is_commit(source.revision)}
    made = {}
    for name, content in contents(subjects).items():
        at = dict.fromkeys([*commits, NOW], content)
        made[name] = Repository(at, main=NOW, refs_convert_parquet=NOW)
    return made
