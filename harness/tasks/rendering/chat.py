"""How a suite's `format` turns prompts into text and token ids: as they are, or as a chat.

One `Rendering` serves training rows, rollouts, scoring and KL, so that they ask the same ids. As a
chat, the task's prompt is the user's message, the reference answer the assistant's, and the text is
the one of `tokenizer.apply_chat_template`: the template writes every special token, so encoding
adds none. The token that ends the assistant's turn is trained, and ends a response.

Reads a tokenizer's template; renders in a bounded process (tasks/rendering/chat_child.py), each
conversation once per process. Torch-free. Leaves out tools and documents.

Deviations from lm-eval's `--apply_chat_template`: a template that refuses a system message is an
error here, lm-eval drops the message; a tokenizer that adds BOS by itself adds none to a chat.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.files.storage import canonical, digest
from retainbench.harness.core.schema import Format
from retainbench.harness.tasks.rendering.encoding import Tokens, continued, encode
from retainbench.harness.tasks.rendering.prompts import Row, Template

Conversation = list[dict[str, str]]
"""Messages with `role` (system, user, assistant) and `content`."""
ANSWER = "retainbench answers here"
"""Where the assistant's words go, to see what the template writes after them."""


class Ask(NamedTuple):
    """What a prompt asks."""

    text: str
    """The user's message, or the whole prompt where it is sent as it is."""
    earlier: tuple[dict[str, str], ...] = ()
    """Messages before it, of an item that is a conversation."""


class Chat(NamedTuple):
    """A chat template with what it is given."""

    template: str
    variables: str
    """Special tokens and switches, as canonical JSON."""
    after: str
    """What it writes after the assistant's last words."""
    end: str
    """The part of this that ends the turn; the end-of-text token where it writes none."""


@dataclass(frozen=True)
class Rendering:
    """How prompts and answers of any task become text and token ids."""

    format: Format
    chat: Chat | None = None
    """None: prompts are sent as they are."""

    @cached_property
    def digest(self) -> str | None:
        """SHA-256 of all that decides the text; None where prompts are sent as they are."""
        return digest([self.format.model_dump(), *self.chat]) if self.chat else None

    def ask(self, text: str, row: Row, before: str = "") -> Ask:
        """What an item asks: as a chat its `messages`, if it has any.

        Args:
            text: the prompt as the task's template writes it.
            before: what the user's message begins with.
        """
        turns: Conversation = row.get("messages") or []
        if self.chat is None or not turns:
            return Ask(before + text)
        return Ask(before + turns[-1]["content"], tuple(turns[:-1]))

    def prompts(self, template: Template, texts: Sequence[Ask | str]) -> list[str]:
        """What the model continues, for prompts as the template writes them.

        Raises:
            UsageError: solved examples cannot be taken apart, or the chat template refuses.
            IntegrityError: the chat template loops or writes too much.
        """
        if self.chat is None:
            return [_asked(text).text for text in texts]
        return render(self.chat, [(self.conversation(template, text), True) for text in texts])

    def completions(
        self, template: Template, texts: Sequence[Ask | str], answers: Sequence[str]
    ) -> list[str]:
        """What continues each prompt, for reference answers, without what ends it.

        Raises:
            UsageError: the chat template writes another prompt where an answer follows it.
        """
        if self.chat is None:
            return [f"{template.delimiter}{answer}" for answer in answers]
        asked = [self.conversation(template, text) for text in texts]
        whole = [
            [*conversation, {"role": "assistant", "content": answer}]
            for conversation, answer in zip(asked, answers, strict=True)
        ]
        order = [*((one, True) for one in asked), *((one, False) for one in whole)]
        written = render(self.chat, order)
        both = zip(written[: len(asked)], written[len(asked) :], strict=True)
        return [_after(prompt, text, self.chat.after) for prompt, text in both]

    def encode(self, tokenizer: Any, texts: Sequence[str]) -> list[Tokens]:
        """Token ids of rendered prompts."""
        return encode(tokenizer, texts) if self.chat is None else continued(tokenizer, texts)

    def ending(self, tokenizer: Any) -> Tokens:
        """The ids that are trained after an answer; the last one ends the response."""
        if self.chat is None:
            return [tokenizer.eos_token_id]
        return continued(tokenizer, [self.chat.end])[0]

    def ends(self, tokenizer: Any) -> list[int]:
        """Ids of which each ends a response."""
        return list(dict.fromkeys([self.ending(tokenizer)[-1], tokenizer.eos_token_id]))

    def conversation(self, template: Template, asked: Ask | str) -> Conversation:
        """The messages that ask a prompt; a conversation keeps a system message of its own."""
        text, earlier = _asked(asked)
        own = earlier[:1] and earlier[0]["role"] == "system"
        system = None if own else self.format.system
        messages = [{"role": "system", "content": system}] if system else []
        messages += earlier
        if self.format.fewshot == "turns" and template.shots and not earlier:
            shown = template.examples()
            for query, answer in shown.solved:
                messages.append({"role": "user", "content": query})
                messages.append({"role": "assistant", "content": answer})
            text = text.removeprefix(shown.text)
        return [*messages, {"role": "user", "content": text}]


PLAIN = Rendering(Format())
"""Prompts as the tasks write them."""


def of(tokenizer: Any, format: Format) -> Rendering:
    """The rendering of a loaded tokenizer, tried on a short conversation.

    Raises:
        UsageError: it has no chat template, or the template refuses the conversation.
        IntegrityError: the template loops, writes too much, or leaves out what the assistant wrote.
    """
    if format.template == "none":
        return PLAIN
    if not tokenizer.chat_template:
        raise UsageError(
            "the tokenizer has no chat template, so it cannot be asked through one. Use a model "
            "that has one, or `template: none` (--template none)"
        )
    template = tokenizer.get_chat_template()
    switches = {} if format.thinking is None else {"enable_thinking": format.thinking}
    variables = canonical({**tokenizer.special_tokens_map, **switches})
    first = Chat(template, variables, "", "")
    asked = Rendering(format, first).conversation(Template("{{query}}", " "), "1 + 1 =")
    whole = [*asked, {"role": "assistant", "content": ANSWER}]
    _, text = render(first, [(asked, True), (whole, False)])
    written, found, after = text.rpartition(ANSWER)
    if not found or ANSWER in written:
        raise IntegrityError("the chat template does not write the assistant's words once")
    chat = first._replace(after=after, end=_turn_end(tokenizer, after))
    return Rendering(format, chat)


def of_folder(folder: Path, format: Format) -> Rendering:
    """The rendering of a checked model folder's tokenizer.

    Raises:
        UsageError, IntegrityError: as `of`, or the tokenizer cannot be read.
    """
    if format.template == "none":
        return PLAIN
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:
        what = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise IntegrityError(f"{folder}: the tokenizer cannot be read: {what}") from error
    try:
        return of(tokenizer, format)
    except (UsageError, IntegrityError) as error:
        raise type(error)(f"{folder}: {error}") from None


def _asked(one: Ask | str) -> Ask:
    return Ask(one) if isinstance(one, str) else one


def _turn_end(tokenizer: Any, after: str) -> str:
    """What follows an answer up to and with its first special token.

    The line break that many templates write after it belongs to the next turn.
    """
    tokens = [str(token) for token in tokenizer.added_tokens_decoder.values()]
    places = {token: after.find(token) for token in tokens if token in after}
    if not places:
        return str(tokenizer.eos_token)
    first = min(places, key=lambda token: (places[token], -len(token)))
    return after[: places[first] + len(first)]


def _after(prompt: str, text: str, after: str) -> str:
    if not (text.startswith(prompt) and text.endswith(after)):
        raise UsageError(
            "the chat template writes another prompt where an answer follows it, so what is "
            "trained would not be what is asked; set format.thinking to the mode that the answers "
            "are in, or use `template: none`"
        )
    return text[len(prompt) : len(text) - len(after)]


Asked = tuple[Conversation, bool]
"""Messages, and whether the assistant's turn is opened after them."""


class Written(NamedTuple):
    """A rendered conversation."""

    text: str
    spans: list[tuple[int, int]]
    """Characters that the template marks as the assistant's (`{% generation %}`), if it does."""


_rendered: dict[tuple[Chat, str], Written] = {}
"""Every conversation that this process has rendered."""


def render(chat: Chat, asked: Sequence[Asked]) -> list[str]:
    """The text of each conversation."""
    return [one.text for one in written(chat, asked)]


def written(chat: Chat, asked: Sequence[Asked]) -> list[Written]:
    """Each conversation with what the template marks in it."""
    key = chat._replace(after="", end="")
    names = [canonical({"asked": one}) for one in asked]
    fresh = list(dict.fromkeys(name for name in names if (key, name) not in _rendered))
    if fresh:
        found = _in_child(key, [json.loads(name)["asked"] for name in fresh])
        _rendered.update({(key, name): one for name, one in zip(fresh, found, strict=True)})
    return [_rendered[key, name] for name in names]


def _in_child(chat: Chat, asked: Sequence[Asked]) -> list[Written]:
    order = {"template": chat.template, "variables": json.loads(chat.variables), "asked": asked}
    command = [sys.executable, "-P", "-m", "retainbench.harness.tasks.rendering.chat_child"]
    # No limit by the clock: the process limits itself, and a busy machine refuses no template.
    done = subprocess.run(command, input=json.dumps(order).encode(), capture_output=True)
    if done.returncode < 0:
        raise IntegrityError(
            f"the chat template takes more time or memory than allowed (signal {-done.returncode})"
        )
    if done.returncode:
        raise RuntimeError(done.stderr.decode(errors="replace"))
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise UsageError(f"the chat template refuses the conversation: {answer['error']}")
    return [Written(text, [(a, b) for a, b in spans]) for text, spans in answer["written"]]
