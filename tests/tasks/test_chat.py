"""As a chat, what is trained, sampled, scored and compared by KL are the template's own ids."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from fixtures.chats import FAMILIES, save_chat
from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError
from retainbench.harness.core.schema import Format
from retainbench.harness.divergence.continuations import sample_continuations
from retainbench.harness.divergence.prompts import prompt_sets
from retainbench.harness.models import loading
from retainbench.harness.models.loading import Loaded
from retainbench.harness.running.training.jobs import load_target
from retainbench.harness.scoring import evaluate, sample_rows
from retainbench.harness.scoring.backend import TrieLM
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.rendering import chat
from retainbench.harness.tasks.rendering.prompts import Template
from retainbench.trainers._shared.data import example_of

CHAT = Format(template="chat")
OWN = catalogue.own()


@pytest.fixture(scope="module", params=FAMILIES)
def speaking(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """The tiny model with each family's template; two of them begin every text with BOS."""
    folder = tmp_path_factory.mktemp("chat") / request.param
    save_chat(folder, request.param, begins=request.param in ("llama3", "gemma"))
    return loading.load(folder)


def test_all_uses_have_the_ids_of_apply_chat_template(speaking: Loaded) -> None:
    """Prompt, answer with the end of its turn, scored request and KL prompt."""
    tokenizer = speaking.tokenizer
    rendering = chat.of(tokenizer, CHAT)
    target = load_target("countdown", rendering=rendering)
    item = target.train[0]
    user = {"role": "user", "content": target.template.prompt(item)}
    assistant = {"role": "assistant", "content": item["answer"]}
    prompt = tokenizer.apply_chat_template([user], add_generation_prompt=True, return_dict=False)
    whole = tokenizer.apply_chat_template([user, assistant], return_dict=False)
    row = example_of(tokenizer, target, item)
    assert row.prompt == prompt
    assert row.prompt + row.completion == whole[: len(row.prompt) + len(row.completion)]
    end = FAMILIES[_family(tokenizer)][1][-1]
    assert tokenizer.convert_ids_to_tokens(row.completion[-1]) == end
    assert end not in tokenizer.convert_ids_to_tokens(row.completion[:-1])
    assert tokenizer.decode(whole[len(row.prompt) + len(row.completion) :]).strip() == ""
    assert rendering.ends(tokenizer) == [row.completion[-1], tokenizer.eos_token_id]
    begins = tokenizer.bos_token_id
    assert begins is None or (row.prompt + row.completion).count(begins) == 1
    info = OWN["countdown"]
    asked = sample_rows.requests(info, rendering)[0].args[0]
    scorer = TrieLM(speaking.model, tokenizer=tokenizer, chat=rendering.chat)
    scored = scorer.tok_encode(asked)
    first = target.prompt(catalogue.items(info)[0])
    assert [scored] == target.rendering.encode(tokenizer, [first])
    kl = prompt_sets(["countdown"], 1, catalogue.OWN, rendering)["target"]
    assert kl == [asked]


def _family(tokenizer: Any) -> str:
    written = {family: template for family, (template, _) in FAMILIES.items()}
    template = tokenizer.chat_template
    return next(family for family, text in written.items() if text == template)


def test_kl_continuations_of_a_chat_have_many_lines(speaking: Loaded) -> None:
    """They end with the turn; the newline that ends a plain answer is one of the tokens drawn."""
    rendering = chat.of(speaking.tokenizer, CHAT)
    prompts = rendering.prompts(Template("{{query}}", " "), [f"{n} + 1 =" for n in range(40)])
    drawn = sample_continuations(speaking, prompts, max_new_tokens=30, rendering=rendering)
    newline = speaking.tokenizer("\n", add_special_tokens=False)["input_ids"][-1]
    assert any(newline in one.ids[:-1] for one in drawn)
    assert all(one.ids[-1] in rendering.ends(speaking.tokenizer) for one in drawn if one.ended)


def test_choices_follow_a_chat_without_their_delimiter(speaking: Loaded) -> None:
    """As lm-eval sends them; the records keep the lock's hashes."""
    rendering = chat.of(speaking.tokenizer, CHAT)
    info = OWN["capitals"]
    plain, spoken = sample_rows.requests(info)[0], sample_rows.requests(info, rendering)[0]
    assert plain.args[1] == " " + spoken.args[1]
    assert plain.args[0] in spoken.args[0]
    records = evaluate.evaluate(speaking, [info], limit=3, rendering=rendering)
    before = evaluate.evaluate(speaking, [info], limit=3)
    assert [r.prompt_hash for r in records] == [r.prompt_hash for r in before]
    assert [r.choice_logprobs for r in records] != [r.choice_logprobs for r in before]


@pytest.mark.parametrize("name", [n for n, i in OWN.items() if i.shots and i.kind != "target"])
def test_solved_examples_become_turns(name: str) -> None:
    """Every task's own examples come apart, and their texts make up the prompt again."""
    template = OWN[name].template
    shown = template.examples()
    assert len(shown.solved) == OWN[name].shots
    blocks = [query + template.delimiter + answer for query, answer in shown.solved]
    assert "\n\n".join([*blocks, ""]) == shown.text
    assert template.text.startswith(shown.text)


def test_examples_in_the_query_cannot_be_turns() -> None:
    with pytest.raises(UsageError, match="fewshot: plain"):
        Template("{{query}}", " ", shots=5).examples()


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with ChatML."""
    folder = tmp_path_factory.mktemp("chat") / "chatml"
    save_chat(folder, "chatml")
    return folder


def tokenizer_with(folder: Path, template: str) -> Any:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = template
    return tokenizer


def test_settings_reach_the_template(chatml: Path) -> None:
    """The system message, turns and the mode of thinking."""
    tokenizer = tokenizer_with(chatml, FAMILIES["thinking"][0])
    spoken = Format(template="chat", system="Be short.", thinking=False, fewshot="turns")
    rendering = chat.of(tokenizer, spoken)
    template = OWN["sequences"].template
    (text,) = rendering.prompts(template, [template.prompt({"query": "2, 4, 6"})])
    assert text.startswith("<|im_start|>system\nBe short.<|im_end|>\n<|im_start|>user\nQuestion: W")
    assert text.count("<|im_start|>assistant\n") == 6
    assert text.endswith("Question: 2, 4, 6\nAnswer:<|im_end|>\n<|im_start|>assistant\n"
                         "<think>\n\n</think>\n\n")  # fmt: skip
    assert rendering.completions(template, [template.prompt({"query": "1"})], ["8"]) == ["8"]
    thinks = chat.of(tokenizer, Format(template="chat", thinking=True))
    (answer,) = thinks.completions(template, ["q"], ["<think>\nso\n</think>\n\n8"])
    assert answer == "<think>\nso\n</think>\n\n8"
    assert len({chat.PLAIN.digest, rendering.digest, thinks.digest}) == 3


def test_a_date_is_the_same_on_every_day(chatml: Path) -> None:
    tokenizer = tokenizer_with(chatml, "{{ strftime_now('%d %b %Y') }}" + FAMILIES["chatml"][0])
    (text,) = chat.of(tokenizer, CHAT).prompts(Template("{{query}}", " "), ["a"])
    assert text.startswith("26 Jul 2024")


HOSTILE = {
    "raises": ("{{ raise_exception('no\nsuch') }}", UsageError, "refuses.*no such"),
    "escapes": ("{{ messages.__class__.__mro__ }}", UsageError, "unsafe"),
    "broken": ("{% for %}", UsageError, "refuses"),
    "huge": ("{{ 'a' * 300000 }}{{ messages[-1].content }}", UsageError, "adds 3000"),
    "allocates": ("{{ 'a' * 30000000000 }}", UsageError, "MemoryError"),
    "silent": ("hello", IntegrityError, "assistant's words"),
    "loops": (
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        IntegrityError,
        "more time or memory",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_template_is_refused_in_one_line(kind: str, chatml: Path) -> None:
    """It runs in a process of its own, with limits of time, memory and length."""
    template, error, words = HOSTILE[kind]
    tokenizer = tokenizer_with(chatml, template)
    with pytest.raises(error, match=words) as refused:
        chat.of(tokenizer, CHAT)
    assert "\n" not in str(refused.value)


CROWDED = """
import mmap, time
from retainbench.harness.tasks.rendering import chat_child
room = mmap.mmap(-1, chat_child.MEMORY, mmap.MAP_PRIVATE, prot=0)
chat_child.SECONDS = 1
while time.process_time() < 1.2:
    pass
chat_child.main()
"""


def test_limits_are_for_the_template_and_not_for_the_libraries() -> None:
    """numpy reserves 2.6 GB on a machine with 64 cores; a slow one takes seconds to import it."""
    order = {"template": "hello", "variables": {}, "asked": [[[], False]]}
    done = subprocess.run(
        [sys.executable, "-c", CROWDED], input=json.dumps(order).encode(), capture_output=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"written": [["hello", []]]}


def test_no_system_role_is_said_in_one_line(tmp_path: Path) -> None:
    save_chat(tmp_path, "gemma")
    with pytest.raises(RetainbenchError, match="System role not supported") as refused:
        chat.of_folder(tmp_path, Format(template="chat", system="Be short."))
    assert str(tmp_path) in str(refused.value)


def test_a_base_without_a_template_is_refused(tiny_base: Path) -> None:
    with pytest.raises(UsageError, match="no chat template"):
        chat.of_folder(tiny_base, CHAT)


def test_settings_of_a_chat_need_a_chat() -> None:
    with pytest.raises(ValueError, match="need `template: chat`"):
        Format(system="Be short.")
