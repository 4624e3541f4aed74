"""Standard output and error: what is written reaches its reader, or nobody, and never ends a verb.

A reader that has left (`| head`) and a closed stream drop the text and keep the verb's exit code:
nobody wanted the text. Behind a full disk somebody did, and finds a part of it, so that is a
`UsageError` whatever the verdict was. A character that the reader's encoding lacks is
written as its nearest ASCII or its escape code. No text that passes here can act as a workflow
command of GitHub's, wherever it comes from; `workflow_commands` writes the ones that should.
"""

from __future__ import annotations

import codecs
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.text.formatting import MINUS, NONE

# GitHub trims a line before it looks for `::`; the older `##[` acts anywhere in a line.
_COMMAND = re.compile(r"(?:^|(?<=\r))(\s*):(?=:)|#(?=#\[)", re.MULTILINE)
_ASCII = {MINUS: "-", NONE: "-", "–": "-", "…": "...", "·": ".", "×": "x", "\u200b": ""}


def _substitute(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    shown = (_ASCII.get(c, c.encode("ascii", "backslashreplace").decode()) for c in missing)
    return "".join(shown), error.end


codecs.register_error("retainbench", _substitute)


def _defused(command: re.Match[str]) -> str:
    return "\\x23" if command[1] is None else f"{command[1]}\\x3a"


class Stream(io.TextIOWrapper):
    """Text for a reader who may have left.

    Raises:
        UsageError: a write to standard output failed otherwise; standard error drops the text.
    """

    def __init__(self, binary: Any, encoding: str, title: str | None) -> None:
        """`title` names the stream in an error; None drops what cannot be written."""
        super().__init__(binary, encoding, errors="retainbench", line_buffering=True)
        self._title = title

    def write(self, text: str) -> int:
        self._write(_COMMAND.sub(_defused, text))
        return len(text)

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self._drop(error)

    def commands(self, lines: Sequence[str]) -> None:
        """Write workflow commands as they are; the caller has escaped what is in them."""
        self._write("".join(f"{line}\n" for line in lines))

    def _write(self, text: str) -> None:
        try:
            super().write(text)
        except OSError as error:
            self._drop(error)

    def _drop(self, error: OSError) -> None:
        """Send what is buffered, and all that follows, to nowhere."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.fileno())
        os.close(nowhere)
        if self._title and not isinstance(error, BrokenPipeError):
            raise UsageError(f"cannot write to {self._title}: {error.strerror}") from error


@contextmanager
def prepared() -> Iterator[None]:
    """Standard output and error as `Stream`s, until the command ends."""
    _open_closed()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _stream(sys.stdout, "standard output"), _stream(sys.stderr, None)
    try:
        yield
    finally:
        for stream, old in zip((sys.stdout, sys.stderr), before, strict=True):
            if isinstance(stream, Stream):
                stream.flush()
                if old is not None:
                    stream.detach()
        sys.stdout, sys.stderr = before


def _open_closed() -> None:
    """Open the null device in place of closed streams, so that no file gets their number."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)


def _stream(stream: Any, title: str | None) -> Any:
    """A `Stream` to the same place; a stream of a test that keeps its text stays as it is."""
    if stream is None:
        return Stream(io.BytesIO(), "utf-8", title)
    stream.flush()
    binary = getattr(stream, "buffer", None)
    return stream if binary is None else Stream(binary, stream.encoding, title)


def workflow_commands(lines: Sequence[str]) -> None:
    """Write lines that GitHub obeys to standard output."""
    if isinstance(sys.stdout, Stream):
        sys.stdout.commands(lines)
    else:
        sys.stdout.write("".join(f"{line}\n" for line in lines))
