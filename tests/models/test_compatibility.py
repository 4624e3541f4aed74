"""What a candidate may change about reading text: remarks where every old id means the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.drift import measure as drift
from retainbench.harness.models import bases, loading
from retainbench.harness.models.compatibility import check_alike

LETTERS = "abcdefghijklmnopqrstuvwxyz1+= ."
VOCABULARY = {token: number for number, token in enumerate(["<end>", "<pad>", *LETTERS, "ab"])}


def tokenizer() -> PreTrainedTokenizerFast:
    made = Tokenizer(models.BPE(VOCABULARY, [("a", "b")]))
    made.pre_tokenizer = pre_tokenizers.Split(" ", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<pad>")


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A random model over a small byte-pair vocabulary."""
    config = LlamaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path / "base")
    tokenizer().save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def remarks(base: Path, change: Callable[[Any, Any], Any]) -> list[str]:
    """What is remarked after `change(model, tokenizer)` was saved."""
    folder = base.with_name("candidate")
    loaded = loading.load(base)
    change(loaded.model, loaded.tokenizer)
    loading.save(loaded, folder)
    found = bases.resolve(str(folder))
    loading.load(found)
    return check_alike(bases.resolve(str(base)), found)


def test_a_saved_copy_reads_alike(base: Path) -> None:
    assert remarks(base, lambda model, tokenizer: None) == []


def test_an_embedding_padded_to_a_multiple_of_64_is_a_remark(base: Path) -> None:
    found = remarks(base, lambda model, _: model.resize_token_embeddings(64))
    assert found == ["the candidate's embedding has 64 rows, the base's 34"]
    report = drift.measure(base, base.with_name("candidate"))
    assert report.overall.frobenius == 0
    assert len(report.notes) == 2
    assert "the first 34 are compared" in report.notes[0]


def test_a_setting_of_the_function_that_drift_does_not_show_is_a_remark(base: Path) -> None:
    def change(model: Any, _: Any) -> None:
        model.config.rms_norm_eps = 0.5

    found = remarks(base, change)
    assert found == ["config.json: rms_norm_eps is 1e-06 in the base, 0.5 in the candidate"]


def test_two_special_tokens_and_a_chat_template_are_remarks(base: Path) -> None:
    def change(model: Any, tokenizer: Any) -> None:
        tokenizer.add_special_tokens({"additional_special_tokens": ["<|user|>", "<|bot|>"]})
        tokenizer.chat_template = "{{ messages }}"
        model.resize_token_embeddings(len(tokenizer))

    assert remarks(base, change) == [
        "the candidate's embedding has 36 rows, the base's 34",
        "the candidate's tokenizer has 2 more tokens: '<|user|>', '<|bot|>'",
        "the chat templates differ",
    ]


def test_another_end_of_text_is_a_remark(base: Path) -> None:
    def change(_: Any, tokenizer: Any) -> None:
        tokenizer.eos_token = "<pad>"

    assert remarks(base, change) == ["the candidate's eos_token is '<pad>', the base's '<end>'"]


def test_a_shorter_window_is_a_remark(base: Path) -> None:
    def change(model: Any, _: Any) -> None:
        model.config.max_position_embeddings = 64

    (found,) = remarks(base, change)
    assert found.startswith("the candidate reads at most 64 tokens, the base 256")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("model", "merges"), [["a", "b"], ["b", "c"]], r"tokenizer\.model\.merges"),
        (("model", "vocab"), VOCABULARY | {"a": 3, "b": 2}, r"vocabulary \(token 2, 'a'\)"),
        (("normalizer",), {"type": "Lowercase"}, r"tokenizer\.normalizer"),
        (("added_tokens", 0, "lstrip"), True, r"added token 0 \('<end>'\)"),
    ],
)
def test_a_tokenizer_that_reads_otherwise_is_refused(
    base: Path, place: tuple[Any, ...], value: Any, message: str
) -> None:
    candidate = Path(shutil.copytree(base, base.with_name("candidate")))
    tree = json.loads((candidate / "tokenizer.json").read_text())
    inner = tree
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    if "merges" in place:
        tree["model"]["vocab"] = {**VOCABULARY, "bc": len(VOCABULARY)}
    (candidate / "tokenizer.json").write_text(json.dumps(tree))
    with pytest.raises(IntegrityError, match=message):
        check_alike(bases.resolve(str(base)), bases.resolve(str(candidate)))


@pytest.mark.parametrize(
    "settings",
    [
        {"tokenizer_class": "GPT2Tokenizer"},
        {"mask_token": "a"},
        {"unk_token": "b"},
        {"extra_special_tokens": ["a"]},
        {"added_tokens_decoder": {"2": {"content": "a"}}},
    ],
)
def test_settings_that_change_the_ids_of_what_is_asked_are_refused(
    base: Path, settings: dict[str, Any]
) -> None:
    candidate = Path(shutil.copytree(base, base.with_name("candidate")))
    file = candidate / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    both = [bases.resolve(str(folder)) for folder in (base, candidate)]
    with pytest.raises(IntegrityError, match="its encoding of 'a b ab' differs from the base"):
        check_alike(both[0], both[1], ["a", "a", "a b ab"])


def test_settings_that_leave_the_ids_are_accepted(base: Path) -> None:
    candidate = Path(shutil.copytree(base, base.with_name("candidate")))
    file = candidate / "tokenizer_config.json"
    settings = {"padding_side": "left", "model_max_length": 99, "tokenizer_class": "Any"}
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))
    both = [bases.resolve(str(folder)) for folder in (base, candidate)]
    assert check_alike(both[0], both[1], ["a b ab"]) == []


def test_a_tokenizer_with_more_entries_than_the_embedding_is_refused(base: Path) -> None:
    made = tokenizer()
    made.add_tokens(["<more>"])
    made.save_pretrained(base)
    with pytest.raises(IntegrityError, match="has token"):
        loading.load(base)
