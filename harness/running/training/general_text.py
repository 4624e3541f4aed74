"""The general text of a stage: what it replays or is anchored on.

Text of a file comes from the catalogue. The base's own text is sampled here, once for each cell, at
temperature 1 from the token that ends a text on, and cleaned of what overlaps the retention tasks;
trainers never see those. Its cost is not charged: it could be stored with the base.
"""

from __future__ import annotations

from pathlib import Path

from retainbench.harness.core.stages import SELF, Stage
from retainbench.harness.models import loading
from retainbench.harness.tasks import contamination, text_files
from retainbench.harness.tasks.catalogue import Catalogue
from retainbench.trainers._shared.contract import TrainingError
from retainbench.trainers._shared.data import generator

SAMPLES = 512
LONGEST = 64
"""Tokens of a text that the base writes."""


def texts_of(
    stage: Stage, base: Path, seed: int, tasks: Catalogue, device: str
) -> dict[str, tuple[str, ...]]:
    """Source -> its texts, for every source that a stage names."""
    files = {file.name: file.texts for file in tasks.texts}
    return {
        source: own_text(base, seed, tasks, device) if source == SELF else files[source]
        for source in stage.texts
    }


def own_text(base: Path, seed: int, tasks: Catalogue, device: str) -> tuple[str, ...]:
    """What the base writes of itself, without what overlaps any retention task of the catalogue.

    Raises:
        TrainingError: nothing is left.
    """
    from retainbench.harness.scoring.decoding import generate
    from retainbench.harness.scoring.stops import stop_rule

    loaded = loading.load(base, device=device)
    tokenizer, config = loaded.tokenizer, loaded.model.config.get_text_config()
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    made = generate(
        loaded.model,
        [[first]],
        max_new_tokens=LONGEST,
        stops=stop_rule([tokenizer.eos_token_id], config.vocab_size),
        samples=SAMPLES,
        temperature=1.0,
        generator=generator(seed, "general text"),
    )
    texts = tokenizer.batch_decode(made.tokens, skip_special_tokens=True)
    retention = [name for name, info in tasks.tasks.items() if info.axis != "target"]
    items = contamination.retention_items(retention, tasks)
    kept = text_files.cleaned([text for text in texts if text.strip()], items)
    if not kept:
        raise TrainingError(
            "all text that the base writes of itself overlaps the retention tasks: name a file of "
            "general text instead of `self`"
        )
    return tuple(kept)
