"""Save and load a trainer's state (weights, optimizer, counters) without pickle.

A state is a tree of dicts and lists whose leaves are tensors or JSON values. Tensors go to
`state.safetensors` under their path in the tree, the rest to `state.json`. One folder is one state;
a newer one replaces it by rename, so a kill leaves the old or the new one.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from retainbench.harness.records import canonical

STATE = "state"
Tree = Any


def save(folder: Path, tree: Tree) -> None:
    """Write a state to `folder`, replacing an older one atomically."""
    import torch
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}

    def strip(value: Tree, path: str) -> Tree:
        if isinstance(value, torch.Tensor):
            tensors[path] = value.detach().to("cpu").contiguous().clone()
            return {"__tensor__": path}
        if isinstance(value, dict):
            return [
                "dict",
                [[k, strip(v, f"{path}/{number}")] for number, (k, v) in enumerate(value.items())],
            ]
        if isinstance(value, (list, tuple)):
            return ["list", [strip(v, f"{path}/{number}") for number, v in enumerate(value)]]
        return {"__value__": value}

    skeleton = strip(tree, STATE)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".tmp-") as temporary:
        part = Path(temporary) / STATE
        part.mkdir()
        save_file(tensors, part / "state.safetensors")
        (part / "state.json").write_text(canonical(skeleton), encoding="utf-8")
        old = folder.with_name(folder.name + ".old")
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> Tree | None:
    """Read the newest whole state, or None where there is none."""
    from safetensors.torch import load_file

    old = folder.with_name(folder.name + ".old")
    if not folder.exists() and old.exists():
        old.rename(folder)  # killed between the two renames of `save`
    if not folder.exists():
        return None
    tensors = load_file(folder / "state.safetensors")
    skeleton = json.loads((folder / "state.json").read_text(encoding="utf-8"))

    def fill(node: Any) -> Tree:
        if isinstance(node, dict):
            return tensors[node["__tensor__"]] if "__tensor__" in node else node["__value__"]
        kind, children = node
        if kind == "list":
            return [fill(child) for child in children]
        return {key: fill(child) for key, child in children}

    return fill(skeleton)
