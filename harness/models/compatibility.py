"""Whether base and candidate read text alike: tokenizer, special tokens, chat template, window.

Reads the tokenizers of two checked models; loads no weights. What leaves every prompt's
token ids as they are is a remark: added tokens, rows that pad the embedding, another end-of-text
token, a chat template (`certify --template` says which is used), a file saved again. What changes
them asks other questions than the base was asked, so a comparison would mean nothing: that is an
`IntegrityError`, raised before anything is scored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import parse_object, read_object, read_text
from retainbench.harness.core.files.storage import sha256_file
from retainbench.harness.models.checked import Base
from retainbench.harness.models.checks.config_check import TOKENIZER_BYTES
from retainbench.harness.models.checks.foreign import reading

SWITCHES = ("add_bos_token", "add_eos_token")
NAMED = ("bos_token", "eos_token", "unk_token")
FILES = ("tokenizer.model", "vocab.json", "merges.txt")
READ = ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", *FILES)
"""What decides next to tokenizer.json how text becomes ids; so does the model's type."""
FUNCTION = (
    *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "hidden_act", "activation_function"),
    *("rope_theta", "rope_scaling", "rope_parameters", "sliding_window", "num_experts_per_tok"),
    *("logits_scaling", "attention_multiplier", "final_logit_softcapping"),
)
EXTENSIBLE = ("BPE",)
"""Models in which a token without a merge is never made from text."""


def check_alike(base: Base, candidate: Base, texts: Sequence[str] = ()) -> list[str]:
    """Refuse a candidate that reads text in another way than its base.

    Args:
        texts: what both will be asked; its ids must be the same, however the settings differ.

    Returns:
        Remarks on differences that leave all prompts as they are.

    Raises:
        IntegrityError: naming the first difference.
    """
    remarks = [*_compare_windows(base, candidate), *_compare_rows(base, candidate)]
    remarks += _compare_configs(base.model.config, candidate.model.config)
    try:
        return remarks + compare_reading(base, candidate, texts)
    except DifferenceError as difference:
        raise IntegrityError(
            f"{candidate.folder}: its {difference} differs from the base {base.folder}, so both "
            "would be asked different questions; restore the base's, or certify against another "
            "base"
        ) from None


class DifferenceError(Exception):
    """A difference that changes token ids."""


def compare_reading(base: Base, other: Base, texts: Sequence[str] = ()) -> list[str]:
    """Remarks on differences of the tokenizers that leave the ids of all text as they are.

    Raises:
        DifferenceError: naming the first that changes ids.
    """
    if base.reader.resolve() == other.reader.resolve():
        return []
    remarks = _compare_tokenizers(base.reader, other.reader)
    remarks += _compare_settings(base.reader, other.reader)
    _compare_ids(base, other, list(dict.fromkeys(texts)))
    return remarks


def _compare_windows(base: Base, candidate: Base) -> list[str]:
    one, other = base.window, candidate.window
    if one is None or other is None or other >= one:
        return []
    return [
        f"the candidate reads at most {other} tokens, the base {one}: longer prompts are cut from "
        "the left for the candidate only"
    ]


def _compare_rows(base: Base, candidate: Base) -> list[str]:
    one, other = (
        side.model.config.get("text_config", side.model.config).get("vocab_size")
        for side in (base, candidate)
    )
    if one == other:
        return []
    return [f"the candidate's embedding has {other} rows, the base's {one}"]


def _compare_configs(base: dict[str, Any], candidate: dict[str, Any]) -> list[str]:
    """Settings of the model's function that training leaves alone, and drift does not show."""
    return [
        f"config.json: {key} is {base[key]!r} in the base, {candidate[key]!r} in the candidate"
        for key in FUNCTION
        if key in base and key in candidate and base[key] != candidate[key]
    ]


def _compare_tokenizers(base: Path, candidate: Path) -> list[str]:
    files = [folder / "tokenizer.json" for folder in (base, candidate)]
    if not all(file.is_file() for file in files):
        for name in ("tokenizer.json", *FILES):
            if _file_digest(base / name) != _file_digest(candidate / name):
                raise DifferenceError(name)
        return []
    if sha256_file(files[0]) == sha256_file(files[1]):
        return []
    one, other = (_canonical(file) for file in files)
    remarks = _compare_added(one.pop("added_tokens"), other.pop("added_tokens"))
    remarks += _compare_vocabularies(one["model"], other["model"])
    _require_equal(one, other, "tokenizer")
    return remarks or ["the candidate's tokenizer was saved again; it reads text as the base's"]


def _canonical(file: Path) -> dict[str, Any]:
    """A tokenizer as today's tokenizers library writes it, without padding and truncation."""
    from tokenizers import Tokenizer

    stored = parse_object(read_text(file, TOKENIZER_BYTES), str(file), unique=False)
    text = json.dumps(stored | {"padding": None, "truncation": None})
    with reading(file, "the tokenizer"):
        value: dict[str, Any] = json.loads(Tokenizer.from_str(text).to_str())
    return value


def _compare_added(base: list[dict[str, Any]], candidate: list[dict[str, Any]]) -> list[str]:
    """Added tokens of the base must be there unchanged; `special` affects decoding only."""
    before, after = ({token["id"]: token for token in side} for side in (base, candidate))
    for number, token in before.items():
        other = after.get(number, {})
        for key in token.keys() - {"special"}:
            if token[key] != other.get(key):
                raise DifferenceError(f"added token {number} ({str(token['content'])[:40]!r})")
    new = [str(after[number]["content"])[:40] for number in sorted(after.keys() - before.keys())]
    shown = ", ".join(map(repr, new[:4]))
    return [f"the candidate's tokenizer has {len(new)} more tokens: {shown}"] if new else []


def _compare_vocabularies(base: dict[str, Any], candidate: dict[str, Any]) -> list[str]:
    """Drop from both models a vocabulary that means the same; edits them."""
    before, after = base["vocab"], candidate["vocab"]
    if base["type"] not in EXTENSIBLE or not isinstance(after, dict):
        return []
    for token, number in before.items():
        if after.get(token) != number:
            raise DifferenceError(f"vocabulary (token {number}, {token[:40]!r})")
    base["vocab"] = candidate["vocab"] = None
    more = len(after) - len(before)
    return [f"the candidate's vocabulary has {more} more entries, none of them merged"] * (more > 0)


def _require_equal(base: Any, candidate: Any, place: str) -> None:
    """Raise `DifferenceError` with the path of the first difference."""
    if isinstance(base, dict) and isinstance(candidate, dict):
        for key in sorted(base.keys() | candidate.keys()):
            _require_equal(base.get(key), candidate.get(key), f"{place}.{key[:40]}")
    elif isinstance(base, list) and isinstance(candidate, list) and len(base) == len(candidate):
        for number, (one, other) in enumerate(zip(base, candidate, strict=True)):
            if one != other:
                _require_equal(one, other, f"{place}[{number}]")
    elif base != candidate:
        raise DifferenceError(place)


def _compare_settings(base: Path, candidate: Path) -> list[str]:
    one, other = (_settings(folder) for folder in (base, candidate))
    for key in SWITCHES:
        if bool(one.get(key)) != bool(other.get(key)):
            raise DifferenceError(key)
    remarks = [
        f"the candidate's {key} is {_token(other.get(key))!r}, the base's {_token(one.get(key))!r}"
        for key in NAMED
        if _token(one.get(key)) != _token(other.get(key))
    ]
    if _template(base, one) != _template(candidate, other):
        remarks.append("the chat templates differ")
    return remarks


def _compare_ids(base: Base, candidate: Base, texts: list[str]) -> None:
    """The ids of all texts, as the libraries make them: a class, or a token that is named as
    special, changes them without a change of tokenizer.json."""
    names = (*READ, "tokenizer.json")
    same = all(_file_digest(base.reader / n) == _file_digest(candidate.reader / n) for n in names)
    types = {side.model.config.get("model_type") for side in (base, candidate)}
    if not texts or (same and len(types) == 1):
        return
    both = (_ids(side.reader, texts) for side in (base, candidate))
    for text, one, other in zip(texts, *both, strict=True):
        if one != other:
            raise DifferenceError(f"encoding of {text[-60:]!r}")


def _ids(folder: Path, texts: list[str]) -> list[list[int]]:
    from transformers import AutoTokenizer

    with reading(folder, "the tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        ids: list[list[int]] = tokenizer(texts, return_attention_mask=False)["input_ids"]
    return ids


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return read_object(file) if file.is_file() else {}


def _template(folder: Path, config: dict[str, Any]) -> Any:
    file = folder / "chat_template.jinja"
    return read_text(file) if file.is_file() else config.get("chat_template")


def _token(value: Any) -> Any:
    """A special token's text; older files store an object."""
    return value.get("content") if isinstance(value, dict) else value


def _file_digest(file: Path) -> str | None:
    return sha256_file(file) if file.is_file() else None
