"""Damaged suites and policies: each is read, or refused in one line; nothing else, and in seconds.

`python tests/suites/test_mutations.py 2000` runs that many of each and prints figures; the test
runs a short part of the same sequence.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fixtures.mutations import mutations
from fixtures.waiting import at_most
from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files import yaml_files
from retainbench.harness.suites import loading

SECONDS = 10.0
POLICY: dict[str, Any] = {
    "alpha": 0.05,
    "margin": 0.02,
    "task_margins": {"calendar": 0.15},
    "axis_margins": {"numeric": 0.05},
    "mandatory": ["capitals", "dates"],
    "minimum_items": 60,
    "minimum_gain": 0.01,
    "soft_margin": 0.03,
    "contaminated": "report",
}


def suite() -> Any:
    """The packaged suite with the most kinds of keys, and a policy with all."""
    found = yaml_files.read_mapping(paths.SUITES / "quick.yaml")
    return found | {"policy": POLICY, "sweep": {"factors": [0.5, 2.0]}}


def outcomes(tree: Any, number: int, folder: Path, read: Callable[[Path], Any]) -> Counter[str]:
    """How often damaged files were read and refused; any other exception is raised."""
    found: Counter[str] = Counter()
    file = folder / "damaged.yaml"
    for damaged in mutations(tree, number):
        file.write_text(json.dumps(damaged), encoding="utf-8")
        with at_most(SECONDS):
            try:
                read(file)
                found["read"] += 1
            except UsageError as error:
                found["refused" if "\n" not in str(error) else "several lines"] += 1
    return found


def read_suite(path: Path) -> None:
    """As every verb that takes a suite does."""
    loading.load(str(path))


@pytest.mark.parametrize(
    ("tree", "read"),
    [(suite(), read_suite), (POLICY, loading.load_policy)],
    ids=["suite", "policy"],
)
def test_damaged_files_are_read_or_refused(
    tree: Any, read: Callable[[Path], Any], tmp_path: Path
) -> None:
    found = outcomes(tree, 150, tmp_path, read)
    assert found["refused"] > 75
    assert found["refused"] + found["read"] == 150


@pytest.mark.parametrize("key", ["[/red]", "[", "", "[str]"])
def test_an_unknown_key_may_look_like_anything(tmp_path: Path, key: str) -> None:
    file = tmp_path / "odd.yaml"
    file.write_text(json.dumps(suite() | {key: 1}), encoding="utf-8")
    with pytest.raises(UsageError, match="unknown key"):
        loading.load(str(file))


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        for title, what, reader in (
            ("suites", suite(), read_suite),
            ("policies", POLICY, loading.load_policy),
        ):
            begun = time.monotonic()
            counted = outcomes(what, int(sys.argv[1]), Path(place), reader)
            sys.stdout.write(f"{title} {dict(counted)} {time.monotonic() - begun:.0f} s\n")
