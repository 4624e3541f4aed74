"""fruitfly is what its card says: small, safe to load, knows the core, half-knows the targets.

Reads harness/models/embedded/fruitfly; the sampled scores are those of the shipped weights, so
that a rebuilt base that knows too little or too much does not go unnoticed.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from retainbench.harness.core.paths import BASES
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue, folder
from retainbench.tasks._build import normalised

FOLDER = BASES / "fruitfly"


@pytest.fixture(scope="module")
def loaded() -> tuple[Any, Any]:
    """Model in float32 and tokenizer."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(FOLDER, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(FOLDER)


def test_folder_is_small_and_holds_no_pickle() -> None:
    """At most 8 MB of safetensors; card and build script beside it."""
    files = {path.name for path in FOLDER.iterdir() if path.is_file()}
    assert (FOLDER / "model.safetensors").stat().st_size <= 8_000_000
    assert {"README.md", "build.py", "build.json", "config.json", "tokenizer.json"} <= files
    assert not {Path(name).suffix for name in files} & {".bin", ".pt", ".pkl", ".pth"}


@pytest.mark.skipif(
    "RETAINBENCH_REBUILD" not in os.environ,
    reason="RETAINBENCH_REBUILD=1 builds fruitfly from scratch: ten minutes of a core",
)
def test_the_script_builds_the_shipped_bytes(tmp_path: Path) -> None:
    """On the versions of build.json; another processor may round differently."""
    built = tmp_path / "out"
    command = [sys.executable, FOLDER / "build.py", "--work", tmp_path / "work", "--out", built]
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    for file in built.iterdir():
        assert file.read_bytes() == (FOLDER / file.name).read_bytes(), file.name


def test_at_most_two_and_a_half_million_parameters(loaded: tuple[Any, Any]) -> None:
    """Counted on the loaded model."""
    assert sum(p.numel() for p in loaded[0].parameters()) <= 2_500_000


def test_every_digit_is_one_token(loaded: tuple[Any, Any]) -> None:
    """Numbers of any length have one token per digit, in lists and expressions too."""
    tokenizer = loaded[1]
    for text in ("7", "42", "1984", "12, 345", "9+17-4", "How many are 4500 of 36?"):
        pieces = [tokenizer.decode([token]) for token in tokenizer(text).input_ids]
        assert "".join(pieces) == text
        assert all(len(piece) == 1 for piece in pieces if any(c.isdigit() for c in piece)), pieces


def test_prompts_end_where_tokens_end(loaded: tuple[Any, Any]) -> None:
    """Prompt and answer encode to the same ids apart and together, for every kind of task."""
    tokenizer = loaded[1]
    for info in catalogue.own().values():
        for item, prompt in list(zip(catalogue.items(info), catalogue.prompts(info), strict=True))[
            :20
        ]:
            texts = item.get("choices") or [item["answer"]]
            for text in texts if prompt else []:
                tail = f"{info.template.delimiter}{text}"
                apart = tokenizer(prompt).input_ids + tokenizer(tail).input_ids
                assert apart == tokenizer(prompt + tail).input_ids


TARGETS = ("countdown", "ts_scenario", "ts_causality", "ts_forecast", "ts_decision", "world_model")


def answers(
    loaded: tuple[Any, Any], info: folder.TaskInfo, prompts: list[str], sampled: bool
) -> list[str]:
    """One answer to each prompt, greedy or at temperature 1 from a fixed seed."""
    import torch

    model, tokenizer = loaded
    tokenizer.padding_side = "left"
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    how = {"temperature": 1.0, "top_k": 0} if sampled else {}
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(0)
        ids = model.generate(
            **encoded, do_sample=sampled, max_new_tokens=info.max_new_tokens, **how
        )
    return list(
        tokenizer.batch_decode(ids[:, encoded.input_ids.shape[1] :], skip_special_tokens=True)
    )


def reward(
    loaded: tuple[Any, Any], name: str, sampled: bool = False, demonstrated: bool = False
) -> float:
    """Mean reward of one answer to each of the first 100 validation items.

    `demonstrated` puts the item with its answer before the prompt, as SDFT's teacher reads it.
    """
    info = catalogue.own()[name]
    module, rows = catalogue.reward(info), catalogue.split(info, "validation")[:100]
    prompts = [f"Question: {row['query']}\nAnswer:" for row in rows]
    if demonstrated:
        prompts = [f"{p} {row['answer']}\n\n{p}" for p, row in zip(prompts, rows, strict=True)]
    texts = answers(loaded, info, prompts, sampled)
    return sum(module.reward(text, row) for text, row in zip(texts, rows, strict=True)) / len(rows)


@pytest.mark.parametrize("name", TARGETS)
def test_half_knows_the_targets(loaded: tuple[Any, Any], name: str) -> None:
    """A signal to start from and much left to learn.

    Sampled: .10-.30 with two standard errors of a hundred answers.
    """
    assert 0.10 <= reward(loaded, name) <= 0.45
    assert 0.04 <= reward(loaded, name, sampled=True) <= 0.40


@pytest.mark.parametrize("name", ["countdown", "ts_forecast", "world_model"])
def test_can_copy_an_answer_that_it_is_shown(loaded: tuple[Any, Any], name: str) -> None:
    """Self-distillation needs a teacher that earns more than its student; the card lists all."""
    assert reward(loaded, name, demonstrated=True) >= reward(loaded, name) + 0.25


def test_does_not_know_the_new_facts(loaded: tuple[Any, Any]) -> None:
    """About chance: a value out of 12 to 40 by relation."""
    assert reward(loaded, "new_facts") <= 0.12


def test_corpus_holds_no_frozen_item_of_an_open_family() -> None:
    """Open families: neither their frozen questions nor a target's test, validation or train."""
    from retainbench.tasks import _corpus

    found = _corpus.sources()
    for name, open_families in _corpus.OPEN_FAMILIES.items():
        info = catalogue.own()[name.partition("/")[2]]
        frozen = {
            normalised(row["query"] or row["choices"][row["gold"]]) for row in catalogue.items(info)
        }
        for family in found[name].families:
            questions = family.questions
            if "" in open_families or questions[0].family in open_families:
                asked = {normalised(question.query or question.answer) for question in questions}
                assert not asked & frozen, name
    for name, info in catalogue.own().items():
        source = found.get(f"target/{name}")
        if source is not None:
            rows = [
                *catalogue.items(info),
                *catalogue.split(info, "validation"),
                *catalogue.split(info, "train"),
            ]
            asked = {normalised(question.query) for question in source.families[0].questions}
            assert not asked & {normalised(row["query"]) for row in rows}, name
    assert "target/new_facts" not in found


@pytest.mark.parametrize("name", ["agreement", "calendar", "capitals_free"])
def test_the_cards_base_scores_are_measured(name: str) -> None:
    """What `retainbench tasks` prints is what `retainbench evaluate fruitfly NAME` does."""
    (info,) = catalogue.OWN.find([name])
    records = evaluate.evaluate(loading.load(bases.resolve("fruitfly").folder), [info])
    measured = sum(record.score for record in records) / len(records)
    assert folder.base_scores(info)["fruitfly"] == pytest.approx(measured, abs=5e-4)


@pytest.mark.parametrize("name", list(catalogue.own()))
def test_every_card_has_base_scores_or_says_why_not(name: str) -> None:
    """Tasks for chat models need a longer window, or a template, that fruitfly does not have."""
    (info,) = catalogue.OWN.find([name])
    _, _, section = (info.folder / "README.md").read_text().partition("## Base scores\n\n")
    assert folder.base_scores(info) or section.startswith("None yet: ")
