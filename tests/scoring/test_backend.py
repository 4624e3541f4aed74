"""The packed scorer gives lm-eval's numbers on random tries, and admits when it cannot pack."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.api.registry import get_model
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoModelForCausalLM,
    BloomConfig,
    Gemma2Config,
    Gemma3TextConfig,
    GPT2Config,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
)

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.models.inference import frozen
from retainbench.harness.scoring.backend import TrieLM
from retainbench.harness.scoring.packing.packed import score_packed
from retainbench.harness.scoring.packing.single import TokenRequest, score_singly
from retainbench.harness.scoring.packing.trie import Costs, build_trie, plan
from retainbench.harness.scoring.texts import ask

TOLERANCE = 1e-4
"""fp32 equality promised by DESIGN.md decision 3."""
WINDOW = 48
SPECIAL = ("bos_token", "eos_token")
SIZES = {
    "vocab_size": 260,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": WINDOW,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
CONFIGS: dict[str, PreTrainedConfig] = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "gemma2": Gemma2Config(**SIZES, head_dim=4),
    "gemma3": Gemma3TextConfig(**SIZES, head_dim=4),
    "gpt2": GPT2Config(
        vocab_size=260,
        n_embd=16,
        n_layer=2,
        n_head=4,
        n_positions=WINDOW,
        bos_token_id=256,
        eos_token_id=256,
    ),
    "sliding": MistralConfig(**SIZES, sliding_window=32),
    "alibi": BloomConfig(
        vocab_size=260, hidden_size=16, n_layer=2, n_head=4, bos_token_id=256, eos_token_id=256
    ),
    "recurrent": MambaConfig(vocab_size=260, hidden_size=16, num_hidden_layers=2, state_size=4),
}
PACKABLE = ["llama", "qwen2", "gemma2", "gemma3", "gpt2"]


@cache
def model_of(family: str) -> Any:
    """A random model whose predictions depend strongly on what it attends to."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(CONFIGS[family], dtype=torch.float32)
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "A_log" not in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    alphabet = sorted(ByteLevel.alphabet())
    vocabulary = {c: i for i, c in enumerate(alphabet)} | {"<end>": 256, "Ġa": 257, "ab": 258}
    bpe = Tokenizer(BPE(vocab=vocabulary, merges=[("Ġ", "a"), ("a", "b")]))
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bpe.decoder = ByteLevelDecoder()
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **dict.fromkeys(SPECIAL, "<end>"))


def instances(*pairs: tuple[str, str]) -> list[Instance]:
    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def assert_same(ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> None:
    assert [greedy for _, greedy in ours] == [greedy for _, greedy in theirs]
    np.testing.assert_allclose(
        [value for value, _ in ours], [value for value, _ in theirs], rtol=0, atol=TOLERANCE
    )


def against_lm_eval(family: str, pairs: list[tuple[str, str]]) -> TrieLM:
    """Score with both, compare, and return ours."""
    requests = instances(*pairs)
    ours = TrieLM(model_of(family), tokenizer=tokenizer(), max_length=WINDOW)
    peer = HFLM(model_of(family), tokenizer=tokenizer(), max_length=WINDOW, batch_size=8)
    assert_same(ours.loglikelihood(requests), peer.loglikelihood(requests, disable_tqdm=True))
    return ours


tokens = st.lists(st.integers(0, 3), min_size=1, max_size=9)


@st.composite
def request_lists(draw: st.DrawFn) -> list[TokenRequest]:
    """Requests that share prefixes often: few distinct tokens, some contexts long and common."""
    stems = draw(st.lists(st.lists(st.integers(0, 3), max_size=14), min_size=1, max_size=3))
    requests = []
    for tail in draw(st.lists(tokens, min_size=1, max_size=12)):
        inputs = draw(st.sampled_from(stems)) + tail
        count = draw(st.integers(1, len(inputs)))
        targets = draw(st.permutations(range(4))) * len(inputs)
        requests.append(TokenRequest(inputs, targets[:count]))
    return requests


@given(st.lists(tokens, min_size=1, max_size=14), st.sampled_from([0.0, 0.5, 5.0, 1e9]))
@settings(max_examples=60, deadline=None)
def test_plan_covers_each_prefix_and_masks_are_ancestry(
    sequences: list[list[int]], stem_price: float
) -> None:
    trie = build_trie(sequences)
    prefixes = {tuple(s[: n + 1]) for s in sequences for n in range(len(s))}
    assert trie.token.size == len(prefixes)
    text = {
        int(node): tuple(sequences[request][: depth + 1])
        for request, path in zip(trie.order, trie.paths, strict=True)
        for depth, node in enumerate(path)
    }
    assert set(text.values()) == prefixes
    stems = plan(trie, Costs(pair=0.01, stem=stem_price, row_tokens=12))
    covered: set[int] = set()
    for stem in stems:
        covered.update(stem.nodes.tolist())
        for row in stem.rows:
            covered.update(row.nodes.tolist())
            for q, node in enumerate(row.nodes):
                seen = [int(row.nodes[k]) for k in range(q + 1) if q < row.ends[k]]
                assert [text[n] for n in seen] == [
                    text[int(node)][: n + 1] for n in range(stem.depth, len(text[int(node)]))
                ]
    assert covered == set(range(trie.token.size))


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@given(requests=request_lists(), budget=st.integers(1, 60), stem=st.sampled_from([0.0, 2.0, 1e9]))
@settings(max_examples=25, deadline=None)
def test_packing_changes_no_number_whatever_the_budget(
    family: str, requests: list[TokenRequest], budget: int, stem: float
) -> None:
    model = model_of(family)
    with frozen(model):
        alone = score_singly(model, requests, "reference")
        packed = score_packed(model, requests, budget=budget, costs=Costs(0.01, stem, 16))
    np.testing.assert_allclose(packed.loglikelihood, alone.loglikelihood, rtol=0, atol=TOLERANCE)
    assert packed.greedy.tolist() == alone.greedy.tolist()
    assert packed.work.unique_nodes == alone.work.unique_nodes <= packed.work.computed


@given(st.lists(st.tuples(st.text("ab ", max_size=60), st.text("ab", min_size=1, max_size=5))
                .map(lambda pair: (pair[0] if pair[0].strip() else "", " " + pair[1])),
                min_size=1, max_size=8))  # fmt: skip
@settings(max_examples=20, deadline=None)
def test_random_texts_score_as_in_lm_eval(pairs: list[tuple[str, str]]) -> None:
    against_lm_eval("llama", pairs)


CASES = {
    "single request": [("a cab", " b")],
    "empty context": [("", " ab"), ("", "b"), ("", "<end>ab")],
    "one choice a prefix of another": [("Q: a", " ab"), ("Q: a", " ab ab"), ("Q: a", " ab ab b")],
    "duplicates": [("x a", " b"), ("x a", " b"), ("x a", " ab"), ("x a", " b")],
    "context ends in spaces": [("a b  ", "c"), ("a b", "  c"), ("a b ", "c")],
    "starts with the first token": [("<end>a b", " c"), ("a b", " c")],
    "longer than the window": [("ab c" * 40, " d"), ("x" + "ab c" * 40, " ddd"), ("ab", " d" * 23)],
}


@pytest.mark.parametrize("case", CASES)
def test_edge_cases_score_as_in_lm_eval(case: str) -> None:
    assert against_lm_eval("gpt2", CASES[case]).work is not None


@pytest.mark.parametrize("family", PACKABLE)
def test_families_are_packed_and_equal_lm_eval(family: str) -> None:
    shots = "Q: 1 a\nA: b\n\nQ: 2\nA: c\n\n"
    pairs = [(shots + f"Q: {q}\nA:", f" {a}") for q in ("a", "ab", "b c") for a in ("ab", "c", "b")]
    work = against_lm_eval(family, pairs).work
    assert work is not None
    assert work.obstacle is None
    assert work.unique_nodes <= work.computed <= 1.1 * work.unique_nodes


@pytest.mark.parametrize("family", ["sliding", "alibi", "recurrent"])
def test_models_that_cannot_be_packed_say_so_once(
    family: str, caplog: pytest.LogCaptureFixture
) -> None:
    shots = "Q: c\nA: d\n\n" * 3
    pairs = [(f"{shots}Q: {q}\nA:", a) for q, a in (("abc", " ab"), ("abc", " cc"), ("abb", " c"))]
    with caplog.at_level(logging.WARNING, logger="retainbench.harness.scoring.backend"):
        ours = against_lm_eval(family, pairs)
        ours.loglikelihood(instances(*pairs))
    assert ours.work is not None
    assert ours.work.obstacle
    told = [r for r in caplog.records if r.name == "retainbench.harness.scoring.backend"]
    assert [ours.work.obstacle in record.getMessage() for record in told] == [True]


def test_a_window_longer_than_the_inputs_is_no_obstacle() -> None:
    work = against_lm_eval("sliding", [("ab", " c"), ("ab", " d")]).work
    assert work is not None
    assert work.obstacle is None


def test_rolling_equals_lm_eval() -> None:
    texts = ["", "a", "ab c" * 40, "ab c" * 3, "b" * WINDOW, "b" * (WINDOW + 1)]
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    ours = TrieLM(model_of("llama"), tokenizer=tokenizer(), max_length=WINDOW)
    peer = HFLM(model_of("llama"), tokenizer=tokenizer(), max_length=WINDOW)
    np.testing.assert_allclose(
        ours.loglikelihood_rolling(requests),
        peer.loglikelihood_rolling(requests, disable_tqdm=True),
        rtol=0,
        atol=TOLERANCE,
    )


@pytest.fixture
def small_memory() -> Iterator[Any]:
    """A model that runs out of memory on more than 24 tokens in a pass."""
    model = model_of("llama")

    def refuse(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].numel() > 24:
            raise torch.OutOfMemoryError("more than 24 tokens")

    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    yield model
    handle.remove()


def test_running_out_of_memory_halves_the_budget(small_memory: Any) -> None:
    requests = [TokenRequest([1, 2, 3, i, j], [j, i]) for i in range(6) for j in range(6)]
    with frozen(small_memory):
        packed = score_packed(small_memory, requests, budget=64, costs=Costs(0.01, 0.0, 16))
        alone = score_singly(small_memory, requests, "reference")
    np.testing.assert_allclose(packed.loglikelihood, alone.loglikelihood, rtol=0, atol=TOLERANCE)
    assert packed.work.budget <= 24


def test_a_row_that_never_fits_is_an_error(small_memory: Any) -> None:
    with frozen(small_memory), pytest.raises(MemoryError, match="30 tokens"):
        score_packed(small_memory, [TokenRequest([1] * 30, [1])])


def test_training_state_and_random_numbers_are_left_alone() -> None:
    config = LlamaConfig(**SIZES, attention_dropout=0.5)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.train()
    model.model.layers[0].eval()
    flags = [module.training for module in model.modules()]
    implementation = model.config._attn_implementation
    before = torch.get_rng_state()
    ours = TrieLM(model, tokenizer=tokenizer(), max_length=WINDOW)
    requests = instances(("ab", " c"), ("ab", " ab"))
    first, second = ours.loglikelihood(requests), ours.loglikelihood(requests)
    assert first == second
    assert torch.equal(before, torch.get_rng_state())
    assert flags == [module.training for module in model.modules()]
    assert model.config._attn_implementation == implementation


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # PEFT's own
def test_an_adapter_is_scored_with_its_weights() -> None:
    peft = pytest.importorskip("peft")
    base = AutoModelForCausalLM.from_config(CONFIGS["llama"], dtype=torch.float32)
    config = peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False)
    model = peft.get_peft_model(base, config)
    requests = instances(("ab c", " c"), ("ab c", " ab"), ("ab", " ab"))
    ours = TrieLM(model, tokenizer=tokenizer(), max_length=WINDOW)
    peer = HFLM(model, tokenizer=tokenizer(), max_length=WINDOW)
    assert_same(ours.loglikelihood(requests), peer.loglikelihood(requests, disable_tqdm=True))
    assert ours.work is not None
    assert ours.work.obstacle is None


def test_a_continuation_without_tokens_is_refused() -> None:
    ours = TrieLM(model_of("llama"), tokenizer=tokenizer(), max_length=WINDOW)
    with pytest.raises(IntegrityError, match="cannot score 0 tokens"):
        ours.loglikelihood(instances(("", "<end>")))


def test_lm_eval_finds_the_model_by_name() -> None:
    assert get_model("retainbench") is TrieLM


def test_a_small_model_is_scored_by_one_thread() -> None:
    """Its numbers do not depend on how many there are; afterwards there are as many."""
    model, seen, before = model_of("llama"), [], torch.get_num_threads()
    hook = model.register_forward_pre_hook(lambda *_: seen.append(torch.get_num_threads()))
    torch.set_num_threads(2)
    try:
        with frozen(model):
            score_packed(model, [TokenRequest([1, 2, 3], [4])])
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)
        hook.remove()


def test_order_and_repetition_change_nothing() -> None:
    pairs = [(f"a b {q}", f" {a}") for q in "abc" for a in ("a", "ab", "c")]
    ours = TrieLM(model_of("llama"), tokenizer=tokenizer(), max_length=WINDOW)
    answers = dict(zip(pairs, ours.loglikelihood(instances(*pairs)), strict=True))
    other = [*reversed(pairs), *pairs[:3]]
    assert ours.loglikelihood(instances(*other)) == [answers[pair] for pair in other]


def test_a_remembered_layout_serves_another_model_but_no_other_tokens() -> None:
    """Texts are the same throughout; what they ask depends on tokenizer, prefix and window."""
    pairs = [("x ab a", " ab"), ("", " a ab")]
    requests = instances(*pairs)
    against_lm_eval("llama", pairs)
    other = AutoModelForCausalLM.from_config(CONFIGS["llama"], dtype=torch.float32)
    before = ask.cache_info()
    ours = TrieLM(other, tokenizer=tokenizer(), max_length=WINDOW)
    peer = HFLM(other, tokenizer=tokenizer(), max_length=WINDOW)
    assert_same(ours.loglikelihood(requests), peer.loglikelihood(requests, disable_tqdm=True))
    after = ask.cache_info()
    assert (after.hits, after.misses) == (before.hits + 1, before.misses)
    characters = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(BPE(vocab=tokenizer().get_vocab(), merges=[])),
        **dict.fromkeys(SPECIAL, "<end>"),
    )
    characters.backend_tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    for options in ({}, {"prefix_token_id": 97}, {"max_length": 5}):
        ours = TrieLM(model_of("llama"), tokenizer=characters, **options)
        peer = HFLM(model_of("llama"), tokenizer=characters, **options)
        assert_same(ours.loglikelihood(requests), peer.loglikelihood(requests, disable_tqdm=True))


def test_lm_eval_finds_the_model_by_its_entry_point() -> None:
    """Versions newer than 0.4.13 look there; this one has the command line of ours."""
    (found,) = entry_points(group="lm_eval.models", name="retainbench")
    assert found.load() is TrieLM
    (command,) = entry_points(group="console_scripts", name="retainbench-lm-eval")
    assert command.value == "retainbench.harness.scoring.backend:main"
    assert callable(command.load())
