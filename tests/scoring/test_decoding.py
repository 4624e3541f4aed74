"""Decoding equals transformers' greedy decoding, stops where it should, and depends on its seed."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from tokenizers import Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    TopPLogitsWarper,
)

from retainbench.harness.core.errors import UsageError
from retainbench.harness.scoring import decoding, decoding_rows
from retainbench.harness.scoring.backend import TrieLM
from retainbench.harness.scoring.completions import Completions, nucleus
from retainbench.harness.scoring.decoding import generate
from retainbench.harness.scoring.stops import stop_rule

VOCABULARY, END = 260, 256
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "bos_token_id": END,
    "eos_token_id": END,
    "pad_token_id": END,
}
CONFIGS: dict[str, Any] = {
    "llama": LlamaConfig(**SIZES),
    "gpt2": GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=128),
    "sliding": MistralConfig(**SIZES, sliding_window=6),
}
NEVER = stop_rule((), VOCABULARY)


@cache
def model_of(family: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = CONFIGS[family]
        config.bos_token_id = config.eos_token_id = END
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@cache
def tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {c: i for i, c in enumerate(sorted(ByteLevel.alphabet()))} | {"<end>": END}
    bpe = Tokenizer(BPE(vocab=vocabulary, merges=[]))
    bpe.pre_tokenizer = ByteLevel(add_prefix_space=False)
    bpe.decoder = ByteLevelDecoder()
    names = ("bos_token", "eos_token", "pad_token")
    return PreTrainedTokenizerFast(tokenizer_object=bpe, **dict.fromkeys(names, "<end>"))


def reference(family: str, prompt: list[int], steps: int) -> list[int]:
    """transformers' own greedy continuation of one prompt, never stopping."""
    out = model_of(family).generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        max_new_tokens=steps,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=END,
    )
    return out[0, len(prompt) :].tolist()


def sample(seed: int, rows: int | None = None, **changes: Any) -> Completions:
    prompts = [[1, 2, 3], [4], [1, 2, 3], [5, 6, 7, 8, 9, 10]]
    options: dict[str, Any] = {"samples": 3, "temperature": 1.0, "max_new_tokens": 8} | changes
    return generate(
        model_of("llama"),
        prompts,
        stops=stop_rule(range(0, 250, 9), VOCABULARY),
        generator=torch.Generator().manual_seed(seed),
        logprobs=True,
        rows=rows,
        **options,
    )


prompts_strategy = st.lists(
    st.lists(st.integers(0, 255), min_size=1, max_size=9), min_size=1, max_size=6
)


@pytest.mark.parametrize("family", ["llama", "gpt2", "sliding"])
@given(
    prompts=prompts_strategy, shared=st.sampled_from([0, 12]), rows=st.sampled_from([None, 1, 2])
)
@settings(max_examples=8, deadline=None)
def test_greedy_equals_transformers(
    family: str, prompts: list[list[int]], shared: int, rows: int | None
) -> None:
    prompts = [list(range(shared)) + prompt for prompt in prompts]
    out = generate(model_of(family), prompts, max_new_tokens=6, stops=NEVER, rows=rows)
    assert out.tokens == [reference(family, prompt, 6) for prompt in prompts]
    assert out.stopped == [False] * len(prompts)


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("shared", [0, 9])
def test_prompts_read_in_several_passes_are_answered_alike(
    family: str, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Passes of one, two or three prompts and of other widths: padding is put in front."""
    numbers = np.random.default_rng(shared)
    start = numbers.integers(0, 250, shared).tolist()
    prompts = [start + numbers.integers(0, 250, n).tolist() for n in (3, 14, 5, 9, 4, 3, 21)]
    wanted = [reference(family, prompt, 8) for prompt in prompts]
    monkeypatch.setitem(decoding_rows.PREFILL_TOKENS, "cpu", 16)
    found = generate(model_of(family), prompts, max_new_tokens=8, stops=NEVER)
    assert found.tokens == wanted


def test_buffers_grow_past_their_first_room() -> None:
    out = generate(model_of("llama"), [[1, 2], [3]], max_new_tokens=80, stops=NEVER)
    assert out.tokens == [reference("llama", [1, 2], 80), reference("llama", [3], 80)]


def test_the_cache_holds_what_running_rows_have_written() -> None:
    """Room for a quarter more at most, whatever the longest answer may be; rows that left, not."""
    forward = decoding_rows.Forward(model_of("gpt2"))
    with torch.inference_mode():
        rows = decoding_rows.Rows(forward, [[1], [2], [3]], 0, steps=10_000)
        for step in range(100):
            rows.step(torch.tensor([4] * len(rows.lengths_B)), step)
            if step == 50:
                rows.take(torch.tensor([2]))
    keys = rows.layers[0].keys
    assert rows.cache.get_seq_length() == 101
    assert keys.shape[0] == 1
    assert keys.shape[2] <= 101 * 5 // 4 + decoding_rows.ROOM


def test_keys_and_values_are_bounded_and_accounted_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of 2 + 60 tokens fit the bound; a buffer has up to a quarter more room, and ROOM."""
    each = 2 * 2 * 2 * 4 * 4  # keys and values, layers, key heads, head size, bytes
    monkeypatch.setitem(decoding.CACHE_BYTES, "cpu", 2 * 62 * each)
    prompts = [[i, i + 1] for i in range(5)]
    out = generate(model_of("llama"), prompts, max_new_tokens=60, stops=NEVER)
    assert out.rows == 2
    assert 2 * 61 * each <= out.cache_bytes <= 2 * (62 * 5 // 4 + decoding_rows.ROOM) * each
    alone = generate(model_of("llama"), prompts[:1], max_new_tokens=60, stops=NEVER)
    assert alone.cache_bytes == out.cache_bytes / 2
    ours = TrieLM(model_of("llama"), tokenizer=tokenizer(), max_length=100)
    options = {"until": [], "max_gen_toks": 12, "do_sample": False}
    ours.generate_until([Instance("generate_until", {}, (text, options), 0) for text in "abc"])
    work = ours.generated
    assert (work.responses, work.rows) == (3, 3)
    assert work.cut == ours.stopped.count(False)
    assert 0 < work.cache_bytes <= 3 * (13 * 5 // 4 + decoding_rows.ROOM) * each


def test_rollouts_of_a_thousand_tokens_pay_for_the_rows_that_still_run() -> None:
    """Rows that stop at random: a row is computed at most 1 / KEEP times as often as it runs."""
    model, each, most = model_of("llama"), 2 * 2 * 2 * 4 * 4, 1000
    computed: list[int] = []
    hook = model.get_input_embeddings().register_forward_pre_hook(
        lambda _, given: computed.append(given[0].numel())
    )
    prompts = [[i % 250, i % 250 + 1] for i in range(256)]
    drawn = torch.Generator().manual_seed(0)
    rule = stop_rule([END], VOCABULARY)
    out = generate(
        model, prompts, max_new_tokens=most, stops=rule, temperature=1.0, generator=drawn
    )
    hook.remove()
    lengths = np.array([len(tokens) for tokens in out.tokens])
    assert lengths.max() == most > 4 * lengths.mean()  # one token in 260 ends a row
    assert sum(computed) <= 2 * 256 + lengths.sum() / decoding.KEEP
    steps = np.arange(lengths.max())
    running_T = (lengths[:, None] > steps).sum(0) / decoding.KEEP
    rooms_T = (steps + 3) * 5 / 4 + decoding_rows.ROOM
    assert out.cache_bytes <= (running_T * rooms_T).max() * each
    assert out.cache_bytes < 256 * most * each / 5


def test_rows_stop_at_a_stop_id_and_leave_the_others_alone() -> None:
    prompts = [[i, i + 1] for i in range(12)]
    free = [reference("llama", prompt, 12) for prompt in prompts]
    ends = {tokens[i % 4] for i, tokens in enumerate(free)}
    out = generate(model_of("llama"), prompts, max_new_tokens=12, stops=stop_rule(ends, VOCABULARY))
    for tokens, stopped, whole in zip(out.tokens, out.stopped, free, strict=True):
        end = next((i + 1 for i, token in enumerate(whole) if token in ends), 12)
        assert tokens == whole[:end]
        assert stopped == (whole[end - 1] in ends)


def test_stop_strings_may_span_tokens() -> None:
    decode = tokenizer().decode
    text = decode(reference("llama", [7, 8], 80))
    # Tokens are single bytes here, so two printable characters are two tokens.
    stop = next(text[i : i + 2] for i in range(1, 79) if text[i : i + 2].isascii())
    rule = stop_rule((), VOCABULARY, [stop], tokenizer())
    out = generate(model_of("llama"), [[7, 8]], max_new_tokens=80, stops=rule)
    assert out.stopped == [True]
    assert stop in decode(out.tokens[0])
    assert stop not in decode(out.tokens[0][:-1])


def test_the_same_seed_gives_the_same_samples_however_batched() -> None:
    first, again, narrow, other = sample(0), sample(0), sample(0, rows=2), sample(1)
    assert first == again
    assert first.tokens == narrow.tokens
    assert first.tokens != other.tokens
    assert len(first.tokens) == 12
    assert first.tokens[:3] != first.tokens[6:9], "equal prompts draw different samples"


def test_logprobs_are_those_of_the_tokens_drawn() -> None:
    out = sample(0, temperature=0.7)
    assert out.logprobs is not None
    prompt, tokens = [4], out.tokens[3]
    with torch.inference_mode():
        logits = model_of("llama")(input_ids=torch.tensor([prompt + tokens])).logits[0] / 0.7
    expected = torch.log_softmax(logits, -1)[torch.arange(len(tokens)), torch.tensor(tokens)]
    np.testing.assert_allclose(out.logprobs[3], expected.numpy(), rtol=0, atol=1e-5)


def test_samples_follow_the_distribution() -> None:
    """Chi-square of 4,000 first tokens over the likeliest 10 and the rest; bound: p = 1e-6."""
    with torch.inference_mode():
        p = torch.softmax(model_of("llama")(input_ids=torch.tensor([[3]])).logits[0, -1], -1)
    out = generate(
        model_of("llama"),
        [[3]],
        samples=4000,
        max_new_tokens=1,
        stops=NEVER,
        temperature=1.0,
        generator=torch.Generator().manual_seed(0),
    )
    drawn = np.bincount([tokens[0] for tokens in out.tokens], minlength=VOCABULARY)
    top = p.argsort(descending=True)[:10].numpy()
    expected = np.append(p.numpy()[top], 1 - p.numpy()[top].sum()) * 4000
    observed = np.append(drawn[top], 4000 - drawn[top].sum())
    assert ((observed - expected) ** 2 / expected).sum() < 47.8  # 10 degrees of freedom


def test_top_p_keeps_the_tokens_that_transformers_keeps() -> None:
    logits = torch.randn(50, 40, generator=torch.Generator().manual_seed(0)) * 3
    for top_p in (0.05, 0.5, 0.9, 0.999):
        kept = nucleus(logits, top_p)
        assert torch.equal(kept, TopPLogitsWarper(top_p)(torch.zeros(50, 0), logits))
    assert torch.equal(nucleus(logits, 1.0), logits)


def test_a_small_top_p_is_greedy() -> None:
    greedy, drawn = sample(3, temperature=0.0), sample(3, temperature=1.0, top_p=1e-6)
    assert drawn.tokens == greedy.tokens


def test_running_out_of_memory_halves_the_batch_and_changes_nothing() -> None:
    """Ten rows of which four fit; memory runs out in the middle of a batch, too."""
    model, calls = model_of("llama"), []

    def refuse(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
        calls.append(len(kwargs["input_ids"]))
        if calls[-1] > 5 or len(calls) == 6:
            raise torch.OutOfMemoryError("too many rows")

    wanted = sample(0)
    assert wanted.rows == 12
    handle = model.register_forward_pre_hook(refuse, with_kwargs=True)
    try:
        found = sample(0)
    finally:
        handle.remove()
    assert found.rows == 1
    assert found.cache_bytes < wanted.cache_bytes
    same = found._replace(rows=12, cache_bytes=wanted.cache_bytes, logprobs=None)
    assert same == wanted._replace(logprobs=None)


def test_a_completion_that_never_fits_is_an_error() -> None:
    model = model_of("llama")

    def refuse(*_: Any) -> None:
        raise torch.OutOfMemoryError("no memory at all")

    handle = model.model.layers[1].register_forward_pre_hook(refuse)
    try:
        with pytest.raises(MemoryError, match="one completion of 9 tokens"):
            generate(model, [[1] * 6], max_new_tokens=3, stops=NEVER)
    finally:
        handle.remove()


def test_wrong_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="needs a token"):
        generate(model_of("llama"), [[]], max_new_tokens=1, stops=NEVER)
    with pytest.raises(ValueError, match="Generator"):
        generate(model_of("llama"), [[1]], max_new_tokens=1, stops=NEVER, temperature=1.0)
    assert generate(model_of("llama"), [], max_new_tokens=1, stops=NEVER).tokens == []


@pytest.mark.parametrize("until", [["\n"], ["e", "\n\n"], []])
def test_generate_until_equals_lm_eval(until: list[str]) -> None:
    options = {"until": until, "max_gen_toks": 12, "do_sample": False, "temperature": 0.0}
    contexts = ["Q: a\nA:", "Q: abc\nA:", "b", "Q: abc\nA:", "long " * 40]
    requests = [Instance("generate_until", {}, (text, options), 0) for text in contexts]
    ours = TrieLM(model_of("llama"), tokenizer=tokenizer(), max_length=100)
    peer = HFLM(model_of("llama"), tokenizer=tokenizer(), max_length=100)
    texts = ours.generate_until(requests)
    assert texts == peer.generate_until(requests, disable_tqdm=True)
    assert len(ours.stopped) == len(contexts)


def test_generation_options_nobody_implements_are_named() -> None:
    ours = TrieLM(model_of("llama"), tokenizer=tokenizer(), max_length=100)
    sampled = {"do_sample": True, "temperature": 0.5, "top_k": 5, "max_gen_toks": 4}
    with pytest.raises(UsageError, match="top_k"):
        ours.generate_until([Instance("generate_until", {}, ("a", sampled), 0)])
    with pytest.raises(UsageError, match="leaves no room"):
        ours.generate_until([Instance("generate_until", {}, ("a", {"max_gen_toks": 100}), 0)])


def test_sampled_responses_repeat_with_their_seed() -> None:
    options = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8, "until": []}
    requests = [Instance("generate_until", {}, ("abc", options), i) for i in range(4)]
    ours = TrieLM(model_of("llama"), tokenizer=tokenizer(), max_length=100, seed=3)
    first = ours.generate_until(requests)
    assert first == ours.generate_until(requests)
    assert len(set(first)) > 1
