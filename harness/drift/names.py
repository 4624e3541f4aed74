"""Tensor names: which module kind and layer one belongs to, and which pairs with which.

Reads `config.json` for the tie of embedding and head; writes nothing. Names of Llama, Qwen, Gemma,
SmolLM, Mistral, GPT-2 and GPT-NeoX are known; what is not recognised is of kind `other`, fused
projections are `qkv` and `gate_up`. Nothing is skipped in silence: a tensor without a partner
is an error that names it, except stored copies of tied tensors and buffers, which are listed.
"""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path
from typing import NamedTuple

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.files.foreign_json import read_object
from retainbench.harness.models.checks.headers import FLOATS, StoredTensor

_KINDS = (
    ("bias", r"\.bias$"),
    ("norm", r"norm|(^|\.)ln_\w+\.weight$|layer_?scale"),
    ("head", r"(^|\.)(lm_head|embed_out)\."),
    ("embed", r"(^|\.)(embed_tokens|wte|wpe|embed_in|word_embeddings|embed_positions)\."),
    ("qkv", r"(^|\.)(c_attn|qkv_proj|query_key_value|W_?qkv)\."),
    ("gate_up", r"(^|\.)gate_up_proj"),
    ("q", r"(^|\.)(q_proj|query)\."),
    ("k", r"(^|\.)(k_proj|key)\."),
    ("v", r"(^|\.)(v_proj|value)\."),
    ("o", r"(^|\.)(o_proj|out_proj|attn\.c_proj|attention\.dense)\."),
    ("gate", r"(^|\.)(gate_proj|w1)\b"),
    ("up", r"(^|\.)(up_proj|c_fc|fc1|fc_in|dense_h_to_4h|w3)\b"),
    ("down", r"(^|\.)(down_proj|mlp\.c_proj|fc2|fc_out|dense_4h_to_h|w2)\b"),
    ("router", r"(^|\.)(mlp|block_sparse_moe|feed_forward)\.(gate|router)\."),
)
_BUFFER = re.compile(
    r"(rotary_emb\.\w*inv_freq|\.attn\.(bias|masked_bias)|\.attention\.(bias|masked_bias)|position_ids)$"
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out)\.weight$")
_EMBED = re.compile(r"(^|\.)(embed_tokens|wte|embed_in)\.weight$")


class Pairing(NamedTuple):
    """Which stored tensor of the base is compared with which of the candidate."""

    pairs: list[tuple[StoredTensor, StoredTensor]]
    """(base, candidate), in the base's order on disk."""
    copies: list[tuple[StoredTensor, StoredTensor]]
    """Stored head and the embedding it must equal, to be verified."""
    tied: list[str]
    buffers: list[str]
    notes: list[str]


def kind_of(name: str) -> str:
    """Module kind of a parameter.

    >>> [kind_of(n) for n in ("model.layers.3.mlp.up_proj.weight", "h.0.attn.c_proj.weight")]
    ['up', 'o']
    """
    return next((kind for kind, pattern in _KINDS if re.search(pattern, name)), "other")


def layer_of(name: str) -> int | None:
    """0-based depth of a parameter; None outside the stack of layers.

    >>> layer_of("model.layers.11.self_attn.q_proj.weight"), layer_of("model.norm.weight")
    (11, None)
    """
    found = _LAYER.search(name)
    return int(found.group(1)) if found else None


def is_tied(folder: Path, tensors: dict[str, StoredTensor]) -> bool:
    """Whether embedding and head are one tensor: no head is stored, or the config says so."""
    if not any(_HEAD.search(name) for name in tensors):
        return True
    file = folder / "config.json"
    config = read_object(file) if file.exists() else {}
    inner = config.get("text_config", {})
    return bool(config.get("tie_word_embeddings", inner.get("tie_word_embeddings", False)))


def pair(
    base: dict[str, StoredTensor],
    candidate: dict[str, StoredTensor],
    *,
    base_tied: bool,
    candidate_tied: bool,
) -> Pairing:
    """Match tensors by name.

    A head that only one side ties is compared with the other side's embedding, which is what the
    tied model computes with.

    Raises:
        IntegrityError: a parameter is missing, extra, renamed or reshaped, or is not of floats.
    """
    base, candidate = dict(base), dict(candidate)
    copies, tied, notes = _untie(base, candidate, base_tied, candidate_tied)
    buffers = sorted(n for n in base.keys() | candidate.keys() if _BUFFER.search(n))
    for name in buffers:
        base.pop(name, None)
        candidate.pop(name, None)
    candidate = _prefixed(base, candidate)
    notes += _crop(base, candidate)
    _require_same(base, candidate)
    ordered = sorted(base.values(), key=lambda stored: (str(stored.file), stored.start))
    pairs = [(one, candidate[one.name]) for one in ordered]
    return Pairing(pairs, copies, tied, buffers, notes)


def tie_notes(stored: dict[str, StoredTensor], touched: Set[str]) -> list[str]:
    """What an adapter on tied weights means; supplies a head that the adapter unties.

    PEFT adds an adapter to the head or to the embedding alone, so that unmerged the two come apart;
    the head then starts from the embedding. Edits `stored`.
    """
    notes: list[str] = []
    for name in sorted(touched):
        if _HEAD.search(name) and name not in stored:
            stored[name] = _embedding(stored)._replace(name=name)
            notes.append(f"the adapter unties {name} from the embedding")
        elif _EMBED.search(name):
            notes.append(f"the adapter unties {name} from the head, which keeps the base's values")
    return notes


def _untie(
    base: dict[str, StoredTensor],
    candidate: dict[str, StoredTensor],
    base_tied: bool,
    candidate_tied: bool,
) -> tuple[list[tuple[StoredTensor, StoredTensor]], list[str], list[str]]:
    """Drop or supply the head so that both sides name the same tensors; edits the dicts."""
    copies: list[tuple[StoredTensor, StoredTensor]] = []
    tied: list[str] = []
    notes: list[str] = []
    heads = {name for side in (base, candidate) for name in side if _HEAD.search(name)}
    for name in sorted(heads):
        for side, is_one in ((base, base_tied), (candidate, candidate_tied)):
            if is_one and name in side:
                copies.append((side.pop(name), _embedding(side)))
        if base_tied and candidate_tied:
            tied.append(name)
        elif base_tied != candidate_tied:
            side, who = (base, "base") if base_tied else (candidate, "candidate")
            side[name] = _embedding(side)._replace(name=name)
            notes.append(f"{name} is tied to the embedding in the {who} only")
    return copies, tied, notes


def _embedding(side: dict[str, StoredTensor]) -> StoredTensor:
    found = [stored for name, stored in side.items() if _EMBED.search(name)]
    if len(found) != 1:
        raise IntegrityError(
            f"the head is tied, but {len(found)} embeddings are stored; expected 1"
        )
    return found[0]


def _prefixed(
    base: dict[str, StoredTensor], candidate: dict[str, StoredTensor]
) -> dict[str, StoredTensor]:
    """The candidate's tensors with the prefix `model.` that it was saved without, if so."""
    if base.keys() == candidate.keys():
        return candidate
    renamed = {n if n in base else f"model.{n}": stored for n, stored in candidate.items()}
    return renamed if base.keys() == renamed.keys() else candidate


def _crop(base: dict[str, StoredTensor], candidate: dict[str, StoredTensor]) -> list[str]:
    """Compare only the rows of a vocabulary that both sides have; edits the dicts.

    Rows are stored one after the other, so the common ones are the first bytes of both tensors.
    """
    notes = []
    for name in base.keys() & candidate.keys():
        one, other = base[name], candidate[name]
        vocabulary = _EMBED.search(name) or _HEAD.search(name)
        if vocabulary and one.shape != other.shape and one.shape[1:] == other.shape[1:]:
            rows = min(one.shape[0], other.shape[0])
            for side in (base, candidate):
                side[name] = side[name]._replace(shape=(rows, *one.shape[1:]))
            notes.append(
                f"{name}: {one.shape[0]} rows in the base, {other.shape[0]} in the candidate; the "
                f"first {rows} are compared"
            )
    return sorted(notes)


def _require_same(base: dict[str, StoredTensor], candidate: dict[str, StoredTensor]) -> None:
    missing = sorted(base.keys() - candidate.keys())
    extra = sorted(candidate.keys() - base.keys())
    if missing or extra:
        raise IntegrityError(_explain(missing, extra))
    for name, one in base.items():
        other = candidate[name]
        if one.shape != other.shape:
            raise IntegrityError(
                f"{name}: shape {list(one.shape)} in the base, {list(other.shape)} in the candidate"
            )
        if one.dtype not in FLOATS or other.dtype not in FLOATS:
            raise IntegrityError(
                f"{name}: stored as {one.dtype} and {other.dtype}; parameters must be "
                f"{', '.join(FLOATS)}: dequantise the checkpoint first"
            )


def _explain(missing: list[str], extra: list[str]) -> str:
    """One line naming at most three tensors of each sort, and renames that look like a prefix."""
    renamed = [(m, e) for m in missing for e in extra if m.endswith("." + e) or e.endswith("." + m)]
    parts = [
        f"{len(names)} {what}: {', '.join(names[:3])}{' ...' if len(names) > 3 else ''}"
        for what, names in (("missing", missing), ("extra", extra))
        if names
    ]
    hint = f"; {renamed[0][0]} looks renamed to {renamed[0][1]}" if renamed else ""
    return f"the candidate's tensors differ from the base's: {'; '.join(parts)}{hint}"
