"""fruitfly is what its card says: small, safe to load, knows the core, half-knows the targets.

Reads harness/models/embedded/fruitfly; the sampled scores are those of the shipped weights, so
that a rebuilt base that knows too little or too much does not go unnoticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from retainbench.harness.core.paths import BASES
from retainbench.harness.models import bases, loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue, folder
from retainbench.tasks._build import normalised

FOLDER = BASES / "fruitfly"
CORE = ("capitals", "elements", "agreement", "sequences", "quantities", "dates")


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


def test_at_most_four_million_parameters(loaded: tuple[Any, Any]) -> None:
    """Counted on the loaded model."""
    assert sum(p.numel() for p in loaded[0].parameters()) <= 4_000_000


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


def choice_accuracy(loaded: tuple[Any, Any], name: str, count: int) -> float:
    """Share of the first `count` items whose gold choice has the highest log-likelihood."""
    import torch

    model, tokenizer = loaded
    info = catalogue.own()[name]
    rows = list(zip(catalogue.items(info), catalogue.prompts(info), strict=True))[:count]
    right = 0
    for item, prompt in rows:
        head = tokenizer(prompt or tokenizer.eos_token).input_ids
        tails = [
            tokenizer(info.template.delimiter + choice).input_ids for choice in item["choices"]
        ]
        width = max(map(len, tails))
        ids = torch.tensor([[*head, *tail, *[1] * (width - len(tail))] for tail in tails])
        with torch.inference_mode():
            logp = model(input_ids=ids).logits[:, len(head) - 1 :].log_softmax(-1)
        scores = [
            sum(float(logp[row, place, token]) for place, token in enumerate(tail))
            for row, tail in enumerate(tails)
        ]
        right += scores.index(max(scores)) == item["gold"]
    return right / len(rows)


@pytest.mark.parametrize("name", CORE)
def test_knows_the_core(loaded: tuple[Any, Any], name: str) -> None:
    """At least 0.85 on 20 items; on the whole tasks it is above 0.95."""
    assert choice_accuracy(loaded, name, 20) >= 0.85


def greedy_reward(loaded: tuple[Any, Any], name: str, count: int) -> float:
    """Mean reward of greedy answers to the first `count` test items."""
    import torch

    model, tokenizer = loaded
    info = catalogue.own()[name]
    module, rows = catalogue.reward(info), catalogue.items(info)[:count]
    prompts = catalogue.prompts(info)[:count]
    tokenizer.padding_side = "left"
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, return_token_type_ids=False)
    with torch.inference_mode():
        ids = model.generate(**encoded, do_sample=False, max_new_tokens=info.max_new_tokens)
    texts = tokenizer.batch_decode(ids[:, encoded.input_ids.shape[1] :], skip_special_tokens=True)
    return sum(module.reward(text, row) for text, row in zip(texts, rows, strict=True)) / count


def test_half_knows_countdown(loaded: tuple[Any, Any]) -> None:
    """Greedy reward between 0.10 and 0.45: a signal to start from and much left to learn."""
    assert 0.10 <= greedy_reward(loaded, "countdown", 80) <= 0.45


def test_does_not_know_the_new_facts(loaded: tuple[Any, Any]) -> None:
    """About chance: a value out of 12 to 40 by relation."""
    assert greedy_reward(loaded, "new_facts", 80) <= 0.12


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
            if "" in open_families or family[0].family in open_families:
                asked = {normalised(question.query or question.answer) for question in family}
                assert not asked & frozen, name
    for name, info in catalogue.own().items():
        source = found.get(f"target/{name}")
        if source is not None:
            rows = [
                *catalogue.items(info),
                *catalogue.split(info, "validation"),
                *catalogue.split(info, "train"),
            ]
            asked = {normalised(question.query) for question in source.families[0]}
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
def test_every_card_has_base_scores(name: str) -> None:
    (info,) = catalogue.OWN.find([name])
    assert "fruitfly" in folder.base_scores(info)
