"""Damaged and hostile model folders end in one line that names the file, in seconds.

Each row of `DAMAGE` goes through what `evaluate` does before it scores: `bases.resolve` and
`loading.load`.
"""

from __future__ import annotations

import json
import os
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from retainbench.harness.core.errors import IntegrityError, RetainbenchError, UsageError
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, loading

WEIGHTS = "model.safetensors"
Damage = Callable[[Path], Any]


@pytest.fixture
def copy(tiny_base: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_base, tmp_path / "copy"))


def edit(name: str, **changes: Any) -> Damage:
    """Set keys of a JSON file."""

    def apply(folder: Path) -> None:
        value = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(value | changes))

    return apply


def write(name: str, content: bytes | str) -> Damage:
    data = content if isinstance(content, bytes) else content.encode()

    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)

    return apply


def special(name: str, make: Callable[[Path], Any]) -> Damage:
    """Replace a file by a pipe, a folder or a link."""

    def apply(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return apply


def header(change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Edit the header of the weights and keep the data."""

    def apply(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        value = json.loads(data[8 : 8 + length])
        change(value)
        text = json.dumps(value).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return apply


def length(number: int) -> Damage:
    return lambda f: (f / WEIGHTS).write_bytes(
        struct.pack("<Q", number) + (f / WEIGHTS).read_bytes()[8:]
    )


def tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Damage:
    def apply(folder: Path) -> None:
        stored = load_file(folder / WEIGHTS)
        change(stored)
        stored = {name: value.contiguous() for name, value in stored.items()}
        save_file(stored, folder / WEIGHTS, metadata={"format": "pt"})

    return apply


def renamed(old: str, new: str) -> Damage:
    return tensors(
        lambda t: t.update({k.replace(old, new, 1): t.pop(k) for k in list(t) if old in k})
    )


def index(weight_map: Any, **files: Any) -> Damage:
    def apply(folder: Path) -> None:
        (folder / WEIGHTS).rename(folder / "part.safetensors")
        text = json.dumps({"weight_map": weight_map})
        (folder / "model.safetensors.index.json").write_text(text)

    return apply


def poke(name: str, place: int, value: float) -> Damage:
    return tensors(lambda t: t[name].view(-1).__setitem__(place, value))


DEEP = "[" * 100_000
NORM = "model.norm.weight"

DAMAGE: dict[str, tuple[Damage, str]] = {
    "header length 2^63": (length(2**63), "header claims"),
    "header length 2^31": (length(2**31), "header claims"),
    "header length 100MB-1": (length(10**8 - 1), "header claims"),
    "header not json": (write(WEIGHTS, struct.pack("<Q", 8) + b"{{{{{{{{"), "not valid JSON"),
    "header deep": (write(WEIGHTS, struct.pack("<Q", 10**5) + DEEP.encode()), "nested"),
    "offsets overlap": (
        header(lambda h: h[NORM].update(data_offsets=[0, 128])),
        "overlaps",
    ),
    "offset past end": (
        header(lambda h: h[NORM].update(data_offsets=[10**9, 10**9 + 128])),
        "leaves a gap",
    ),
    "shape huge": (header(lambda h: h[NORM].update(shape=[2**61, 4])), "does not fit"),
    "shape negative": (header(lambda h: h[NORM].update(shape=[-32])), "whole numbers"),
    "dtype unknown": (header(lambda h: h[NORM].update(dtype="F99")), "unknown dtype"),
    "truncated half": (
        lambda f: os.truncate(f / WEIGHTS, (f / WEIGHTS).stat().st_size // 2),
        "truncated",
    ),
    "empty file": (write(WEIGHTS, b""), "too short"),
    "8 bytes": (write(WEIGHTS, b"12345678"), "too short"),
    "all zero bytes": (write(WEIGHTS, bytes(4096)), "not valid JSON"),
    "weights folder": (special(WEIGHTS, Path.mkdir), "not a regular file"),
    "weights fifo": (special(WEIGHTS, os.mkfifo), "not a regular file"),
    "weights /dev/zero link": (
        special(WEIGHTS, lambda p: p.symlink_to("/dev/zero")),
        "not a regular file",
    ),
    "weights dangling link": (special(WEIGHTS, lambda p: p.symlink_to("gone")), "a link to a file"),
    "special fifo": (special("notes.txt", os.mkfifo), "not a regular file"),
    "inf": (poke("model.embed_tokens.weight", 0, float("inf")), "NaN or infinite"),
    "-inf last": (poke("model.embed_tokens.weight", -1, float("-inf")), "NaN or infinite"),
    "missing layer tensor": (
        tensors(lambda t: t.pop("model.layers.1.mlp.up_proj.weight")),
        "1 missing keys",
    ),
    "unused tensor": (tensors(lambda t: t.update(extra=torch.ones(2))), "1 unexpected keys"),
    "shape transposed": (
        tensors(lambda t: t.update({(k := "model.layers.0.mlp.up_proj.weight"): t[k].T})),
        "1 mismatched keys",
    ),
    "tied to another head": (
        edit("config.json", tie_word_embeddings=True),
        "the stored head differs from the embedding",
    ),
    "integers": (
        tensors(lambda t: t.update({NORM: t[NORM].to(torch.int8)})),
        "model.norm.weight is stored as I8",
    ),
    "8 bits": (
        tensors(lambda t: t.update({NORM: t[NORM].to(torch.float8_e4m3fn)})),
        "model.norm.weight is stored as F8_E4M3",
    ),
    "torch.compile": (renamed("model.", "_orig_mod.model."), "torch.compile"),
    "torch.compile inside": (renamed("mlp.", "mlp._orig_mod."), "torch.compile"),
    "DDP": (renamed("", "module."), "DistributedDataParallel"),
    "PEFT": (renamed("", "base_model.model."), "PEFT"),
    "vocab larger in config": (edit("config.json", vocab_size=5000), "vocab_size is 5000"),
    "vocab smaller in config": (edit("config.json", vocab_size=32), "vocab_size is 32"),
    "hidden 0": (edit("config.json", hidden_size=0), "hidden_size is '0'"),
    "hidden -1": (edit("config.json", hidden_size=-1), "hidden_size is '-1'"),
    "hidden text": (edit("config.json", hidden_size="x"), "hidden_size is 'x'"),
    "hidden 10^6": (edit("config.json", hidden_size=10**6), "no stored tensor"),
    "layers 10^6": (edit("config.json", num_hidden_layers=10**6), "num_hidden_layers"),
    "layers 60000": (edit("config.json", num_hidden_layers=60_000), "the weights hold 2 layers"),
    "layers 1": (edit("config.json", num_hidden_layers=1), "unexpected keys"),
    "heads 0": (edit("config.json", num_attention_heads=0), "num_attention_heads is '0'"),
    "heads 7": (
        lambda f: edit("config.json", num_attention_heads=7, head_dim=None)(f),
        "cannot be split into 7 heads",
    ),
    "intermediate 10^9": (edit("config.json", intermediate_size=10**9), "describes a model of"),
    "model_type unknown": (edit("config.json", model_type="nothing"), "nothing"),
    "model_type missing": (edit("config.json", model_type=None), "model_type must"),
    "auto_map": (edit("config.json", auto_map={"A": "b.C"}), "remote code"),
    "auto_map inside": (edit("config.json", generation={"auto_map": {}}), "remote code"),
    "tokenizer auto_map": (edit("tokenizer_config.json", auto_map={"A": "b.C"}), "remote code"),
    "activation unknown": (edit("config.json", hidden_act="nothing"), "cannot be read"),
    "rope bogus": (edit("config.json", rope_parameters={"rope_type": "x"}), "cannot be read"),
    "config empty": (write("config.json", ""), "not valid JSON"),
    "config {}": (write("config.json", "{}"), "model_type must"),
    "config list": (write("config.json", "[]"), "expected a JSON object"),
    "config invalid utf8": (write("config.json", b'{"a": "\xff"}'), "not UTF-8"),
    "config BOM": (
        lambda f: (f / "config.json").write_text("\ufeff" + (f / "config.json").read_text()),
        "byte order mark",
    ),
    "config deep": (write("config.json", '{"a":' + DEEP), "nested"),
    "config folder": (special("config.json", Path.mkdir), "not a regular file"),
    "config number huge": (write("config.json", '{"a": ' + "9" * 100_000 + "}"), "not valid JSON"),
    "config dup keys": (
        write("config.json", '{"model_type": "a", "model_type": "b"}'),
        "duplicate",
    ),
    "tokenizer_config list": (write("tokenizer_config.json", "[]"), "expected a JSON object"),
    "tokenizer_config deep": (write("tokenizer_config.json", '{"a":' + DEEP), "nested"),
    "tokenizer_config utf8": (write("tokenizer_config.json", b'"\xff"'), "not UTF-8"),
    "tokenizer json empty": (write("tokenizer.json", ""), "not valid JSON"),
    "tokenizer json {}": (write("tokenizer.json", "{}"), "with `model`"),
    "tokenizer bogus model": (
        write("tokenizer.json", '{"model": {"type": "x", "vocab": {}}}'),
        "cannot be read",
    ),
    "token id 2^31": (
        edit("tokenizer.json", model={"type": "WordLevel", "vocab": {"a": 2**31}}),
        "token ids must be",
    ),
    "tokenizer folder": (special("tokenizer.json", Path.mkdir), "not a regular file"),
    "tokenizer no eos": (edit("tokenizer_config.json", eos_token=None), "no end-of-text token"),
    "special_tokens_map bad": (write("special_tokens_map.json", "{]"), "not valid JSON"),
    "generation_config bad": (write("generation_config.json", '{"a":'), "not valid JSON"),
    "chat template binary": (write("chat_template.jinja", b"\xff\xfe"), "not UTF-8"),
    "index weight_map list": (index([]), "weight_map must map"),
    "index outside": (index({"a": "../x.safetensors"}), "not the plain name"),
    "index absolute": (index({"a": "/etc/x.safetensors"}), "not the plain name"),
    "index NUL": (index({"a": "\0.safetensors"}), "not the plain name"),
    "index absent shard": (index({"a": "gone.safetensors"}), "missing"),
    "index unlisted tensor": (index({"model.norm.weight": "part.safetensors"}), "does not list"),
    "index deep": (write("model.safetensors.index.json", '{"weight_map":' + DEEP), "nested"),
    "index next to weights": (
        write("model.safetensors.index.json", '{"weight_map": {"a": "model.safetensors"}}'),
        "does not list",
    ),
    "second set": (
        lambda f: shutil.copy(f / WEIGHTS, f / "model-00001-of-00002.safetensors"),
        "two sets of weights",
    ),
    "gguf next to it": (write("model.Q4_0.gguf", b"GGUF"), "two sets of weights"),
    "adapter next to it": (write("adapter_config.json", "{}"), "adapter_model.safetensors"),
    "other name": (lambda f: (f / WEIGHTS).rename(f / "x.safetensors"), "found x.safetensors"),
    "pickle": (write("pytorch_model.bin", b"x"), "pickled weights"),
    "pickle in shards": (write("pytorch_model-00001-of-00002.bin", b"x"), "pickled weights"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_folder_is_refused_in_one_line(copy: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(copy)
    with pytest.raises(IntegrityError) as caught:
        loading.load(bases.resolve(str(copy)))
    assert message in str(caught.value)
    assert str(copy) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["weights fifo", "weights folder", "index deep", "second set"])
def test_drift_refuses_the_same_folders(tiny_base: Path, copy: Path, name: str) -> None:
    damage, message = DAMAGE[name]
    damage(copy)
    with pytest.raises(IntegrityError, match=message):
        drift.measure(tiny_base, copy)


@pytest.mark.parametrize(
    "quantisation",
    [{"quant_method": "gptq", "bits": 4}, {"quant_method": "bitsandbytes", "load_in_4bit": True}],
)
def test_a_library_that_a_quantised_model_needs_is_named(
    copy: Path, quantisation: dict[str, Any]
) -> None:
    edit("config.json", quantization_config=quantisation)(copy)
    with pytest.raises(RetainbenchError, match="needs a library that is not installed"):
        loading.load(copy)


def test_a_gguf_alone_says_how_to_name_it(copy: Path) -> None:
    (copy / WEIGHTS).rename(copy / "model.Q4_0.gguf")
    with pytest.raises(IntegrityError, match=r"name the file itself, as in .*:model.Q4_0.gguf"):
        bases.resolve(str(copy))


def test_a_checkpoint_of_a_trainer_is_accepted_and_its_state_never_opened(copy: Path) -> None:
    names = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")
    for name in names:
        (copy / name).write_bytes(b"cos\nsystem\n(S'exit 3'\ntR.")
    (copy / "trainer_state.json").write_text('{"global_step": 3}')
    (copy / "modeling_custom.py").write_text("raise SystemExit(3)")
    found = bases.resolve(str(copy))
    assert found.notes == (
        "not opened: optimizer.pt, rng_state.pth, scheduler.pt, training_args.bin (state of a "
        "trainer)",
        "never imported: modeling_custom.py",
    )
    assert loading.load(found).model.dtype == torch.float32


def test_shards_load_as_one_file_does(tiny_base: Path, copy: Path) -> None:
    whole = loading.load(tiny_base)
    (copy / WEIGHTS).unlink()
    whole.model.save_pretrained(copy, max_shard_size="40KB")
    assert len(list(copy.glob("model-*.safetensors"))) > 1
    assert loading.model_digest(loading.load(copy)) == loading.model_digest(whole)
    assert drift.measure(tiny_base, copy).overall.frobenius == 0


def test_a_folder_is_checked_again_when_a_file_changes(copy: Path) -> None:
    first = bases.resolve(str(copy))
    assert bases.resolve(str(copy)).weights is first.weights
    tensors(lambda t: t[NORM].add_(1))(copy)
    assert bases.resolve(str(copy)).digest != first.digest


def test_a_path_that_no_system_accepts_is_an_unknown_base() -> None:
    for reference in ("x" * 5000, "a\0b"):
        with pytest.raises(UsageError, match="unknown base"):
            bases.resolve(reference)
