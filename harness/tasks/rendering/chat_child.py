"""Renders conversations with a chat template that somebody else wrote, in a process of its own.

Reads one JSON object from stdin: `template`, `variables`, `asked` (pairs of a conversation and of
whether the template opens the assistant's turn after it); writes `{"written": [...]}`, pairs of a
text and of the spans of characters that the template marks with `{% generation %}`, or
`{"error": ...}` to stdout. The template runs in transformers' sandbox, which reaches no file and no
Python object but can still loop or allocate without end; so this process has limits of time and
memory, and dies of them. A template that prints a date gets DATE: it must ask the same every day.

Started by tasks/rendering/chat.py: `python -m retainbench.harness.tasks.rendering.chat_child`.
"""

from __future__ import annotations

import json
import math
import re
import resource
import sys
import time
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

SECONDS = 4
"""Of processor time."""
PER_SECOND = 500
"""Conversations for which there is one second more."""
MEMORY = 2 << 30
"""Bytes of address space."""
LONGEST = 200_000
"""Characters that a template may add to what a conversation holds."""
DATE = datetime(2024, 7, 26)
"""What Llama 3.2's own template takes where it knows no date."""


GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")


def main() -> None:
    """Render what stdin asks for."""
    from transformers.utils import chat_template_utils

    # A template gets plain data only, so its clock cannot be handed in.
    chat_template_utils.datetime = _Clock
    asked = json.load(sys.stdin)
    _limit(len(asked["asked"]))
    marks = GENERATION.search(asked["template"]) is not None
    written: list[tuple[str, list[list[int]]]] = []
    try:
        for conversation, prompt in asked["asked"]:
            (text,), spans = chat_template_utils.render_jinja_template(
                conversations=[conversation],
                chat_template=asked["template"],
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=marks,
                **asked["variables"],
            )
            _require_length(text, conversation)
            written.append((text, spans[0] if marks else []))
    except Exception as error:  # noqa: BLE001 - a foreign template raises whatever it likes
        json.dump({"error": " ".join(f"{type(error).__name__}: {error}".split())[:300]}, sys.stdout)
    else:
        json.dump({"written": written}, sys.stdout)


class _Clock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return DATE


def _limit(conversations: int) -> None:
    """On top of what the libraries took: numpy reserves 40 MB for each core of the machine."""
    seconds = math.ceil(time.process_time()) + SECONDS + conversations // PER_SECOND
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    memory = _reserved() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _reserved() -> int:
    """Bytes of address space that this process has; 0 where the system does not tell."""
    pages = Path("/proc/self/statm")
    return int(pages.read_text().split()[0]) * resource.getpagesize() if pages.exists() else 0


def _require_length(text: str, conversation: list[dict[str, Any]]) -> None:
    held = sum(len(str(message.get("content", ""))) for message in conversation)
    if len(text) > held + LONGEST:
        raise ValueError(f"it adds {len(text) - held} characters to a conversation of {held}")


if __name__ == "__main__":
    main()
