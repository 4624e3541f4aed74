"""Text that a model or a stranger wrote, made harmless for the place where it is shown.

One function per place: terminal, Markdown, GitHub workflow commands, CSV, LaTeX, XML. Each first
makes the invisible visible (`visible`): control characters, ANSI escapes, bidirectional overrides,
zero-width characters and lone surrogates turn into their escape codes (`\x1b`), so that nothing is
hidden and nothing acts. Pure functions of strings. HTML is left out: Jinja's autoescape does it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

LIMIT = 2_000  # characters; a model's answer that is longer says nothing more in a table

_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but tab and line feed, DEL, C1
    "\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)
_MARKDOWN = re.compile(r"[\\`*_{}\[\]()<>#+\-.!|~:/&\"'=^$]")
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
}
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def visible(text: str) -> str:
    r"""Replace every character that acts or hides by its escape code; tab and line feed stay.

    >>> visible("\x1b[31mred\u202e")
    '\\x1b[31mred\\u202e'
    """
    return _INVISIBLE.sub(lambda found: _code(found[0]), text)


def _code(character: str) -> str:
    number = ord(character)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def each(tree: Any, escape: Callable[[str], str]) -> Any:
    """A tree of dictionaries and lists with every text in it escaped, keys as they are."""
    if isinstance(tree, dict):
        return {key: each(value, escape) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [each(value, escape) for value in tree]
    return escape(tree) if isinstance(tree, str) else tree


def shorten(text: str, limit: int = LIMIT) -> str:
    """The first `limit` characters, and how many were left out.

    >>> shorten("abcdef", 4)
    'abcd… (2 more characters)'
    """
    if len(text) <= limit:
        return text
    return f"{text[:limit]}… ({len(text) - limit} more characters)"


def one_line(text: str, limit: int = LIMIT) -> str:
    r"""Shortened, visible, and on one line, with line feeds and tabs as codes.

    >>> one_line("a\nb")
    'a\\nb'
    """
    return visible(shorten(text, limit)).replace("\n", "\\n").replace("\t", "\\t")


def terminal(text: str, limit: int = LIMIT) -> str:
    r"""For a terminal or a log: one line that cannot move the cursor or act as a workflow command.

    The line that it becomes part of must start with a word of ours, and Rich's markup must be off.

    >>> terminal("a##[group]")
    'a#\\x23[group]'
    """
    return one_line(text, limit).replace("##[", r"#\x23[")


def markdown(text: str, limit: int = LIMIT) -> str:
    r"""For running Markdown or a table cell: shows literally, links, mentions and calls nothing.

    Punctuation is backslash-escaped; GitHub looks for @names and #numbers after unescaping, so a
    zero-width space is put behind `@` and `#`.

    >>> markdown("*a*|b")
    '\\*a\\*\\|b'
    """
    escaped = _MARKDOWN.sub(lambda found: "\\" + found[0], one_line(text, limit))
    return escaped.replace("@", "@\u200b").replace("#", "#\u200b")


def github_data(text: str, limit: int = LIMIT) -> str:
    r"""The message of a workflow command; percent first.

    >>> github_data("50%\n::error::x")
    '50%25%0A::error::x'
    """
    shown = visible(shorten(text, limit))
    return shown.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def github_property(text: str, limit: int = LIMIT) -> str:
    """A property (file, title) of a workflow command: also without colon and comma.

    >>> github_property("a:b,c")
    'a%3Ab%2Cc'
    """
    return github_data(text, limit).replace(":", "%3A").replace(",", "%2C")


def github_untrusted(text: str, token: str) -> str:
    """Lines for a workflow's log in which no command is obeyed; `token` must be random."""
    return f"::stop-commands::{token}\n{visible(text)}\n::{token}::"


def csv_cell(text: str) -> str:
    """A text cell that no spreadsheet evaluates; numbers are not texts and need no escaping.

    >>> csv_cell("=1+1"), csv_cell("plain")
    ("'=1+1", 'plain')
    """
    shown = visible(text)
    return f"'{shown}" if text.startswith(_FORMULA_STARTS) else shown


def latex(text: str, limit: int = LIMIT) -> str:
    r"""Running LaTeX text on one line.

    >>> latex("50% of a_b")
    '50\\% of a\\_b'
    """
    return "".join(_LATEX.get(character, character) for character in one_line(text, limit))


def xml(text: str, limit: int = LIMIT) -> str:
    """Only characters that XML 1.0 allows; the XML library does the rest of the escaping."""
    return visible(shorten(text, limit))
