"""lm-eval model `retainbench`: the numbers of lm-eval's `hf`, each shared token computed once.

All requests of a call form one token trie that runs packed (scoring/packing/). Loading,
tokenisation, truncation and chat templates are lm-eval's own HFLM, of which this is a subclass;
scoring and generation are ours. Models that cannot be packed are scored
request by request: logged once, and recorded in `TrieLM.work.obstacle`.

Command: `retainbench-lm-eval run --model retainbench --model_args pretrained=DIR,dtype=float32
--tasks ...` is the `lm_eval` command line with this model registered; lm-eval newer than 0.4.13
finds the model by the entry point in pyproject.toml.

Deviations from HFLM: softmax in fp32 for every dtype; weights from safetensors only; sampled
generation draws from its own generator; only greedy, temperature and top_p are offered.
"""

from __future__ import annotations

import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from retainbench.harness.core.errors import UsageError
from retainbench.harness.models.inference import frozen
from retainbench.harness.scoring.completions import Completions
from retainbench.harness.scoring.decoding import generate
from retainbench.harness.scoring.packing.packed import prices, score_layout, score_packed
from retainbench.harness.scoring.packing.single import Scored, ScoringWork, score_singly
from retainbench.harness.scoring.probe import configured_obstacle, probed_obstacle
from retainbench.harness.scoring.stops import Stops, stop_rule
from retainbench.harness.scoring.texts import EncodedRequests, Encoder, StringPair, ask, encoder
from retainbench.harness.tasks.lm_eval_patches import without_warnings
from retainbench.harness.tasks.rendering.chat import Chat
from retainbench.harness.tasks.rendering.encoding import Tokens, continued

log = logging.getLogger(__name__)


class TrieLM(HFLM):
    """Scores over the token trie of all requests of a call.

    pretrained: a folder, a hub id or a loaded transformers model (then `tokenizer` is required).
    tokens_per_pass: tokens of one forward pass; None lets the device and its memory decide.
    rows: responses in flight while generating; None as above.
    seed: for sampled responses; each call starts from it.
    chat: prompts were written by this chat template, which adds all special tokens itself; its
        end of turn ends a response.
    All other arguments are HFLM's. A loaded model keeps its training flags.
    """

    work: ScoringWork | None
    """Account of the last scoring call."""
    stopped: list[bool]
    """Of the last generation call: the response ended by itself, within its tokens."""
    generated: GenerationWork
    """Account of the last generation call."""

    def __init__(
        self,
        pretrained: Any,
        tokens_per_pass: int | None = None,
        seed: int = 0,
        rows: int | None = None,
        chat: Chat | None = None,
        **options: Any,
    ) -> None:
        loaded = not isinstance(pretrained, str)
        flags = [(m, m.training) for m in pretrained.modules()] if loaded else []
        if not loaded:
            options.setdefault("use_safetensors", True)
        if chat is not None:
            options["add_bos_token"] = False
        with without_warnings("lm_eval.models.huggingface", loaded):
            super().__init__(pretrained, **options)
        for module, training in flags:
            module.training = training
        self.tokens_per_pass = int(tokens_per_pass) if tokens_per_pass else None
        self.seed = int(seed)
        self.turn_end = None if chat is None else chat.end
        self.rows = int(rows) if rows else None
        self.work = None
        self.stopped = []
        self.generated = GenerationWork()
        self._probed: tuple[str | None] | None = None
        self._told: set[str] = set()
        self._rules: dict[tuple[str, ...], Stops] = {}

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """Log-likelihood (natural log) and greedy flag of each (context, continuation)."""
        if not requests:
            return []
        pairs: list[StringPair] = [request.args for request in requests]
        distinct = tuple(sorted(set(pairs)))
        scored = self._score(distinct)
        found = dict(zip(distinct, _answers(scored), strict=True))
        for pair, answer in found.items():
            self.cache_hook.add_partial("loglikelihood", pair, answer)
        return [found[pair] for pair in pairs]

    def planned(self, requests: Sequence[Instance]) -> int | None:
        """Tokens that `loglikelihood` computes for these requests; None where it cannot pack them.

        Nothing is computed. Prefixes that packed passes repeat (some percent) are not in it.
        """
        pairs = tuple(sorted({request.args for request in requests}))
        if self._obstacle(1) is not None:
            return None
        return int(ask(self._encoder, prices(self.model), pairs).layout.token.size)

    def _score(self, pairs: tuple[StringPair, ...]) -> Scored:
        obstacle = self._obstacle(1)
        if obstacle is None:
            asked = ask(self._encoder, prices(self.model), pairs)
            obstacle = self._obstacle(asked.layout.longest)
        if obstacle is not None:
            return self._singly(self._encoder.requests(pairs), obstacle)
        self._tell_cut(asked.cut)
        with frozen(self.model):
            scored = score_layout(self.model, asked.layout, budget=self.tokens_per_pass)
        self.work = scored.work
        return scored

    def _singly(self, encoded: EncodedRequests, obstacle: str) -> Scored:
        self._tell(f"scoring request by request: {obstacle}")
        self._tell_cut(encoded.cut)
        with frozen(self.model):
            scored = score_singly(self.model, encoded.requests, obstacle)
        self.work = scored.work
        return scored

    @cached_property
    def _encoder(self) -> Encoder:
        return encoder(self)

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[Any, Tokens, Tokens]],
        disable_tqdm: bool = False,
        override_bs: int | None = None,
    ) -> list[tuple[float, bool]]:
        """Score token pairs; contexts that do not fit are cut from the left, as lm-eval does."""
        made = [self._encoder.request(context, wanted, pair) for pair, context, wanted in requests]
        obstacle = self._obstacle(max(len(request.inputs) for request in made))
        if obstacle is not None:
            return _answers(self._singly(EncodedRequests(made, False), obstacle))
        with frozen(self.model):
            scored = score_packed(self.model, made, budget=self.tokens_per_pass)
        self.work = scored.work
        return _answers(scored)

    def _obstacle(self, longest: int) -> str | None:
        configured = configured_obstacle(self.model, longest)
        if configured is not None:
            return configured
        if self._probed is None:
            self._probed = (probed_obstacle(self.model),)
        return self._probed[0]

    def _tell_cut(self, cut: bool) -> None:
        if cut:
            self._tell(f"contexts longer than {self.max_length} tokens are cut from the left")

    def _tell(self, message: str) -> None:
        if message not in self._told:
            self._told.add(message)
            log.warning(message)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-likelihood of whole texts, in windows of max_length with one token of context."""
        texts = [request.args[0] for request in requests]
        windows: list[tuple[None, Tokens, Tokens]] = []
        counts: list[int] = []
        for text in texts:
            rolled = get_rolling_token_windows(
                token_list=self.tok_encode(text),
                prefix_token=self.prefix_token_id,
                max_seq_len=self.max_length,
                context_len=1,
            )
            before = len(windows)
            windows.extend((None, *make_disjoint_window(window)) for window in rolled)
            counts.append(len(windows) - before)
        values = iter(self._loglikelihood_tokens(windows) if windows else [])
        totals = [sum((next(values)[0] for _ in range(count)), 0.0) for count in counts]
        for text, total in zip(texts, totals, strict=True):
            self.cache_hook.add_partial("loglikelihood_rolling", (text,), total)
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Responses up to the first stop string; `stopped` says which of them ended by themselves.

        Tasks are decoded one after another: the shots that a task's prompts share are then encoded
        once (five free-form tasks on fruitfly: 2.2 s, mixed 5.6 s).

        Raises:
            UsageError: a generation option other than temperature and top_p.
        """
        groups: dict[tuple[str | None, str], list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            options = json.dumps(request.args[1], sort_keys=True)
            groups[request.task_name, options].append(i)
        answers = [""] * len(requests)
        self.stopped = [False] * len(requests)
        self.generated = GenerationWork()
        for (_, options), members in groups.items():
            contexts = [requests[i].args[0] for i in members]
            texts, stopped = self._generate(contexts, json.loads(options))
            for i, text, ended in zip(members, texts, stopped, strict=True):
                answers[i], self.stopped[i] = text, ended
                self.cache_hook.add_partial("generate_until", requests[i].args, text)
        return answers

    def _generate(
        self, contexts: list[str], options: dict[str, Any]
    ) -> tuple[list[str], list[bool]]:
        chosen = generation_options(options, self.max_gen_toks)
        room = self.max_length - chosen.tokens
        if room < 1:
            raise UsageError(
                f"max_gen_toks {chosen.tokens} leaves no room for a prompt in a window of "
                f"{self.max_length} tokens: ask for fewer"
            )
        known = self._encoder.texts(contexts)
        completions = generate(
            self.model,
            [known[text][-room:] or [self.prefix_token_id] for text in contexts],
            max_new_tokens=chosen.tokens,
            stops=self._stops(chosen.until),
            temperature=chosen.temperature,
            top_p=chosen.top_p,
            generator=torch.Generator().manual_seed(self.seed),
            rows=self.rows,
        )
        self.generated = self.generated.plus(completions)
        eos = self.tok_decode(self.eot_token_id, skip_special_tokens=False)
        ends = [*chosen.until, eos, *([self.turn_end.strip()] if self.turn_end else [])]
        texts = [
            postprocess_generated_text(self.tok_decode(tokens), ends, None)
            for tokens in completions.tokens
        ]
        return texts, completions.stopped

    def _stops(self, until: tuple[str, ...]) -> Stops:
        if until not in self._rules:
            ends = self.model.generation_config.eos_token_id
            ids = {self.eot_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
            if self.turn_end:
                ids.add(continued(self.tokenizer, [self.turn_end])[0][-1])
            size = self.model.config.get_text_config().vocab_size
            self._rules[until] = stop_rule(ids, size, until, self.tokenizer)
        return self._rules[until]


def _answers(scored: Scored) -> list[tuple[float, bool]]:
    return list(zip(scored.loglikelihood.tolist(), scored.greedy.tolist(), strict=True))


class GenerationWork(NamedTuple):
    """The work of one call."""

    responses: int = 0
    tokens: int = 0
    """New ones."""
    cut: int = 0
    """Responses that ended at the limit of tokens."""
    rows: int = 0
    """Most responses in flight."""
    cache_bytes: int = 0
    """Most bytes of keys and values; rows that have ended leave them (`decoding.CACHE_BYTES`)."""

    def plus(self, made: Completions) -> GenerationWork:
        """With the completions of one more task."""
        return GenerationWork(
            self.responses + len(made.tokens),
            self.tokens + sum(map(len, made.tokens)),
            self.cut + made.stopped.count(False),
            max(self.rows, made.rows),
            max(self.cache_bytes, made.cache_bytes),
        )


class GenerationOptions(NamedTuple):
    """What a task's `generation_kwargs` ask for."""

    until: tuple[str, ...]
    tokens: int
    temperature: float
    """0 is greedy."""
    top_p: float
    """1 is all of the distribution."""


def generation_options(options: dict[str, Any], default_tokens: int) -> GenerationOptions:
    """Read lm-eval generation options; filters of the distribution have no effect when greedy.

    Raises:
        UsageError: an option that this backend does not have.
    """
    rest = dict(normalize_gen_kwargs(options, default_tokens))
    until, tokens = rest.pop("until"), rest.pop("max_gen_toks")
    sampled, temperature = rest.pop("do_sample"), rest.pop("temperature", 1.0)
    if not sampled:
        rest = {key: value for key, value in rest.items() if key not in ("top_p", "top_k", "min_p")}
    top_p = float(rest.pop("top_p", 1.0))
    if rest:
        raise UsageError(
            f"the retainbench model has no generation option {', '.join(sorted(rest))}: "
            "leave it out, or use --model hf"
        )
    return GenerationOptions(tuple(until), tokens, float(temperature) if sampled else 0.0, top_p)


def main() -> None:
    """The `lm_eval` command line with this model registered."""
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    # Run as a file, this is a second copy of the class; the importable one registers itself.
    from retainbench.harness.scoring.backend import main as importable_main

    importable_main()
else:
    register_model("retainbench")(TrieLM)
