"""llama.cpp behind HTTP: llama-cpp-python's server on the loopback address, lm-eval's clients.

Skipped without `llama-cpp-python[server]`.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures import gguf
from fixtures.hub import closed_port
from fixtures.waiting import until
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import ItemRecord
from retainbench.harness.models import bases
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.engines.opening import EngineChoice, chosen

pytest.importorskip("llama_cpp.server.app", reason="needs llama-cpp-python[server]")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """fruitfly in float32; its dequantised folder goes into a cache of our own."""
    folder = tmp_path_factory.mktemp("gguf")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield gguf.write(bases.resolve("fruitfly").folder, folder / "fruitfly.gguf")


@pytest.fixture(scope="module")
def url(file: Path) -> Iterator[str]:
    """Of a server that serves the file."""
    command = [sys.executable, "-m", "llama_cpp.server", "--host", "127.0.0.1", "--model", file]
    options = ["--n_ctx", "512", "--n_threads", "1", "--logits_all", "True"]
    with (
        closed_port() as port,
        subprocess.Popen(
            [*command, *options, "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        ) as serving,
    ):
        try:
            until(lambda: _answers(port, serving))
            yield f"http://127.0.0.1:{port}"
        finally:
            serving.terminate()


def _answers(port: int, serving: subprocess.Popen[bytes]) -> bool:
    assert serving.poll() is None, "the server ended"
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True


def engine(url: str, name: str) -> EngineChoice:
    """One of lm-eval's clients; the server takes texts, not tokens."""
    if name == "gguf":
        return chosen("lm-eval:gguf", f"base_url={url}")
    arguments = f"base_url={url}/v1/completions,model=fruitfly,tokenized_requests=False"
    return chosen("lm-eval:local-completions", f"{arguments},max_retries=1")


def score(file: Path, choice: EngineChoice, task: str) -> list[ItemRecord]:
    model = bases.resolve(str(file), bases.resolve("fruitfly"))
    [records] = evaluate.of_model(model, [task], 4, engine=choice)
    return records


def test_a_server_writes_as_the_engine_in_this_process(file: Path, url: str) -> None:
    here = score(file, chosen("llama.cpp"), "capitals_free")
    there = score(file, engine(url, "local-completions"), "capitals_free")
    assert any(record.response for record in here)
    assert [record.response for record in there] == [record.response for record in here]


@pytest.mark.parametrize("name", ["gguf", "local-completions"])
def test_log_likelihoods_of_the_wrong_tokens_are_refused(file: Path, url: str, name: str) -> None:
    """The server pairs each token with the prediction of the next one; lm-eval would take it."""
    with pytest.raises(IntegrityError, match=r"\d log-probabilities for a prompt of \d+ tokens"):
        score(file, engine(url, name), "capitals")
