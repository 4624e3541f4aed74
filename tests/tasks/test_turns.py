"""Conversations of several turns: asked as they are, learned with an exact mask."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from fixtures.chats import CHATML, FAMILIES, GEMMA, LLAMA3, save_chat
from retainbench.harness.contracts import rows
from retainbench.harness.contracts.jobs import letters
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.schema import Format
from retainbench.harness.tasks.items import read_rows
from retainbench.harness.tasks.rendering import chat
from retainbench.harness.tasks.rendering.turns import assistant_tokens
from retainbench.trainers._shared.data import example_of, trained

TURNS = [
    {"role": "user", "content": "What is 2 + 2?"},
    {"role": "assistant", "content": "4"},
    {"role": "user", "content": "And times 4?"},
]
ITEM = {"id": "a", "query": "And times 4?", "answer": "16, for 4 x 4", "messages": TURNS}
CONVERSATION = [*TURNS, {"role": "assistant", "content": ITEM["answer"]}]
MARK, UNMARK = "{% generation %}", "{% endgeneration %}"
MARKED = {
    "chatml": CHATML.replace(
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}",
        "{{ '<|im_start|>' + message.role + '\n' }}{%- if message.role == 'assistant' -%}"
        f"{MARK}{{{{ message.content + '<|im_end|>' }}}}{UNMARK}{{%- else -%}}"
        "{{ message.content + '<|im_end|>' }}{%- endif -%}{{ '\n' }}",
    ),
    "llama3": LLAMA3.replace(
        "{{ content }}",
        "{% if message['role'] == 'assistant' %}{{ content.split('\n\n')[0] + '\n\n' }}"
        f"{MARK}{{{{ content.split('\n\n')[1] }}}}{UNMARK}"
        "{% else %}{{ content }}{% endif %}",
    ),
    "gemma": GEMMA.replace(
        "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}",
        "{{ '<start_of_turn>' + role + '\n' }}{% if role == 'model' %}"
        f"{MARK}{{{{ message['content'] | trim + '<end_of_turn>' }}}}{UNMARK}"
        "{% else %}{{ message['content'] | trim + '<end_of_turn>' }}{% endif %}{{ '\n' }}",
    ),
}
"""The families' templates with the assistant's words marked."""


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("turns") / request.param
    save_chat(folder, request.param, begins=request.param in ("llama3", "gemma"))
    found = AutoTokenizer.from_pretrained(folder)
    found.family = request.param
    return found


def rendering(tokenizer: Any, template: str | None = None) -> chat.Rendering:
    tokenizer.chat_template = template or FAMILIES[tokenizer.family][0]
    return chat.of(tokenizer, Format(template="chat"))


def masked(tokenizer: Any, template: str | None = None) -> tuple[list[int], list[int]]:
    made = rendering(tokenizer, template).chat
    assert made is not None
    return assistant_tokens(made, tokenizer, CONVERSATION)


def test_the_mask_is_that_of_apply_chat_template(tokenizer: Any) -> None:
    """Where the template marks the assistant's words, and where prefixes have to tell."""
    ids, mask = masked(tokenizer)
    whole = tokenizer.apply_chat_template(CONVERSATION, return_dict=False)
    assert ids == whole
    if tokenizer.family not in MARKED:
        return
    marked = MARKED[tokenizer.family]
    assert MARK in marked
    assert masked(tokenizer, marked) == (ids, mask)
    theirs = tokenizer.apply_chat_template(
        CONVERSATION, chat_template=marked, return_dict=True, return_assistant_tokens_mask=True
    )
    assert (theirs["input_ids"], theirs["assistant_masks"]) == (ids, mask)


def test_every_turn_is_learned_from_where_it_would_be_asked_to_its_end(tokenizer: Any) -> None:
    ids, mask = masked(tokenizer)
    made = rendering(tokenizer)
    end = made.ending(tokenizer)[-1]
    begins = [n for n in range(1, len(ids)) if mask[n] and not mask[n - 1]]
    ends = [n for n in range(len(ids)) if mask[n] and not (mask[n + 1 :] or [0])[0]]
    assert len(begins) == len(ends) == 2
    assert {ids[n] for n in ends} == {end}
    for begin, turns in zip(begins, (TURNS[:1], TURNS), strict=True):
        asked = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        assert ids[:begin] == asked


def test_a_target_asks_its_messages_and_learns_all_turns(tokenizer: Any) -> None:
    target = replace(letters(), train=[ITEM], rendering=rendering(tokenizer))
    asked = tokenizer.apply_chat_template(TURNS, add_generation_prompt=True, return_dict=False)
    assert target.rendering.encode(tokenizer, target.prompts([ITEM])) == [asked]
    assert trained(tokenizer, target, ITEM) == masked(tokenizer)
    assert target.conversations([ITEM]) == [CONVERSATION]
    plain = replace(target, rendering=chat.PLAIN)
    assert plain.prompts([ITEM]) == ["Question: And times 4?\nAnswer:"]
    single = {**ITEM, "messages": TURNS[:1]}
    row, example = trained(tokenizer, target, single), example_of(tokenizer, target, single)
    assert row.ids == example.prompt + example.completion
    assert sum(row.mask) == len(example.completion)


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer: Any) -> None:
    """As those do that drop the thought of an earlier turn."""
    if tokenizer.family != "thinking":
        return
    made = rendering(tokenizer).chat
    assert made is not None
    thought = {"role": "assistant", "content": "<think>\n2 and 2\n</think>\n\n4"}
    kept = FAMILIES["thinking"][0].replace("loop.last or reasoning", "loop.last")
    tokenizer.chat_template = kept
    dropping = chat.of(tokenizer, Format(template="chat")).chat
    assert dropping is not None
    with pytest.raises(UsageError, match="turn 2 of a conversation in another way"):
        assistant_tokens(dropping, tokenizer, [TURNS[0], thought, *CONVERSATION[2:]])


def test_rows_may_end_with_the_answer_as_the_last_turn(tmp_path: Path) -> None:
    row = rows.completed({"id": "a", "messages": CONVERSATION})
    assert (row["answer"], row["messages"]) == (ITEM["answer"], TURNS)
    assert row["query"] == "User: What is 2 + 2?\nAssistant: 4\nUser: And times 4?"
    file = tmp_path / "rows.jsonl"
    file.write_text('{"id": "a", "messages": [{"role": "robot", "content": "x"}], "answer": "y"}\n')
    with pytest.raises(UsageError, match="a: messages must be a list"):
        read_rows(file, rows.completed)
