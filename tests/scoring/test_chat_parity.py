"""As a chat, our scores are those of `lm_eval --apply_chat_template`, item by item.

The real base is SmolLM2-135M-Instruct, restored from a 4-bit file, where it was fetched.
"""

from __future__ import annotations

from typing import Any

import pytest
from lm_eval import simple_evaluate
from lm_eval.models.huggingface import HFLM
from lm_eval.tasks import TaskManager

from fixtures.chats import save_chat
from retainbench.harness.core import paths
from retainbench.harness.core.schema import Format
from retainbench.harness.models import bases, loading
from retainbench.harness.models.loading import Loaded
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.rendering import chat

NAMES = ["capitals", "date_formats", "countdown"]
LIMIT = 3


@pytest.fixture(scope="module")
def chatml(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("chatml")
    save_chat(folder, "chatml")
    return loading.load(folder)


@pytest.fixture(scope="module")
def smollm2() -> Loaded:
    folder = bases.named()["smollm2-135m"]
    if not folder.is_dir():
        pytest.skip("smollm2-135m is not there: `retainbench bases fetch smollm2-135m`")
    return loading.load(folder)


@pytest.mark.parametrize("base", ["chatml", pytest.param("smollm2", marks=pytest.mark.slow)])
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
    format: Format, options: dict[str, Any], base: str, request: pytest.FixtureRequest
) -> None:
    """Two tasks of choices and one that generates; log-likelihoods to 1e-4."""
    loaded: Loaded = request.getfixturevalue(base)
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
