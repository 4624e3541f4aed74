"""Stands where a pack is scored by code of lm-eval's own, which only retainbench looks up.

Nothing of retainbench or of the task is imported here. Plain `lm_eval --include_path PACK` stops,
instead of scoring the items in some other way.
"""

from collections.abc import Mapping
from typing import Any


def score(doc: Mapping[str, Any], results: list[Any]) -> dict[str, float]:
    """Raises RuntimeError: the score is not defined by this folder alone."""
    raise RuntimeError(
        f"item {doc['id']} is scored by lm-eval's own code for its task; run it with "
        "`retainbench evaluate MODEL TASK --pack PACK --allow-task-code`"
    )
