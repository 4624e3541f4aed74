"""Can this model be scored packed? Its configuration may forbid it; a probe decides otherwise.

The probe scores a few made-up requests both ways. Any model whose attention does not go through
transformers' interface, drops the pack, or mixes tokens in another way (recurrent states, biases by
distance in the sequence) gives different numbers and is scored request by request instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from retainbench.harness.models.inference import frozen
from retainbench.harness.scoring.packing.packed import score_packed
from retainbench.harness.scoring.packing.single import TokenRequest, score_singly
from retainbench.harness.scoring.packing.trie import Costs
from retainbench.harness.scoring.transformers_patches import is_stateful

FP32_TOLERANCE = 1e-4
"""Largest difference per request left to fp32 rounding: the equality the scorer promises."""
SHARE = 0.1
"""Other dtypes: this share of the effect that seeing a sibling branch would have."""


def configured_obstacle(model: Any, longest: int) -> str | None:
    """Why the configuration forbids packing inputs of up to `longest` tokens, or None."""
    config = model.config.get_text_config()
    devices = set(map(str, (getattr(model, "hf_device_map", None) or {}).values()))
    if len(devices) > 1:
        return f"its layers are on {len(devices)} devices, and packed rows need one"
    if is_stateful(model):
        return f"{config.model_type} carries a recurrent state from token to token"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if other := sorted(kinds - {"full_attention", "sliding_attention"}):
        return f"{config.model_type} has layers of type {', '.join(other)}"
    window = getattr(config, "sliding_window", None)
    everywhere = getattr(config, "layer_types", None) is None
    sliding = "sliding_attention" in kinds or (
        everywhere and getattr(config, "use_sliding_window", True)
    )
    if window and sliding and longest >= window:
        return f"the sliding window of {window} tokens is shorter than inputs of {longest}"
    rope = getattr(config, "rope_parameters", None) or {}
    scaling = rope.get("rope_type") if isinstance(rope.get("rope_type"), str) else None
    if scaling in ("dynamic", "longrope"):
        return f"rotary positions of type {scaling} depend on the length of the whole pass"
    return None


def probed_obstacle(model: Any) -> str | None:
    """Score a few tokens both ways; a description of the difference, or None."""
    requests, seeing = _probe_requests(model.config.get_text_config().vocab_size)
    with frozen(model):
        alone = score_singly(model, requests, "probe").loglikelihood
        mixed = score_singly(model, seeing, "probe").loglikelihood
        try:
            # A stem that costs nothing is always taken, so the probe covers shared keys too.
            packed = score_packed(model, requests, costs=Costs(1e-3, 0.0)).loglikelihood
        except (TypeError, ValueError) as error:
            return f"its forward pass refuses packed rows ({error})"
    difference = np.abs(packed - alone)
    leak = np.abs(mixed - alone[: mixed.size]).max()
    exact = str(model.dtype) == "torch.float32"
    allowed = FP32_TOLERANCE if exact else max(FP32_TOLERANCE, SHARE * float(leak))
    if bool((difference <= allowed).all()):
        return None
    return f"packed and single scores differ by {difference.max():.2g} on a probe"


def _probe_requests(vocabulary: int) -> tuple[list[TokenRequest], list[TokenRequest]]:
    """Branching requests, and the first two again with a sibling branch left in their context."""
    ids = [int(i) for i in (np.arange(24) * 37 + 11) % vocabulary]
    shared, left, right, other = ids[:6], ids[6:10], ids[10:15], ids[15:]
    requests = [
        TokenRequest(shared + left, right[:3]),
        TokenRequest(shared + right, left[:3]),
        TokenRequest(shared, left[:1]),
        TokenRequest(other, shared[:4]),
    ]
    seeing = [
        TokenRequest(shared + right + left, right[:3]),
        TokenRequest(shared + left + right, left[:3]),
    ]
    return requests, seeing
