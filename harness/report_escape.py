"""Text of unknown origin made harmless in Markdown, CSV, LaTeX and on a terminal.

Pure. Control characters and bidirectional marks are replaced everywhere, because they can make a
line read differently from what it says. HTML is escaped by Jinja2, JSON by `report_html.py`.
"""

from __future__ import annotations

import re
import unicodedata

MARKDOWN = re.compile(r"[\\`*<>#|~$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|\](?=[(\[:])")
LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "−": r"$-$",
    "‖": r"$\|$",
}


def visible(text: str) -> str:
    """One line without control, format (bidi) and surrogate characters; each becomes U+FFFD.

    >>> visible("a\\u202eb\\n c")
    'a\\ufffdb c'
    """
    line = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in line)


def markdown(text: str) -> str:
    """Text that Markdown shows literally, also inside a table cell; links and mentions are broken.

    Brackets that cannot make a link and underscores inside words stay as they are, so that the
    source of a table is readable too.

    >>> markdown("a|b <i> @me")
    'a\\\\|b \\\\<i\\\\> @\\u200bme'
    """
    escaped = MARKDOWN.sub(lambda found: "\\" + found.group(), visible(text))
    return escaped.replace("@", "@\u200b").replace("://", ":\u200b//")


def csv_cell(text: str) -> str:
    """A cell that no spreadsheet takes for a formula.

    >>> csv_cell("=1+1"), csv_cell("plain")
    ("'=1+1", 'plain')
    """
    line = visible(text)
    return f"'{line}" if line[:1] in ("=", "+", "-", "@", "\t") else line


def latex(text: str) -> str:
    """Text for LaTeX; characters that pdflatex does not know become a question mark.

    >>> latex("100% of x_1")
    '100\\\\% of x\\\\_1'
    """
    return "".join(LATEX.get(c, c if _latin(c) else "?") for c in visible(text))


def _latin(character: str) -> bool:
    return ord(character) < 0x250 or character in "—–…’‘“”"


def terminal(text: str) -> str:
    """Text without escape sequences or marks that move the cursor."""
    return visible(text)
