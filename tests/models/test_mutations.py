"""Mutated model and adapter folders: our own errors, or weights loaded exactly as they are stored.

A short part with fixed seeds; RETAINBENCH_MUTATIONS=2000 in the environment runs the long one.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fixtures.mutations import mutations
from retainbench.harness.core.errors import RetainbenchError
from retainbench.harness.models import bases, loading

FOLDERS = int(os.environ.get("RETAINBENCH_MUTATIONS", "60"))
JSON = ("config.json", "tokenizer_config.json", "tokenizer.json", "generation_config.json")


def split(file: Path) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    data = file.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def damaged(source: Path, folder: Path, names: tuple[str, ...], number: int) -> Iterator[str]:
    """Copies of a folder with one of its files mutated, a file at a time; yields what was done."""
    weights = next(name for name in names if name.endswith(".safetensors"))
    header, data = split(source / weights)
    for index in range(number):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(source, folder)
        name = names[index % len(names)]
        tree = header if name == weights else json.loads((source / name).read_text())
        text = json.dumps(next(mutations(tree, 1, seed=index))).encode()
        content = struct.pack("<Q", len(text)) + text + data if name == weights else text
        (folder / name).write_bytes(content)
        yield f"{name}, seed {index}"


def test_a_mutated_model_loads_what_it_stores_or_is_refused(
    tiny_base: Path, tmp_path: Path
) -> None:
    stored = load_file(tiny_base / "model.safetensors")
    refused = loads = 0
    folder = tmp_path / "model"
    for what in damaged(tiny_base, folder, (*JSON, "model.safetensors"), FOLDERS):
        try:
            loaded = loading.load(bases.resolve(str(folder)))
        except RetainbenchError as error:
            refused += "\n" not in str(error)
            continue
        loads += 1
        if not what.startswith("model.safetensors"):
            found = loaded.model.state_dict()
            assert all(torch.equal(found[name], value) for name, value in stored.items()), what
    assert loads > 0
    assert refused == FOLDERS - loads


@pytest.fixture
def adapter(tiny_base: Path, tmp_path: Path) -> Path:
    from peft import LoraConfig, get_peft_model

    model = loading.load(tiny_base).model
    config = LoraConfig(r=2, target_modules=["q_proj", "down_proj"], init_lora_weights="gaussian")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        wrapped = get_peft_model(model, config)  # type: ignore[arg-type]
        for name, parameter in wrapped.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter)
    wrapped.save_pretrained(str(tmp_path / "adapter"))
    return tmp_path / "adapter"


def test_a_mutated_adapter_is_used_whole_or_refused(
    tiny_base: Path, adapter: Path, tmp_path: Path
) -> None:
    base = bases.resolve(str(tiny_base))
    untouched = loading.model_digest(loading.load(base))
    refused = loads = 0
    names = ("adapter_config.json", "adapter_config.json", "adapter_model.safetensors")
    for what in damaged(adapter, tmp_path / "mutated", names, FOLDERS):
        try:
            loaded = loading.load(bases.resolve(str(tmp_path / "mutated"), base))
        except RetainbenchError as error:
            refused += "\n" not in str(error)
            continue
        loads += 1
        assert loading.model_digest(loaded) != untouched, f"{what}: scored as its base"
    assert loads > 0
    assert refused == FOLDERS - loads
