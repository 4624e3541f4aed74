"""Which engine answers, as the user chose it; and a checked model opened in it.

    transformers        our trie scorer on a transformers model (the default)
    llama.cpp           a GGUF file on its quantised kernels
    lm-eval:NAME        whatever lm-eval loads under that name

A choice is data: it is stored with the records and is part of their key. Libraries are imported
when an engine is opened.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.names import nearest
from retainbench.harness.models import loading
from retainbench.harness.models.checked import Base
from retainbench.harness.models.placement import ON_CPU, Placement
from retainbench.harness.scoring.engines.protocol import Engine
from retainbench.harness.tasks.rendering.chat import PLAIN, Rendering

NAMES = ("transformers", "llama.cpp")
HELP = "transformers, llama.cpp, or lm-eval:NAME for any model of lm-eval"
SECRET = re.compile(r"token$|key|header|password|secret", re.IGNORECASE)
"""Arguments whose values are not written down; `tokenizer` and the like are none."""
BETWEEN = re.compile(r",(?=[\w.]+=)")
"""A comma that another key=value follows."""


class EngineChoice(NamedTuple):
    """An engine by name, with the user's arguments as `key=value,...`."""

    name: str = "transformers"
    arguments: str = ""

    @property
    def ours(self) -> bool:
        """Whether our own backend answers, on a loaded transformers model."""
        return self.name == "transformers"

    @property
    def serves(self) -> bool:
        """Whether a server answers, which may serve any model."""
        return "base_url" in self.parsed() or "completions" in self.name

    def settings(self) -> dict[str, str]:
        """What is recorded of a foreign engine, and makes other records of the same model.

        Placement is ours only; the arguments say where a foreign engine computes.
        """
        shown = ",".join(_shown(key, value) for key, value in sorted(self.parsed().items()))
        return {"backend": self.name, "version": self._version(), "arguments": shown}

    def parsed(self) -> dict[str, Any]:
        """The arguments; numbers and booleans are those of Python, JSON objects become dicts."""
        found = {}
        for part in filter(None, BETWEEN.split(self.arguments)):
            key, equals, value = part.partition("=")
            if not equals or not key:
                raise UsageError(f"--engine-args: {part!r} is not key=value")
            found[key] = _value(value)
        return found

    def _version(self) -> str:
        if self.name == "llama.cpp":
            from retainbench.harness.scoring.engines.llama_cpp import llama_cpp_version

            return llama_cpp_version()
        from retainbench.harness.scoring.engines.lm_eval import lm_eval_version

        return lm_eval_version()


OURS = EngineChoice()


def without_secrets(command: Sequence[str], *arguments: str | None) -> list[str]:
    """The words of a command with the secrets in its engine arguments hidden, for the record.

    Args:
        arguments: the `key=value,...` of every engine, as they are in the command.

    >>> given = "model=m,auth_token=abc"
    >>> without_secrets(["certify", f"--engine-args={given}"], given)
    ['certify', '--engine-args=model=m,auth_token=(hidden)']
    """
    words = list(command)
    for text in filter(None, arguments):
        parts = (part.partition("=") for part in BETWEEN.split(text))
        shown = ",".join(_shown(key, value) if equals else key for key, equals, value in parts)
        words = [word.replace(text, shown) for word in words]
    return words


def _shown(key: str, value: Any) -> str:
    return f"{key}={'(hidden)' if SECRET.search(key) else value}"


def chosen(name: str, arguments: str = "") -> EngineChoice:
    """An engine from what a user wrote.

    Raises:
        UsageError: no such engine, or arguments for ours, which has none.
    """
    if name not in NAMES and not re.fullmatch(r"lm-eval:[\w.-]+", name):
        raise UsageError(f"unknown engine {name!r}{nearest(name, NAMES)} Write {HELP}")
    choice = EngineChoice(name, arguments)
    if choice.parsed() and choice.ours:
        raise UsageError("--engine-args: the engine transformers takes none; use --dtype, --device")
    return choice


def opened(
    choice: EngineChoice,
    model: Base,
    placement: Placement = ON_CPU,
    rendering: Rendering = PLAIN,
    *,
    small_batches: bool = False,
) -> Engine:
    """A checked model in an engine.

    Args:
        small_batches: as in `TransformersEngine`; other engines have no such choice.

    Raises:
        UsageError: the engine's library is not installed, or it cannot take the model.
        IntegrityError: the model cannot be loaded.
    """
    if choice.ours:
        from retainbench.harness.scoring.engines.transformers import TransformersEngine

        loaded = loading.load(model, **placement._asdict())
        return TransformersEngine(loaded, rendering.chat, small_batches)
    if choice.name == "llama.cpp":
        from retainbench.harness.scoring.engines.llama_cpp import LlamaCppEngine

        return LlamaCppEngine(model, choice.parsed(), rendering.chat)
    from retainbench.harness.scoring.engines.lm_eval import PREFIX, LmEvalEngine

    name = choice.name.removeprefix(PREFIX)
    return LmEvalEngine(name, model, choice.parsed(), placement.device, rendering.chat)


def _value(text: str) -> Any:
    """JSON where it is JSON, with Python's True and False; otherwise the text itself."""
    try:
        return json.loads({"True": "true", "False": "false", "None": "null"}.get(text, text))
    except ValueError:
        return text
