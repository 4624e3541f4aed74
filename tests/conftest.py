"""What tests share: a tiny model in a folder, quiet libraries, the same surroundings everywhere.

The tiny model is a random two-layer Llama over a character-level tokenizer: it loads in
milliseconds, and every trainer and every measurement runs on it as on a real model.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core import paths

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Servers of tests are on this machine, whatever leads out of it.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(["127.0.0.1", *filter(None, [os.environ.get(name)])])
# These change what commands print, and `gate` writes to GitHub's files.
for name in (
    "COLUMNS",
    "FORCE_COLOR",
    "GITHUB_ACTIONS",
    "GITHUB_OUTPUT",
    "GITHUB_STEP_SUMMARY",
    "LINES",
    "NO_COLOR",
    "PY_COLORS",
):
    os.environ.pop(name, None)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's cache is not used, but for bases that were fetched into it."""
    cache = tmp_path_factory.mktemp("cache")
    (cache / "bases").symlink_to(paths.cache() / "bases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(cache))
        yield


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of some 20k parameters and its tokenizer."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    save_tiny(folder, seed=0)
    return folder
