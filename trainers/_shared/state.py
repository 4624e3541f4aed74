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
from typing import TYPE_CHECKING, Any

from retainbench.harness.core.storage import canonical

if TYPE_CHECKING:
    import torch

STATE = "state"
Tree = Any


def save(folder: Path, tree: Tree) -> None:
    """Write a state to `folder`, replacing an older one atomically."""
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    skeleton = _strip(tree, STATE, tensors)
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
    return _fill(skeleton, tensors)


def _strip(value: Tree, path: str, tensors: dict[str, torch.Tensor]) -> Tree:
    """The tree without its tensors, which go to `tensors` under their path.

    A function of its own, not a closure: a closure that calls itself is a reference cycle and would
    keep every saved copy alive until the garbage collector happens to run.
    """
    import torch

    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().to("cpu").contiguous()
        return {"__tensor__": path}
    if isinstance(value, dict):
        children = enumerate(value.items())
        return ["dict", [[k, _strip(v, f"{path}/{n}", tensors)] for n, (k, v) in children]]
    if isinstance(value, (list, tuple)):
        return ["list", [_strip(v, f"{path}/{n}", tensors) for n, v in enumerate(value)]]
    return {"__value__": value}


def _fill(node: Any, tensors: dict[str, torch.Tensor]) -> Tree:
    """The tree with its tensors put back."""
    if isinstance(node, dict):
        return tensors[node["__tensor__"]] if "__tensor__" in node else node["__value__"]
    kind, children = node
    if kind == "list":
        return [_fill(child, tensors) for child in children]
    return {key: _fill(child, tensors) for key, child in children}
