"""A recipe's `adaptation` -> the config that PEFT wraps a model with.

    adaptation: lora
    adaptation: {kind: lora, rank: 16, alpha: 32}
    adaptation: {peft_type: VERA, r: 64, target_modules: [q_proj, v_proj]}

LoRA with a rank is ours: every linear layer but the head, scale alpha / rank, 2 by default. With
`peft_type` every other key is one of PEFT's own config, with PEFT's default where it is left out;
`target_modules` defaults to every linear layer but the head. DORA is LORA with `use_dora`. Types
that cannot be merged into weights are refused, because they could not be scored as they are served.
Imports PEFT when called.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from retainbench.harness.core import names
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.stages import Adaptation, AnyAdapter
from retainbench.harness.models.checks.adapter_config import PROMPTS, REFUSED, ROUTERS

DORA = "DORA"
OURS = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "peft_type",
    "peft_version",
    "revision",
    "task_type",
}
"""Keys of every config that are not the user's to set."""
ALL = "all-linear"


def peft_config(adaptation: Adaptation | AnyAdapter) -> Any:
    """The config of an adapter.

    Raises:
        UsageError: PEFT has no such type or key, refuses a value, or could not merge the adapter.
    """
    if isinstance(adaptation, AnyAdapter):
        return _of_any(adaptation)
    from peft import LoraConfig

    rank, alpha = adaptation.rank, adaptation.alpha
    return LoraConfig(
        r=rank,
        lora_alpha=alpha if alpha is not None else 2 * rank,
        target_modules=ALL,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _of_any(adaptation: AnyAdapter) -> Any:
    from peft import PEFT_TYPE_TO_CONFIG_MAPPING

    unmerged = {*PROMPTS, *ROUTERS}
    if adaptation.peft_type in unmerged:
        raise UsageError(
            f"peft_type: {adaptation.peft_type} cannot be merged into weights, so neither scores "
            "nor drift could be measured. Use one that changes weights, such as LORA"
        )
    types = {kind.value: config for kind, config in PEFT_TYPE_TO_CONFIG_MAPPING.items()}
    types[DORA] = types["LORA"]
    names.require(adaptation.peft_type, set(types) - unmerged, "peft_type")
    config = types[adaptation.peft_type]
    allowed = {field.name for field in dataclasses.fields(config) if field.init}
    allowed -= OURS | REFUSED.keys()
    for key in adaptation.settings:
        names.require(key, allowed, adaptation.peft_type)
    given: dict[str, Any] = {"target_modules": ALL} if "target_modules" in allowed else {}
    given |= adaptation.settings
    if adaptation.peft_type == DORA:
        given["use_dora"] = True
    try:
        return config(task_type="CAUSAL_LM", **given)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{adaptation.peft_type}: {' '.join(str(error).split())}") from error
