"""Engines: GGUF files dequantised and in llama.cpp, models of lm-eval, and what they may not do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import retainbench
from fixtures import gguf
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models import bases
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.engines import protocol
from retainbench.harness.scoring.engines.opening import OURS, EngineChoice, chosen
from retainbench.harness.scoring.engines.sides import engines_of

ITEMS = 12
TASK = "capitals"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """fruitfly as GGUF files of two types; their dequantised folders go into a cache of our own."""
    folder = tmp_path_factory.mktemp("gguf")
    base = bases.resolve("fruitfly").folder
    return {kind: gguf.write(base, folder / f"{kind}.gguf", kind) for kind in ("F32", "Q4_0")}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def records(
    model: str | Path, engine: EngineChoice = OURS, names: Sequence[str] = (TASK,)
) -> list[ItemRecord]:
    base = bases.resolve("fruitfly")
    resolved = bases.resolve(str(model), base)
    tasks = evaluate.of_model(resolved, names, ITEMS, engine=engine)
    return [record for found in tasks for record in found]


def likelihoods(found: Sequence[ItemRecord]) -> np.ndarray:
    return np.array([record.choice_logprobs for record in found])


def test_a_gguf_file_in_float32_answers_as_its_base(files: dict[str, Path]) -> None:
    """The same weights, cast from bfloat16: equal to the last digit."""
    assert records(files["F32"]) == records("fruitfly")
    assert records(f"{files['F32'].parent}:F32.gguf") == records("fruitfly")


def test_a_quantised_file_answers_otherwise(files: dict[str, Path]) -> None:
    difference = np.abs(likelihoods(records(files["Q4_0"])) - likelihoods(records("fruitfly")))
    assert 0.01 < difference.max() < 20


@pytest.mark.parametrize("kind", ["F32", "Q4_0"])
def test_llama_cpp_answers_as_the_dequantised_weights(files: dict[str, Path], kind: str) -> None:
    """Q4_0's kernels round activations to 8 bits; fruitfly's own splitting of numbers is not in the
    file, so tasks with numbers would be read otherwise."""
    pytest.importorskip("llama_cpp")
    ours, theirs = records(files[kind]), records(files[kind], chosen("llama.cpp"))
    allowed = 0.01 if kind == "F32" else 1.5
    assert np.abs(likelihoods(ours) - likelihoods(theirs)).max() < allowed
    agree = [one.response == other.response for one, other in zip(ours, theirs, strict=True)]
    assert sum(agree) >= ITEMS - 1


def test_llama_cpp_generates_as_the_dequantised_weights(files: dict[str, Path]) -> None:
    pytest.importorskip("llama_cpp")
    names = ["countdown"]
    ours = records(files["F32"], names=names)
    theirs = records(files["F32"], chosen("llama.cpp"), names)
    assert [record.valid for record in ours] == [record.valid for record in theirs]


def test_llama_cpp_needs_a_gguf_file() -> None:
    pytest.importorskip("llama_cpp")
    with pytest.raises(UsageError, match=r"llama.cpp reads GGUF files; give model.gguf"):
        records("fruitfly", chosen("llama.cpp"))


def test_lm_eval_loads_a_model_of_its_own() -> None:
    """lm-eval's `hf` in float32 computes what ours does (test_backend.py: within 1e-4)."""
    engine = chosen("lm-eval:hf", "dtype=float32")
    assert (
        np.abs(likelihoods(records("fruitfly", engine)) - likelihoods(records("fruitfly"))).max()
        < 1e-4
    )


def test_the_verb_and_the_function_score_with_an_engine(files: dict[str, Path]) -> None:
    table = retainbench.evaluate(
        files["F32"], TASK, limit=ITEMS, engine="lm-eval:hf", engine_args="dtype=float32"
    )
    assert table["score"].tolist() == [record.score for record in records("fruitfly")]
    with pytest.raises(UsageError, match="other engines and workers need"):
        retainbench.evaluate((None, None), TASK, engine="lm-eval:hf")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("llamacpp", "", "unknown engine 'llamacpp'; did you mean 'llama.cpp'"),
        ("lm-eval:", "", "unknown engine"),
        ("transformers", "dtype=float32", "the engine transformers takes none"),
        ("lm-eval:hf", "dtype", "'dtype' is not key=value"),
    ],
)
def test_a_wrong_engine_is_one_line(name: str, arguments: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        chosen(name, arguments)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("lm-eval:h", r"lm-eval has no model 'h'"),
        ("lm-eval:sglang", "sglang"),
        ("lm-eval:local-completions", "--engine-args"),
    ],
)
def test_a_model_that_lm_eval_cannot_make_is_one_line(engine: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        records("fruitfly", chosen(engine))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"floor": "base.gguf"}, "both sides have the same"),
        ({"floor_arguments": "model=m"}, "both sides have the same"),
        ({"base_arguments": "model=m", "candidate_engine": "lm-eval:hf"}, "takes none"),
        ({"base_arguments": "", "base_engine": "lm-eval:hf", "arguments": "a=b"}, "takes none"),
    ],
)
def test_an_argument_that_no_side_takes_is_refused(given: dict[str, str], message: str) -> None:
    sides: dict[str, str | None] = {"base_engine": "transformers", "candidate_engine": None}
    if "base_engine" in given:
        sides["candidate_engine"] = "transformers"
    unset = dict.fromkeys(("base_arguments", "floor", "floor_arguments"))
    with pytest.raises(UsageError, match=message):
        engines_of(**({"arguments": "", "base": "b"} | unset | sides | given))


def test_secrets_are_not_written_down() -> None:
    settings = chosen("lm-eval:local-completions", "auth_token=abc,tokenizer=x,model=m").settings()
    assert settings["arguments"] == "auth_token=(hidden),model=m,tokenizer=x"
    assert chosen("lm-eval:hf", 'header={"a":"b,c=d"},trust=True').parsed()["trust"] is True


def test_the_base_itself_is_the_floor_where_the_engine_reads_it() -> None:
    def floor(engine: str, base: str, given: str | None = None, arguments: str = "") -> str | None:
        return engines_of("transformers", engine, arguments, None, given, None, base).floor

    assert floor("lm-eval:hf", "base") == "base"
    assert floor("llama.cpp", "base") is None
    assert floor("llama.cpp", "base.gguf") == "base.gguf"
    assert floor("lm-eval:local-completions", "base", arguments="base_url=x") is None
    assert floor("llama.cpp", "base", "base-f32.gguf") == "base-f32.gguf"
    with pytest.raises(UsageError, match="add --engine-floor-args"):
        floor("lm-eval:local-completions", "base", "base", "base_url=x")


class Wrong:
    """An engine that gives one wrong answer."""

    name = "wrong"

    def __init__(self, answers: object) -> None:
        self.answers = answers

    def likelihoods(self, prompts: object) -> object:
        return self.answers

    texts = None


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([(-1.0, True)], "1 answers to 2 prompts"),
        ([(-1.0, True), (float("nan"), True)], "nan for the log-likelihood of 'b'"),
        ([(-1.0, True), (float("-inf"), True)], "-inf"),
        ([(-1.0, True), (None, True)], "None"),
        (None, "failed to give log-likelihoods: TypeError"),
    ],
)
def test_a_wrong_answer_ends_the_command(answers: object, message: str) -> None:
    with pytest.raises(IntegrityError, match=message):
        protocol.checked_likelihoods(Wrong(answers), [("a", "a"), ("a", "b")])  # type: ignore[arg-type]


def test_another_vocabulary_is_refused(files: dict[str, Path], tiny_base: Path) -> None:
    with pytest.raises(IntegrityError, match="its vocabulary is not that of"):
        bases.resolve(str(files["F32"]), bases.of_folder(tiny_base))


def test_a_broken_file_and_a_missing_one_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(IntegrityError, match="the GGUF file cannot be read"):
        bases.resolve(str(tmp_path / "broken.gguf"))
    (tmp_path / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(IntegrityError, match=r"pointer\.gguf: not a GGUF file"):
        bases.resolve(str(tmp_path / "pointer.gguf"))
    with pytest.raises(UsageError, match=r"has no file q4.gguf. Write model.gguf"):
        bases.resolve(f"{tmp_path}:q4.gguf")
    with pytest.raises(UsageError, match=r"name the file, as in .*:broken.gguf"):
        bases.resolve(str(tmp_path))
