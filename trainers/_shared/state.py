"""Save and load a trainer's state (weights, optimizer, counters) without pickle.

A state is a tree of dicts and lists whose leaves are tensors or JSON values. Tensors go to
`state.safetensors` under their path in the tree, the rest to `state.json`, each with its digest.
One folder is one state; a newer one replaces it whole (`atomic.replacing`).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retainbench.harness.core.files import storage
from retainbench.harness.core.files.atomic import replacing
from retainbench.harness.core.files.storage import canonical, sha256_file

if TYPE_CHECKING:
    import torch

STATE = "state"
FILES = ("state.safetensors", "state.json")
Tree = Any


def save(folder: Path, tree: Tree) -> None:
    """Write a state to `folder`, replacing an older one atomically."""
    from safetensors.torch import save_file

    tensors: dict[str, torch.Tensor] = {}
    skeleton = _strip(tree, STATE, tensors)
    with replacing(folder) as part:
        save_file(tensors, part / "state.safetensors")
        storage.write_text(part / "state.json", canonical(skeleton))
        for name in FILES:
            storage.write_digest(part / name, sha256_file(part / name))


def load(folder: Path) -> Tree | None:
    """Read the last state; None where it does not exist or is damaged.

    Training from an earlier point, or from the start, gives the same bytes.
    """
    from safetensors.torch import load_file

    if not all(storage.intact(folder / name) for name in FILES):
        return None
    tensors = load_file(folder / "state.safetensors")
    skeleton = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    return _fill(skeleton, tensors)


def _strip(value: Tree, path: str, tensors: dict[str, torch.Tensor]) -> Tree:
    """The tree without its tensors, which go to `tensors` under their path.

    Not a closure: a closure that calls itself is a reference cycle and would keep every saved
    copy alive until the garbage collector runs.
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
    """The tree with its tensors restored."""
    if isinstance(node, dict):
        return tensors[node["__tensor__"]] if "__tensor__" in node else node["__value__"]
    kind, children = node
    if kind == "list":
        return [_fill(child, tensors) for child in children]
    return {key: _fill(child, tensors) for key, child in children}
