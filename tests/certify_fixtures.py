"""Stand-ins for scored models: folders with few bytes, and answers drawn from the tasks' locks.

`Answers` is the callable that `certify` takes: it reads how much a model folder lost from its
config.json and answers the locked items accordingly, so that a whole certificate is made in
milliseconds and without torch.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from safetensors.numpy import save_file

from retainbench.harness.certificate.certify import Certified, Request, certify
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.core.schema import Policy, Suite
from retainbench.harness.scoring.stored import Scoring
from retainbench.harness.tasks import catalogue

TOKENIZER = {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": [["a", "b"]]}, "padding": None}
DAMAGE = {"arithmetic": 0.15}
TASKS = ["capitals", "arithmetic", "date_formats"]
POLICY = Policy(margin=0.05, minimum_items=50, mandatory=TASKS)


def suite(**changes: Any) -> Suite:
    """A suite over one task per axis."""
    stated = {
        "name": "tiny",
        "description": "one task per axis",
        "base": "fruitfly",
        "targets": ["new_facts"],
        "tasks": TASKS,
        "recipes": {"sft": {"method": "sft"}},
        "seeds": [0],
        "budget": {"unit": "steps", "amount": 1},
    }
    return Suite.model_validate(stated | changes)


def model(folder: Path, loses: dict[str, float] | None = None, **config: Any) -> Path:
    """A model folder that `bases.preflight` accepts; `loses` is the share of items per task."""
    folder.mkdir(parents=True)
    save_file({"w": np.full(4, len(loses or {}), dtype=np.float32)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"loses": loses or {}}))
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"} | config))
    return folder


class Answers:
    """Answers 80 % of every task's items, less what the model loses; counts its calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, tuple[str, ...]]] = []

    def __call__(
        self, folder: Path, names: Sequence[str], most: int | None = None
    ) -> list[ItemRecord]:
        self.calls.append((folder.name, tuple(names)))
        loses = json.loads((folder / "config.json").read_text())["loses"]
        return [r for name in names for r in answers(name, loses.get(name, 0.0))[:most]]


def answers(name: str, lost: float) -> list[ItemRecord]:
    """Records of one task: every fifth item wrong, and the first `lost` share of them too."""
    info = catalogue.discover()[name]
    locked = catalogue.lock(info)
    return [
        ItemRecord(
            task=name,
            axis=info.axis,
            item_id=item.id,
            doc_hash=item.doc_hash,
            prompt_hash=item.prompt_hash,
            target_hash=item.target_hash,
            metric="acc",
            cluster=item.cluster,
            chance=item.chance,
            score=float(number % 5 != 0 and number >= lost * len(locked.items)),
        )
        for number, item in enumerate(locked.items)
    ]


def request(evaluate: Answers, **changes: Any) -> Request:
    """A request with recorded settings; changes may be those of `Scoring` or of `Request`."""
    how = {key: changes.pop(key) for key in Scoring._fields if key in changes}
    scoring = Scoring(**({"evaluate": evaluate, "settings": {"dtype": "float32"}} | how))
    return Request(scoring, ["retainbench", "certify"], **changes)


def make(tmp_path: Path, loses: dict[str, float] | None = None, **options: Any) -> Certified:
    """A certificate of a candidate in `tmp_path`, with the base beside it."""
    base = model(tmp_path / "base")
    candidate = model(tmp_path / "candidate", loses)
    asked = request(Answers(), **options)
    out = tmp_path / "cert"
    return certify(str(base), str(candidate), suite(), POLICY, out, asked)


def keys(tmp_path: Path, name: str = "key") -> tuple[Path, Path]:
    """A fresh pair of PEM files: private, public."""
    key = Ed25519PrivateKey.generate()
    pem = serialization.Encoding.PEM
    private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
    private.write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    public.write_bytes(
        key.public_key().public_bytes(pem, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private, public


def edit(path: Path, old: str, new: str) -> None:
    """Replace the first occurrence in a text file; it must be there."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))
