"""A PEFT adapter loaded onto its base and merged, so that what is scored is what is served.

Reads the adapter's safetensors through PEFT; writes nothing. Every stored tensor must be used and
every parameter of the adapter must be filled. Where the base ties head and embedding, an adapter on
one of them changes that one only when it is served unmerged; merging into the shared tensor would
change both, so the two are untied first.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.models.checks.foreign import reading

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def merge(model: PreTrainedModel, folder: Path) -> PreTrainedModel:
    """Load an adapter onto `model`, which is changed, and merge it.

    Raises:
        IntegrityError: PEFT cannot read it, a stored tensor is not used, or a parameter is missing.
    """
    from peft import PeftConfig, PeftModel

    with reading(folder, "the adapter"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what they announce is checked below
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        wrapped = PeftModel(model, config)
        report = wrapped.load_adapter(str(folder), "default")
    for what, names in (("unused", report.unexpected_keys), ("missing", report.missing_keys)):
        if names:
            raise IntegrityError(
                f"{folder}: {len(names)} tensors are {what} when the adapter is loaded onto its "
                f"base: {', '.join(sorted(names)[:3])}; save it again with save_pretrained"
            )
    untied = _untie(wrapped)
    with reading(folder, "the merged adapter"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        merged: PreTrainedModel = wrapped.merge_and_unload()
    if untied:
        _tie_if_equal(merged)
    return merged


def _untie(wrapped: Any) -> bool:
    """Give each name of a shared parameter a tensor of its own; whether any was shared."""
    import torch

    seen: set[int] = set()
    shared = False
    for module in wrapped.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if id(parameter) in seen:
                copy = torch.nn.Parameter(parameter.detach().clone(), parameter.requires_grad)
                module.register_parameter(name, copy)
                shared = True
            seen.add(id(module._parameters[name]))
    return shared


def _tie_if_equal(model: PreTrainedModel) -> None:
    """Tie head and embedding again where they are still equal, else record the difference."""
    import torch

    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    equal = head is not None and torch.equal(head.weight, embedding.weight)
    if equal:
        head.weight = embedding.weight
    model.config.get_text_config().tie_word_embeddings = equal
    model.config.tie_word_embeddings = equal
