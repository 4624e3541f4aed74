"""Freezing: what a pack holds of a JSONL file or of an lm-eval task, and what is refused.

An lm-eval task and its pack must ask the same and score the same, item for item; a random model
answers, since only the questions and the arithmetic are under test.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fixtures.packs import (
    CHOICE,
    HEAD,
    PLAIN,
    REFUSED,
    answer_rows,
    choice_rows,
    make_pack,
    write_jsonl,
    write_sources,
)
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.models import loading
from retainbench.harness.scoring import evaluate
from retainbench.harness.tasks import catalogue, freeze, from_lm_eval, lm_eval_index, pack
from retainbench.harness.tasks.from_lm_eval import FreezeChoices
from retainbench.tasks import _numeric

pytestmark = pytest.mark.filterwarnings("ignore")


def test_choices_of_a_jsonl_become_a_task(tmp_path: Path) -> None:
    """Items, axis, kind and provenance; fields that nothing uses are named."""
    rows = [row | {"note": "x"} for row in choice_rows()]
    info = make_pack(tmp_path / "pack", rows=rows, licence="CC0")
    assert (info.axis, info.kind, info.n_items, info.licence) == (
        "numeric",
        "multiple_choice",
        8,
        "CC0",
    )
    assert catalogue.items(info)[3] == choice_rows()[3] | {"cluster": "sum:3"}
    assert catalogue.prompts(info)[3] == "Question: 3 + 1?\nAnswer:"
    provenance = json.loads((info.folder / "provenance.json").read_text())
    assert provenance["left_out_of_scoring"] == ["note"]
    assert provenance["context"] == "none"
    catalogue.verify_lock(info)


def test_the_same_items_give_the_same_lock(tmp_path: Path) -> None:
    """Wherever and however often they are frozen."""
    locks = {
        catalogue.lock_digest(make_pack(tmp_path / place / "pack", licence="CC0"))
        for place in ("one", "two")
    }
    assert len(locks) == 1


def test_minimal_pairs_are_compared_without_a_prompt(tmp_path: Path) -> None:
    """Empty queries: no question is put round them and nothing before the sentences."""
    info = make_pack(tmp_path / "pack", rows=[row | {"query": ""} for row in choice_rows()])
    assert info.template[:2] == ("{{query}}", "")
    assert set(catalogue.prompts(info)) == {""}


def test_prompt_and_cluster_are_the_users(tmp_path: Path) -> None:
    """A prompt keeps its words; a cluster groups items."""
    rows = [row | {"cluster": "one"} for row in choice_rows()]
    info = make_pack(tmp_path / "pack", rows=rows, prompt="Sum {{query}} =")
    assert catalogue.prompts(info)[2] == "Sum 2 + 1? ="
    assert {item.cluster for item in catalogue.lock(info).items} == {"one"}


@pytest.mark.parametrize(
    ("prompt", "said"),
    [("no place for it", "query"), ("{{query|upper}}", "query"), ("{% if 1 %}{{query}}", "query")],
)
def test_a_prompt_is_text_around_the_query(tmp_path: Path, prompt: str, said: str) -> None:
    with pytest.raises(IntegrityError, match=said):
        make_pack(tmp_path / "pack", prompt=prompt)
    assert not (tmp_path / "pack" / "sums").exists()


def test_a_name_that_is_taken_is_refused(tmp_path: Path) -> None:
    """By a file name's rules, by the package's tasks, by what lies there."""
    for name in ("../sums", "a b", ""):
        with pytest.raises(UsageError, match="cannot name"):
            freeze.write(
                freeze.from_jsonl(
                    write_jsonl(tmp_path / "a.jsonl", choice_rows()), name, "general"
                ),
                tmp_path / "pack",
            )
    with pytest.raises(UsageError, match="is a task of retainbench"):
        make_pack(tmp_path / "pack", name="capitals")
    make_pack(tmp_path / "pack")
    with pytest.raises(UsageError, match="exists already"):
        make_pack(tmp_path / "pack")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": "x", "query": "q", "choices": ["a", "b"], "gold": 2}, "gold 2"),
        ({"id": "x", "query": "q"}, "neither choices nor an answer"),
        ({"id": "x", "query": "q", "choices": ["a", "b"]}, "gold None"),
        ({"id": None, "query": "q", "choices": ["a", "b"], "gold": 0}, "id"),
        ({"id": True, "query": "q", "choices": ["a", "b"], "gold": 0}, "id"),
        ({"id": "x", "query": "q", "answer": ""}, "empty"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [row])
    with pytest.raises(UsageError, match=f"a.jsonl:1.*{said}"):
        freeze.from_jsonl(file, "sums", "numeric")


def test_choices_and_answers_do_not_mix(tmp_path: Path) -> None:
    file = write_jsonl(tmp_path / "a.jsonl", [choice_rows()[0], answer_rows()[1]])
    with pytest.raises(UsageError, match=r"a\.jsonl:2: item sum:1"):
        freeze.from_jsonl(file, "sums", "numeric")


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("18", 1.0),
        (" 18.0.", 1.0),
        ("$18", 1.0),
        ("3 + 15 = 18", 1.0),
        ("eighteen", 0.0),
        ("-18", 0.0),
        ("18\n19", 1.0),
        ("19 or 18 or 20", 0.0),
        ("1,018", 0.0),
        ("9" * 5_000, 0.0),
    ],
)
def test_numbers_are_compared_by_value(said: str, value: float) -> None:
    """tasks/_numeric.py: the last number of the first line."""
    assert _numeric.match({"answer": "18", "aliases": []}, [said])["exact_match"] == value
    assert _numeric.match({"answer": "1,018.50", "aliases": []}, ["1018.5"])["exact_match"] == 1.0


def test_numeric_answers_must_be_numbers(tmp_path: Path) -> None:
    rows = [*answer_rows(3), {"id": "word", "query": "q", "answer": "four"}]
    with pytest.raises(UsageError, match=r"sums\.jsonl:4: item word: the answer is not a number"):
        make_pack(tmp_path / "pack", rows=rows, match="numeric")


@pytest.mark.parametrize("match", ["exact", "numeric"])
def test_gold_answers_score_one_through_the_packs_own_code(tmp_path: Path, match: str) -> None:
    """The task that lm-eval gets judges a gold answer right and another one wrong."""
    info = make_pack(tmp_path / "pack", rows=answer_rows(), match=match)
    task = pack.lm_eval_task(info)
    for doc in task.eval_docs:
        assert task.process_results(doc, [f" {doc['answer']}"])["exact_match"] == 1.0
        assert task.process_results(doc, ["77"])["exact_match"] == 0.0
    assert task.config.generation_kwargs["max_gen_toks"] == info.max_new_tokens == 16


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("sources"), PLAIN)


@pytest.fixture(scope="module")
def packed(
    sources: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, catalogue.TaskInfo]:
    """Every plain source as a pack."""
    out = tmp_path_factory.mktemp("frozen")
    made = lm_eval_index.load(list(PLAIN), sources)
    return {
        name: freeze.write(from_lm_eval.frozen(name, task, FreezeChoices("numeric")), out)
        for name, task in made
    }


@pytest.fixture(scope="module")
def logged(sources: Path, tiny_base: Path) -> dict[str, list[dict[str, Any]]]:
    """lm-eval's own samples of the sources."""
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    results = simple_evaluate(
        model=HFLM(str(tiny_base), device="cpu", dtype="float32", batch_size=1),
        tasks=list(PLAIN),
        task_manager=TaskManager(include_path=str(sources), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    return results["samples"]


@pytest.mark.parametrize("name", list(PLAIN))
def test_a_pack_asks_and_scores_what_its_source_did(
    name: str,
    packed: dict[str, catalogue.TaskInfo],
    logged: dict[str, list[dict[str, Any]]],
    tiny_base: Path,
) -> None:
    """Prompts, log-likelihoods and the decisive metric, item for item."""
    info = packed[name]
    rows = [row for row in logged[name] if row["filter"] in ("none", "first")]
    records = evaluate.evaluate(loading.load(tiny_base), [info])
    assert len(records) == len(rows) == 9
    for record, row in zip(records, sorted(rows, key=lambda r: r["doc_id"]), strict=True):
        assert record.item_id == f"{name}:{row['doc_id']}"
        assert (record.prompt_hash, record.filter) == (row["prompt_hash"], row["filter"])
        expected = next((row[metric] for metric in from_lm_eval.METRICS if metric in row), None)
        if expected is None:  # documents: lm-eval's logs hold (log-likelihood, words)
            likelihood, _ = row["word_perplexity"]
            assert record.choice_logprobs == pytest.approx([likelihood], abs=1e-4)
            continue
        assert record.score == expected
        if record.choice_logprobs is not None:
            theirs = [response[0][0] for response in row["resps"]]
            assert record.choice_logprobs == pytest.approx(theirs, abs=1e-4)
        else:
            assert record.response == row["resps"][0][0]


def test_shots_are_frozen_with_each_item(packed: dict[str, catalogue.TaskInfo]) -> None:
    """Description and two solved examples stand in the query; the provenance says so."""
    info = packed["src_shots"]
    assert info.shots == 2
    for prompt in catalogue.prompts(info):
        assert prompt.startswith("Sums.\n\n")
        assert prompt.count("plus 2?") == 2
        assert prompt.count("plus 1?") == 1
    provenance = json.loads((info.folder / "provenance.json").read_text())
    assert provenance["context"].startswith("2 shots")
    assert provenance["versions"]["lm-eval"]


def test_what_is_not_scored_is_listed(packed: dict[str, catalogue.TaskInfo]) -> None:
    """Perplexity is no score per item; the second filter does not decide."""
    for name, left in (
        ("src_likelihood", ["metric perplexity"]),
        ("src_generate", ["filter whole"]),
    ):
        provenance = json.loads((packed[name].folder / "provenance.json").read_text())
        assert provenance["left_out_of_scoring"] == left


def _frozen(folder: Path, name: str, choices: FreezeChoices | None = None) -> freeze.Frozen:
    found, task = next(lm_eval_index.load([name], folder))
    return from_lm_eval.frozen(found, task, choices or FreezeChoices("general"))


def test_filter_cluster_and_shots_are_the_users(sources: Path, tmp_path: Path) -> None:
    choices = FreezeChoices("temporal", filter="whole", cluster="page", shots=0, licence="MIT")
    info = freeze.write(_frozen(sources, "src_generate", choices), tmp_path)
    assert (info.axis, info.licence, info.shots) == ("temporal", "MIT", 0)
    assert catalogue.prompts(info)[0] == "Sums.\n\nWhat is 0 plus 1?\nA:"
    assert [item.cluster for item in catalogue.lock(info).items[2:4]] == ["page 0", "page 1"]
    with pytest.raises(UsageError, match="no filter 'other'; it has first, whole"):
        _frozen(sources, "src_generate", FreezeChoices("general", filter="other"))
    with pytest.raises(UsageError, match="no field 'chapter'"):
        _frozen(sources, "src_generate", FreezeChoices("general", cluster="chapter"))


@pytest.mark.parametrize("name", list(REFUSED))
def test_what_has_no_plain_form_is_refused(name: str, tmp_path: Path) -> None:
    """One line that begins with the task."""
    folder = write_sources(tmp_path / "sources", {name: REFUSED[name]})
    with pytest.raises(UsageError, match=f"^{name}: ") as caught:
        _frozen(folder, name)
    assert "\n" not in str(caught.value)


def test_items_that_cannot_be_asked_are_left_out_and_listed(tmp_path: Path) -> None:
    source = HEAD.replace("code.load", "code.twice") + CHOICE
    made = _frozen(write_sources(tmp_path / "sources", {"spoiled": source}), "spoiled")
    left = {item.id: item.reason for item in made.provenance.left_out}
    assert left == {
        "spoiled:2": "two equal choices",
        "spoiled:4": "the right answer is not among the choices",
    }
    assert freeze.write(made, tmp_path / "pack").n_items == made.provenance.items == 7


def test_an_unknown_task_is_a_usage_error(sources: Path) -> None:
    with pytest.raises(UsageError, match="knows no task 'nothing'"):
        next(lm_eval_index.load(["nothing"], sources))


CASES = Path(__file__).parents[3] / "shared" / "cases" / "real" / "freeze_rows"


@pytest.mark.skipif(not CASES.is_dir(), reason=f"{CASES} is not here")
@pytest.mark.parametrize("name", ["numid", "answerint", "bom"])
def test_rows_as_people_write_them_are_read(name: str, tmp_path: Path) -> None:
    """Numbers as ids and answers, and a byte order mark."""
    info = freeze.write(freeze.from_jsonl(CASES / f"{name}.jsonl", name, "numeric"), tmp_path)
    rows = catalogue.items(info)
    assert len(rows) == len((CASES / f"{name}.jsonl").read_text().splitlines())
    assert rows[0]["id"] == {"numid": "0", "answerint": "a0", "bom": "q0"}[name]
    assert rows[0].get("answer", "1") == "1"
