"""As a chat, our scores are those of `lm_eval --apply_chat_template`, item by item."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from fixtures.chats import save_chat
from retainbench.harness.core import paths
from retainbench.harness.core.schema import Format
from retainbench.harness.models import loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.rendering import chat

NAMES = ["capitals", "date_formats", "countdown"]
LIMIT = 3


@pytest.mark.parametrize(
    ("format", "options"),
    [
        (Format(template="chat"), {}),
        (
            Format(template="chat", system="Be short."),
            {"system_instruction": "Be short.", "fewshot_as_multiturn": True},
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_scores_equal_those_of_lm_eval(
    format: Format, options: dict[str, Any], tmp_path: Path
) -> None:
    """Two tasks of choices and one that generates; log-likelihoods to 1e-4."""
    save_chat(tmp_path, "chatml")
    loaded = loading.load(tmp_path)
    infos = catalogue.OWN.find(NAMES)
    rendering = chat.of(loaded.tokenizer, format)
    ours = evaluate.evaluate(loaded, infos, limit=LIMIT, rendering=rendering)
    found = simple_evaluate(
        model=HFLM(loaded.model, tokenizer=loaded.tokenizer, batch_size=4),
        tasks=[info.lm_eval_name for info in infos],
        task_manager=TaskManager(include_path=str(paths.TASKS), include_defaults=False),
        limit=LIMIT,
        apply_chat_template=True,
        bootstrap_iters=0,
        **options,
    )
    samples = {
        (info.name, str(row["doc"]["id"])): row
        for info in infos
        for row in found["samples"][info.lm_eval_name]
    }
    assert len(ours) == len(samples) == len(NAMES) * LIMIT
    for record in ours:
        row = samples[record.task, record.item_id]
        assert record.score == row[record.metric]
        if record.choice_logprobs is None:
            assert record.response == row["resps"][0][0]
            continue
        theirs = [float(answer[0][0]) for answer in row["resps"]]
        assert record.choice_logprobs == pytest.approx(theirs, abs=1e-4)
