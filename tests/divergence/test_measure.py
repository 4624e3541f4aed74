"""KL against closed forms, METHODS 15's worked numbers, Monte Carlo, and its invariances."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from retainbench.harness.contracts.tiny_model import save_tiny
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.divergence.continuations import Extent, sample_continuations
from retainbench.harness.divergence.forward import compare
from retainbench.harness.divergence.measure import divergence, estimate, shared_tokens, summarise
from retainbench.harness.divergence.records import Continuation, DivergenceReport
from retainbench.harness.models import loading
from retainbench.harness.models.loading import Loaded

PROMPTS = [f"Question: what is {n} + {n * n}?\nAnswer:" for n in range(1, 25)]


@pytest.fixture(scope="module")
def base(tiny_base: Path) -> Loaded:
    return loading.load(tiny_base)


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    folder = tmp_path_factory.mktemp("candidate") / "tiny"
    save_tiny(folder, seed=1)
    loaded = loading.load(folder)
    with torch.no_grad():
        loaded.model.lm_head.weight *= 8  # the random models are otherwise all but uniform
    return loaded


@pytest.fixture(scope="module")
def continuations(base: Loaded) -> list[Continuation]:
    return sample_continuations(base, PROMPTS, max_new_tokens=12)


class Fixed(torch.nn.Module):
    """A model that predicts the same distribution everywhere."""

    def __init__(self, probabilities: list[float]) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.tensor(probabilities).log() + 3.0)
        self.config = SimpleNamespace(
            get_text_config=lambda: SimpleNamespace(vocab_size=len(probabilities))
        )
        self.device, self.dtype = torch.device("cpu"), torch.float32

    def forward(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.logits.expand(*input_ids.shape, -1))


def drawn(probabilities: list[float], rows: int, tokens: int) -> list[Continuation]:
    generator = np.random.default_rng(0)
    draws = generator.choice(len(probabilities), size=(rows, tokens), p=probabilities)
    return [
        Continuation(prompt="p", prompt_ids=[0], ids=ids, ended=False, digest="")
        for ids in draws.tolist()
    ]


def values(report: DivergenceReport) -> dict[str, float]:
    return {f"{e.direction} {e.estimator}": e.per_token for e in report.estimates}


def test_two_token_toy_matches_the_closed_form() -> None:
    p, q = [0.7, 0.3], [0.4, 0.6]
    found = values(divergence(Fixed(p), Fixed(q), drawn(p, 3, 5), prompt_set="toy"))
    assert found["base || candidate exact"] == pytest.approx(
        0.7 * np.log(0.7 / 0.4) + 0.3 * np.log(0.3 / 0.6), rel=1e-6
    )
    assert found["candidate || base exact"] == pytest.approx(
        0.4 * np.log(0.4 / 0.7) + 0.6 * np.log(0.6 / 0.3), rel=1e-6
    )


def test_worked_numbers_of_methods_15() -> None:
    """Exact values, and the estimators' exact means and deviations by weighting each token by p."""
    p, q = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.4, 0.4, 0.2])
    found = compare(p.log().expand(3, -1), q.log().expand(3, -1), torch.arange(3))
    assert found.p_to_q[0] == pytest.approx(0.0252672, abs=5e-8)
    assert found.q_to_p[0] == pytest.approx(0.0258154, abs=5e-8)
    weight = p.double().numpy()
    assert weight @ found.k1 == pytest.approx(0.0252672, abs=5e-8)
    assert weight @ found.k2 == pytest.approx(0.0248624, abs=5e-8)
    assert weight @ found.k3 == pytest.approx(0.0252672, abs=5e-8)
    for column, expected in ((found.k1, 0.221554), (found.k3, 0.015956)):
        mean = weight @ column
        assert (weight @ (column - mean) ** 2) ** 0.5 == pytest.approx(expected, abs=5e-7)


def test_tokens_without_probability_add_nothing() -> None:
    p = torch.tensor([[0.0, 1.0, -torch.inf]])
    q = torch.tensor([[0.5, 0.0, -torch.inf]])
    found = compare(p, q, torch.tensor([0]))
    assert np.isfinite(found).all()
    assert compare(p[:, :2], q[:, :2], torch.tensor([0])).p_to_q == pytest.approx(found.p_to_q)


def test_sampled_estimators_agree_with_exact_within_four_errors() -> None:
    p, q = [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]
    report = divergence(Fixed(p), Fixed(q), drawn(p, 2000, 3), prompt_set="toy")
    exact = report.find("base || candidate", "exact").per_token
    for name in ("k1", "k3"):
        sampled = report.find("base || candidate", name)
        assert sampled.per_token_error is not None
        assert 0 < abs(sampled.per_token - exact) < 4 * sampled.per_token_error


def test_estimators_agree_with_exact_on_a_language_model(base: Loaded, candidate: Loaded) -> None:
    many = sample_continuations(base, PROMPTS * 10, max_new_tokens=8, seed=3)
    report = divergence(base.model, candidate.model, many, prompt_set="target")
    exact = report.find("base || candidate", "exact")
    assert exact.per_token > 0.01
    for name in ("k1", "k3"):
        sampled = report.find("base || candidate", name)
        assert sampled.per_token_error is not None
        assert abs(sampled.per_token - exact.per_token) < 4 * sampled.per_token_error


def test_the_sampler_names_the_direction_of_the_estimators(base: Loaded, candidate: Loaded) -> None:
    own = sample_continuations(candidate, PROMPTS, max_new_tokens=8)
    report = divergence(base.model, candidate.model, own, prompt_set="x", sampler="candidate")
    swapped = divergence(candidate.model, base.model, own, prompt_set="x")
    assert report.find("candidate || base", "k3").per_token == (
        swapped.find("base || candidate", "k3").per_token
    )
    assert report.find("base || candidate", "exact").per_token == (
        swapped.find("candidate || base", "exact").per_token
    )
    with pytest.raises(KeyError):
        report.find("base || candidate", "k3")


def test_a_model_has_no_divergence_from_itself(
    base: Loaded, tiny_base: Path, continuations: list[Continuation]
) -> None:
    again = loading.load(tiny_base)
    for other in (base, again):
        report = divergence(base.model, other.model, continuations, prompt_set="target")
        assert set(values(report).values()) == {0.0}


def test_every_sampled_token_counts_once(continuations: list[Continuation], base: Loaded) -> None:
    report = divergence(base.model, base.model, continuations, prompt_set="target")
    assert report.tokens == sum(len(one.ids) for one in continuations)
    assert report.ended == sum(one.ended for one in continuations)
    stops = {base.tokenizer.eos_token_id, base.tokenizer.convert_tokens_to_ids("\n")}
    for one in continuations:
        assert 1 <= len(one.ids) <= 12
        assert (one.ids[-1] in stops) is one.ended
        assert not stops & set(one.ids[:-1])


def test_batch_size_and_order_do_not_matter(
    base: Loaded, candidate: Loaded, continuations: list[Continuation]
) -> None:
    whole = divergence(base.model, candidate.model, continuations, prompt_set="target")
    single = divergence(
        base.model, candidate.model, continuations[::-1], prompt_set="target", logit_bytes=1
    )
    for name, value in values(whole).items():
        assert values(single)[name] == pytest.approx(value, abs=1e-5)
    for one in whole.estimates:
        if one.estimator in ("exact", "k2", "k3"):
            assert one.per_token > 0


def test_numbers_match_a_plain_forward_pass(
    base: Loaded, candidate: Loaded, continuations: list[Continuation]
) -> None:
    """One row at a time, whole logits, float64 numpy."""
    by_prompt = []
    for one in continuations:
        ids = torch.tensor([one.prompt_ids + one.ids])
        with torch.no_grad():
            logs = [
                torch.log_softmax(m.model(ids).logits[0].double(), -1).numpy()
                for m in (base, candidate)
            ]
        p, q = (log[len(one.prompt_ids) - 1 : -1] for log in logs)
        by_prompt.append((np.exp(p) * (p - q)).sum(-1))
    found = divergence(base.model, candidate.model, continuations, prompt_set="x")
    exact = found.find("base || candidate", "exact")
    assert exact.per_token == pytest.approx(np.concatenate(by_prompt).mean(), rel=1e-5)
    assert exact.per_prompt == pytest.approx(np.mean([v.mean() for v in by_prompt]), rel=1e-5)
    assert exact.per_sequence == pytest.approx(np.mean([v.sum() for v in by_prompt]), rel=1e-5)


def test_standard_error_takes_prompts_as_the_unit() -> None:
    """Tokens that repeat within a prompt carry no more information than one of them."""
    generator = np.random.default_rng(0)
    means = generator.standard_normal(200)
    few = estimate("base || candidate", "k1", [np.full(1, m) for m in means])
    many = estimate("base || candidate", "k1", [np.full(9, m) for m in means])
    assert few.per_token_error == pytest.approx(many.per_token_error, rel=1e-12)
    assert few.per_token_error == pytest.approx(means.std(ddof=1) / 200**0.5, rel=1e-12)


def test_cache_is_reused_keyed_and_checked(base: Loaded, candidate: Loaded, tmp_path: Path) -> None:
    cache = tmp_path / "continuations.jsonl"
    first = sample_continuations(base, PROMPTS[:4], max_new_tokens=6, cache=cache)
    (file,) = tmp_path.glob("continuations-*.jsonl")
    before = file.read_bytes()
    assert sample_continuations(base, PROMPTS[:4], max_new_tokens=6, cache=cache) == first
    assert file.read_bytes() == before
    for loaded, prompts, seed in (
        (candidate, PROMPTS[:4], 0),
        (base, PROMPTS[:3], 0),
        (base, PROMPTS[:4], 1),
    ):
        sample_continuations(loaded, prompts, max_new_tokens=6, seed=seed, cache=cache)
    assert len(list(tmp_path.glob("continuations-*.jsonl"))) == 4
    rows = [json.loads(line) for line in before.decode().splitlines()]
    rows[1]["ids"][0] += 1
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for damaged in (file.read_bytes(), before.splitlines(keepends=True)[0]):
        file.write_bytes(damaged)
        assert sample_continuations(base, PROMPTS[:4], max_new_tokens=6, cache=cache) == first
        assert file.read_bytes() == before


def test_different_vocabularies_are_refused(base: Loaded, tmp_path: Path) -> None:
    save_tiny(tmp_path / "other", seed=0, vocabulary="abc 0123456789?+=:QuestionAwr\nh")
    other = loading.load(tmp_path / "other")
    with pytest.raises(IntegrityError, match="different vocabularies"):
        summarise(base, other, {"target": PROMPTS}, max_new_tokens=4)
    rows = sample_continuations(other, ["1"], max_new_tokens=4)
    with pytest.raises(IntegrityError, match="vocabularies have"):
        divergence(base.model, other.model, rows, prompt_set="target")


def test_a_candidate_with_more_tokens_is_compared_on_those_of_the_base(
    base: Loaded, tiny_base: Path
) -> None:
    grown = loading.load(tiny_base)
    grown.tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>", "<|over|>"]})
    grown.model.resize_token_embeddings(len(grown.tokenizer))
    assert shared_tokens(base, grown) == base.model.config.vocab_size
    with torch.no_grad():
        grown.model.lm_head.weight[-2:] *= 100  # how probable they are does not matter
    found = summarise(base, grown, {"target": PROMPTS}, max_new_tokens=8)
    assert max(found.forward["target"], found.reverse["target"]) < 1e-9  # the heads' rounding
    with torch.no_grad():
        grown.model.lm_head.weight[:-2] *= 8
    found = summarise(base, grown, {"target": PROMPTS}, max_new_tokens=8)
    assert min(found.forward["target"], found.reverse["target"]) > 0.01
    with pytest.raises(IntegrityError, match="different vocabularies"):
        summarise(grown, base, {"target": PROMPTS}, max_new_tokens=8)


def test_nan_weights_are_refused(
    base: Loaded, tiny_base: Path, continuations: list[Continuation]
) -> None:
    broken = loading.load(tiny_base)
    with torch.no_grad():
        broken.model.lm_head.weight[5, 3] = torch.nan
    with pytest.raises(IntegrityError, match="target: the divergence after 'Question"):
        divergence(base.model, broken.model, continuations, prompt_set="target")


def test_training_flags_and_random_state_are_left_alone(base: Loaded, candidate: Loaded) -> None:
    candidate.model.train()
    candidate.model.model.layers[0].eval()
    state = torch.get_rng_state()
    rows = sample_continuations(candidate, PROMPTS[:2], max_new_tokens=4)
    divergence(base.model, candidate.model, rows, prompt_set="x", sampler="candidate")
    assert torch.equal(torch.get_rng_state(), state)
    assert candidate.model.training
    assert candidate.model.model.layers[1].training
    assert not candidate.model.model.layers[0].training
    assert not base.model.training
    candidate.model.eval()


def test_summary_has_every_set_and_names_its_estimator(
    base: Loaded, candidate: Loaded, tmp_path: Path
) -> None:
    sets = {"target": PROMPTS[:5], "general": ["The sky is", "Birds can"]}
    cache = tmp_path / "c.jsonl"
    found = summarise(base, candidate, sets, max_new_tokens=5, cache=cache)
    assert found.forward.keys() == found.reverse.keys() == found.tokens.keys() == sets.keys()
    assert all(value > 0 for value in found.forward.values())
    assert found.sampled["general"].keys() == {"k1", "k2", "k3"}
    assert "exact" in found.estimator
    assert summarise(base, candidate, sets, max_new_tokens=5, cache=cache) == found
    same = summarise(base, base, sets, max_new_tokens=5)
    assert set(same.forward.values()) == {0.0}


def test_prompts_are_added_until_there_are_enough_tokens(base: Loaded, candidate: Loaded) -> None:
    """The first ones where they suffice, all of them where nothing does; the same as if asked."""
    sets = {"general": PROMPTS}
    few = summarise(base, candidate, sets, max_new_tokens=5, extent=Extent(2))
    assert few == summarise(base, candidate, {"general": PROMPTS[:2]}, max_new_tokens=5)
    more = summarise(base, candidate, sets, max_new_tokens=5, extent=Extent(2, 12))
    assert few.tokens["general"] < 12 <= more.tokens["general"]
    whole = summarise(base, candidate, sets, max_new_tokens=5)
    assert summarise(base, candidate, sets, max_new_tokens=5, extent=Extent(2, 10**6)) == whole


def test_a_kl_has_an_interval_over_prompts(base: Loaded, candidate: Loaded) -> None:
    """The ratio of sums with its linearised error, by hand; none for a single prompt."""
    rows = sample_continuations(base, PROMPTS, max_new_tokens=5)
    report = divergence(base.model, candidate.model, rows, prompt_set="general")
    exact = report.find("base || candidate", "exact")
    found = summarise(base, candidate, {"general": PROMPTS}, max_new_tokens=5).intervals["general"]
    assert exact.per_token_error is not None
    half = stats.t.ppf(0.95, len(PROMPTS) - 1) * exact.per_token_error
    assert (found.value, found.n) == (exact.per_token, len(PROMPTS))
    assert (found.low, found.high) == pytest.approx((found.value - half, found.value + half))
    assert summarise(base, candidate, {"one": PROMPTS[:1]}, max_new_tokens=5).intervals == {}
