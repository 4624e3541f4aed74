"""The two reasons why a command refuses: the user can correct something, or evidence is broken.

Exit codes are a stable interface: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4 integrity. They
are attached here so that every command maps errors in the same way. Any other exception is a bug:
`cli/main.py` prints its traceback and exits 70, because Python's own 1 would read as a regression.
"""

from __future__ import annotations

from retainbench.harness.core.text.escaping import one_line

LONGEST = 4_000  # characters of a message


class RetainbenchError(Exception):
    """Base of the errors that end a command with one line instead of a traceback.

    The message is one visible line, whatever a file name or a foreign file put into it.
    """

    exit_code = 4

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message, LONGEST))


class UsageError(RetainbenchError):
    """Something the user wrote cannot be carried out; the message says what to write instead."""

    exit_code = 2


class IntegrityError(RetainbenchError):
    """Evidence is missing, changed or contradictory; nothing may be judged from it."""

    exit_code = 4
