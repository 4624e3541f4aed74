"""What is trained, sampled, scored and compared by KL is the same text, and the same token ids."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers.processors import TemplateProcessing

from retainbench.harness.models import loading
from retainbench.harness.running.training.jobs import load_target
from retainbench.harness.scoring import sample_rows
from retainbench.harness.scoring.backend import TrieLM
from retainbench.harness.scoring.texts import encoder
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.rendering.encoding import continued, encode
from retainbench.trainers._shared.data import example_of

TARGETS = [name for name, info in catalogue.own().items() if info.kind == "target"]


@pytest.mark.parametrize("name", TARGETS)
def test_trained_and_scored_prompts_are_equal(name: str) -> None:
    """lm-eval's requests for every test item, and what ends a response."""
    info, target = catalogue.own()[name], load_target(name)
    asked = [request.args for request in sample_rows.requests(info)]
    assert [prompt for prompt, _ in asked] == [target.prompt(i) for i in catalogue.items(info)]
    assert {tuple(options["until"]) for _, options in asked} == {info.stop}
    assert {options["max_gen_toks"] for _, options in asked} == {target.max_new_tokens}


@pytest.mark.parametrize("begins", [False, True])
def test_a_sequence_begins_alike_in_training_and_scoring(tiny_base: Path, begins: bool) -> None:
    """With a tokenizer that adds BOS every prompt gets it once, and no completion does."""
    loaded = loading.load(tiny_base)
    tokenizer = loaded.tokenizer
    tokenizer.add_special_tokens({"bos_token": "<s>"})
    bos = tokenizer.bos_token_id
    if begins:
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", bos)]
        )
    target = load_target("countdown")
    rows = [example_of(tokenizer, target, item) for item in target.train[:5]]
    texts = [target.prompt(item) for item in target.train[:5]]
    scorer = TrieLM(loaded.model, tokenizer=tokenizer)
    trained = [row.prompt for row in rows]
    assert trained == encode(tokenizer, texts) == [scorer.tok_encode(text) for text in texts]
    assert trained == list(encoder(scorer).texts(texts).values())
    assert [ids.count(bos) for ids in trained] == [int(begins)] * 5
    assert not any(bos in row.completion for row in rows)
    (again,) = encode(tokenizer, ["<s>" + texts[0]])
    assert again == scorer.tok_encode("<s>" + texts[0])
    assert again.count(bos) == 1
    assert continued(tokenizer, texts[:1]) == [trained[0][int(begins) :]]
