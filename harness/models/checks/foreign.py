"""Where a third-party library reads a folder that somebody else wrote.

Inside `reading(folder, what)` only transformers, tokenizers, safetensors or PEFT are called. What
they raise about the files becomes one `IntegrityError` that names the folder. Errors of our own
code outside of it keep their traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError


@contextmanager
def reading(folder: Path, what: str) -> Iterator[None]:
    """Turn what a library raises on a foreign folder into one line.

    Args:
        what: the part that is read, such as `the tokenizer`.

    Raises:
        UsageError: a library is missing; the message names it.
        IntegrityError: the library cannot read the folder. Out of memory and interrupts pass.
    """
    try:
        yield
    except (RetainbenchError, MemoryError):
        raise
    except ImportError as error:
        raise UsageError(
            f"{folder}: {what} needs a library that is not installed: {first_line(error)}"
        ) from error
    except Exception as error:
        if _is_out_of_memory(error):
            raise
        raise IntegrityError(
            f"{folder}: {what} cannot be read: {type(error).__name__}: {first_line(error)}"
        ) from error


def first_line(error: BaseException) -> str:
    """The message of a library's error, as one line of at most 300 characters."""
    return " ".join(str(error).split())[:300]


def _is_out_of_memory(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryError"
