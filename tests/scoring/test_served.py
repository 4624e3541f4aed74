"""Completions servers on the loopback address: good ones, and all that a server can do wrong."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fixtures.hub import closed_port
from retainbench.harness.core.errors import IntegrityError, UsageError
from retainbench.harness.models import bases
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.engines.opening import chosen

Body = dict[str, Any]


def good(asked: Body, number: int) -> Body:
    """A response as vLLM's to `echo` with `logprobs`; every token has the log-probability -0.5."""
    prompts = asked["prompt"]
    prompts = prompts if isinstance(prompts[0], list) else [prompts]
    if not asked.get("echo"):
        choices = [{"index": i, "text": " 7\n\nmore"} for i in range(len(prompts))]
    else:
        choices = [
            {
                "index": i,
                "text": "",
                "logprobs": {
                    "token_logprobs": [None, *[-0.5] * len(tokens)],
                    "top_logprobs": [None, *[{"a": -0.5}] * len(tokens)],
                },
            }
            for i, tokens in enumerate(prompts)
        ]
    return {"model": "stub", "choices": choices}


@contextmanager
def server(answer: Callable[[Body, int], Any]) -> Iterator[str]:
    """A server whose n-th answer is `answer(request, n)`: an object for JSON, or a text."""
    count = iter(range(10**6))

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(asked, next(count))
            text = found if isinstance(found, str) else json.dumps(found)
            kind = "text/html" if isinstance(found, str) else "application/json"
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        serving.daemon_threads = False  # what one wrote later would be in another test's output
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{serving.server_port}/v1/completions"
        finally:
            serving.shutdown()


def score(base: Path, url: str, name: str = "capitals", more: str = "") -> list[Any]:
    """Two items through lm-eval's client, which tries once."""
    engine = chosen("lm-eval:local-completions", f"base_url={url},model=stub,max_retries=1{more}")
    return [
        record
        for found in evaluate.of_model(bases.of_folder(base), [name], 2, engine=engine)
        for record in found
    ]


def test_log_likelihoods_are_the_sum_over_the_continuation(tiny_base: Path) -> None:
    with server(good) as url:
        records = score(tiny_base, url)
    assert all(value <= -0.5 for record in records for value in record.choice_logprobs)
    assert all(value % 0.5 == 0 for record in records for value in record.choice_logprobs)


def test_responses_are_cut_at_their_stops(tiny_base: Path) -> None:
    with server(good) as url:
        assert {record.response for record in score(tiny_base, url, "countdown")} == {" 7"}


def with_(edit: Callable[[Body], Any]) -> Callable[[Body, int], Any]:
    """`good`, with something changed."""

    def answer(asked: Body, number: int) -> Any:
        found = good(asked, number)
        return edit(found) or found

    return answer


def likelihood(value: Any) -> Callable[[Body, int], Any]:
    def edit(found: Body) -> None:
        found["choices"][0]["logprobs"]["token_logprobs"][2] = value

    return with_(edit)


def one_more(found: Body) -> None:
    found["choices"].append(found["choices"][0] | {"index": 1})


def one_token(found: Body) -> None:
    """As llama-cpp-python's server, which has none for the token that it adds."""
    found["choices"][0]["logprobs"]["token_logprobs"].pop()


WRONG = {
    "nan": (likelihood(float("nan")), "gave nan as a log-probability"),
    "null": (likelihood(None), "gave None as a log-probability"),
    "text": (likelihood("-0.5"), "gave '-0.5' as a log-probability"),
    "html": (lambda *_: "<html>502</html>", "failed to give log-likelihoods: JSONDecodeError"),
    "no choices": (lambda *_: {"error": "overloaded"}, "not a response of a completions server"),
    "too few": (with_(lambda found: found | {"choices": []}), "gave 0 answers to 1 prompts"),
    "too many": (with_(one_more), "gave 2 answers to 1 prompts"),
    "other tokens": (with_(one_token), r"log-probabilities for a prompt of \d+ tokens"),
    "another model": (
        lambda asked, number: good(asked, number) | {"model": f"stub-{number}"},
        "answered as 'stub-0, None', then as 'stub-1, None'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_a_server_does_wrong_is_one_line(tiny_base: Path, case: str) -> None:
    answer, message = WRONG[case]
    with server(answer) as url, pytest.raises(IntegrityError, match=message):
        score(tiny_base, url)


def test_a_slow_server_is_one_line(tiny_base: Path) -> None:
    over = threading.Event()

    def slow(asked: Body, number: int) -> Body:
        over.wait()
        return good(asked, number)

    with server(slow) as url:
        try:
            with pytest.raises(IntegrityError, match="Timeout"):
                score(tiny_base, url, more=",timeout=1")
        finally:
            over.set()


def test_a_dead_server_is_one_line(tiny_base: Path) -> None:
    message = "failed to give log-likelihoods: ConnectionError"
    with closed_port() as port, pytest.raises(IntegrityError, match=message):
        score(tiny_base, f"http://127.0.0.1:{port}/v1/completions")


@pytest.mark.parametrize("logprobs", [None, {"token_logprobs": [-0.5], "top_logprobs": [{}]}])
def test_a_server_without_prompt_log_probabilities_generates_only(
    tiny_base: Path, logprobs: Any
) -> None:
    def answer(asked: Body, number: int) -> Body:
        found = good(asked, number)
        for choice in found["choices"]:
            choice["logprobs"] = logprobs
        return found

    with server(answer) as url:
        with pytest.raises(UsageError, match="no log-probabilities of the prompt"):
            score(tiny_base, url)
        assert len(score(tiny_base, url, "countdown")) == 2
