"""The page of keys is that of the code, and every key has a meaning."""

from __future__ import annotations

import pytest

from retainbench.harness.core import paths
from retainbench.harness.suites import describe, keys


def test_the_page_of_keys_is_generated() -> None:
    assert (paths.SUITES / "KEYS.md").read_text(encoding="utf-8") == keys.markdown()


@pytest.mark.parametrize("part", keys.PARTS)
def test_every_key_is_documented(part: str) -> None:
    assert [key.name for key in describe.options(keys.PARTS[part][1]) if not key.meaning] == []
