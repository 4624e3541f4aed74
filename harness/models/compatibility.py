"""Whether base and candidate read text alike: tokenizer, special tokens, chat template, parent.

Reads tokenizer.json, tokenizer_config.json, chat_template.jinja and adapter_config.json of two
model folders; loads nothing. A changed tokenizer or template asks other questions than the base was
asked, so a comparison of the answers would mean nothing: that is an `IntegrityError`, not a
warning. Padding and truncation do not count (they do not change a prompt that fits).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.storage import digest, sha256_file
from retainbench.harness.models import bases, identity

TOKENS = ("bos_token", "eos_token", "unk_token", "add_bos_token", "add_eos_token")
FILES = ("tokenizer.model", "vocab.json", "merges.txt")


def check_alike(base: Path, candidate: Path) -> None:
    """Refuse a candidate that reads text in another way than its base.

    An adapter folder without a tokenizer uses its base's, so only its parent is checked.

    Raises:
        IntegrityError: naming the file that differs, or the adapter's other base.
    """
    if is_adapter(candidate):
        _check_parent(base, candidate)
        if not any((candidate / name).is_file() for name in bases.TOKENIZER_FILES):
            return
    mine, theirs = reading(base), reading(candidate)
    for part in mine:
        if mine[part] != theirs[part]:
            raise IntegrityError(
                f"{candidate}: its {part} differs from that of the base {base}, so both would be "
                "asked different questions; restore the base's, or certify against another base"
            )


def reading(folder: Path) -> dict[str, Any]:
    """What determines the tokens of a prompt, in a form that does not depend on who saved it."""
    config = _object(folder / "tokenizer_config.json")
    return {
        "tokenizer": _tokenizer(folder),
        "special tokens": {key: _token(config.get(key)) for key in TOKENS},
        "chat template": _template(folder, config),
    }


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds a PEFT adapter instead of full weights."""
    return (folder / "adapter_config.json").is_file()


def _check_parent(base: Path, candidate: Path) -> None:
    parent = str(_object(candidate / "adapter_config.json").get("base_model_name_or_path"))
    if bases.resolve(parent).digest != identity.folder_digest(base):
        raise IntegrityError(f"{candidate}: was trained on {parent}, not on the base {base}")


def _tokenizer(folder: Path) -> str:
    """Digest of the tokenizer; its JSON without padding, truncation and the two forms of merges."""
    if not (folder / "tokenizer.json").is_file():
        present = [folder / name for name in FILES if (folder / name).is_file()]
        return digest({path.name: sha256_file(path) for path in present})
    value = _object(folder / "tokenizer.json")
    value["padding"] = value["truncation"] = None
    model = value.get("model") or {}
    merges = model.get("merges") or []
    model["merges"] = [pair if isinstance(pair, str) else " ".join(pair) for pair in merges]
    return digest(value)


def _template(folder: Path, config: dict[str, Any]) -> Any:
    file = folder / "chat_template.jinja"
    return file.read_text(encoding="utf-8") if file.is_file() else config.get("chat_template")


def _token(value: Any) -> Any:
    """A special token's text; older files store an object. A switch that is off may be left out."""
    if isinstance(value, dict):
        return value.get("content")
    return value or None


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise IntegrityError(f"{path}: not valid JSON") from error
    return value if isinstance(value, dict) else {}
