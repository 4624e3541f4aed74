"""results/engines is generated: its page follows from its tables."""

from __future__ import annotations

from results.engines import build
from retainbench.harness.core import paths

PUBLISHED = paths.PACKAGE / "results" / "engines"


def test_the_page_follows_from_its_tables() -> None:
    assert build.render(PUBLISHED) == (PUBLISHED / "README.md").read_text(encoding="utf-8")
