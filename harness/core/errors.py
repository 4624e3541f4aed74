"""The two ways a command can refuse: the user can mend it, or the evidence is broken.

Exit codes (a stable interface, STATISTICS: 0 pass, 1 regression, 2 usage, 3 inconclusive, 4
integrity) are attached here so that every command maps errors in the same way; `cli/main.py` turns
any other exception into code 4, because Python's own default of 1 would read as a regression.
"""


class RetainbenchError(Exception):
    """Base of the errors that end a command with one line instead of a traceback."""

    exit_code = 4


class UsageError(RetainbenchError):
    """Something the user wrote cannot be carried out; the message says what to write instead."""

    exit_code = 2


class IntegrityError(RetainbenchError):
    """Evidence is missing, changed or contradictory; nothing may be judged from it."""

    exit_code = 4
