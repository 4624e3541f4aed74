"""What tests share: a tiny model in a folder, and quiet libraries.

The tiny model is a random two-layer Llama over a character-level tokenizer: it loads in
milliseconds, and every trainer and every measurement runs on it as on a real model.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retainbench.harness.contracts.tiny_model import save_tiny

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random Llama of some 20k parameters and its tokenizer."""
    folder = tmp_path_factory.mktemp("bases") / "tiny"
    save_tiny(folder, seed=0)
    return folder
