"""Resume states: whole or not at all, and nothing of them stays in memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import torch

from retainbench.trainers._shared import state

TREE = {
    "weights": {"w": torch.arange(6.0).reshape(2, 3)},
    "steps": [1, {"loss": 0.5}],
    "none": None,
}


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    state.save(tmp_path / "state", TREE)
    back = state.load(tmp_path / "state")
    assert back is not None
    assert torch.equal(back["weights"]["w"], TREE["weights"]["w"])  # type: ignore[call-overload]
    assert (back["steps"], back["none"]) == (TREE["steps"], None)


def test_a_missing_or_damaged_state_is_none(tmp_path: Path) -> None:
    assert state.load(tmp_path / "state") is None
    for name in state.FILES:
        state.save(tmp_path / "state", TREE)
        file = tmp_path / "state" / name
        whole = bytearray(file.read_bytes())
        whole[-3] ^= 1
        for damaged in (bytes(whole), whole[:-5], b"", b"[" * 100_000):
            file.write_bytes(damaged)
            assert state.load(tmp_path / "state") is None


def test_a_loaded_state_is_freed_with_its_last_reference(tmp_path: Path) -> None:
    """Without the garbage collector: a cycle would hold gigabytes until it happens to run."""
    state.save(tmp_path / "state", TREE)
    gc.disable()
    try:
        back = state.load(tmp_path / "state")
        assert back is not None
        tensor = weakref.ref(back["weights"]["w"])
        del back
        assert tensor() is None
    finally:
        gc.enable()
