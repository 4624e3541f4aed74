"""`export --push` against a hub on the loopback address: what is sent, and when nothing is."""

from __future__ import annotations

import base64
import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from fixtures.certify import make
from fixtures.hub import Shell, listening
from retainbench.harness.certificate.formats.hub import eval_results
from retainbench.harness.certificate.formats.source import ExportSource
from retainbench.harness.certificate.verify import verify
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.files.storage import write_json
from retainbench.harness.tasks import catalogue
from retainbench.harness.tasks.freeze import Provenance

README = b"---\nlicense: mit\n---\n# A model\n"
REPOSITORY = "org/model"


class ModelHub:
    """Remembers what it is asked; `token` False refuses every write."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        self.commits: list[dict[str, bytes]] = []
        self.token = True

    def get(self, path: str) -> tuple[int, bytes]:
        if path.endswith("/resolve/main/README.md"):
            return 200, README
        return 200, json.dumps({"id": REPOSITORY, "sha": "a" * 40}).encode()

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        if not self.token:
            return 401, b'{"error": "Invalid token"}'
        if "/preupload/" in path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            return 200, json.dumps({"files": files}).encode()
        if "/commit/" in path:
            self.commits.append(_files(body))
            url = f"https://huggingface.co/{REPOSITORY}"
            made = {"commitUrl": f"{url}/commit/abc", "commitOid": "abc", "success": True}
            made["pullRequestUrl"] = f"{url}/discussions/1"
            return 200, json.dumps(made).encode()
        return 200, b'{"errors": [], "warnings": []}'


def _files(body: bytes) -> dict[str, bytes]:
    rows = [json.loads(line)["value"] for line in body.splitlines()]
    return {row["path"]: base64.b64decode(row["content"]) for row in rows if "content" in row}


@contextmanager
def served(hub: ModelHub) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def _answer(self, code: int, data: bytes) -> None:
            hub.requests.append((self.command, self.path))
            self.send_response(code)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            self.send_header("X-Repo-Commit", "a" * 40)
            self.send_header("ETag", '"b"')
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def do_GET(self) -> None:
            self._answer(*hub.get(self.path))

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self._answer(*hub.post(self.path, body))

        do_HEAD = do_GET

    with listening(Handler) as address:
        yield address


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("push")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RETAINBENCH_CACHE", str(folder / "cache"))
        return make(folder).bundle.root


def test_scores_are_sent_only_when_asked(certificate: Path, tmp_path: Path) -> None:
    hub = ModelHub()
    with served(hub) as address:
        shell = Shell(address, tmp_path / "home")
        try:
            base = ("export", certificate, "--format", "model-index", "--allow-unsigned")
            assert shell(*base, "--out", tmp_path / "a").code == 0
            tried = shell(*base, "--out", tmp_path / "a", "--push", REPOSITORY, "--dry-run")
            assert (tried.code, hub.requests) == (0, [])
            assert "nothing was sent" in tried.out
            sent = shell(*base, "--out", tmp_path / "a", "--push", REPOSITORY, "--pull-request")
            assert sent.code == 0, sent.err
            assert sent.out.splitlines()[-1].endswith("/discussions/1")
            ((name, card),) = hub.commits[-1].items()
            metadata = yaml.safe_load(card.decode().split("---")[1])
            assert (name, metadata["license"]) == ("README.md", "mit")
            assert metadata["model-index"][0]["results"]
            hub.token = False
            refused = shell(*base, "--out", tmp_path / "a", "--push", REPOSITORY)
            notice, error = refused.err.splitlines()
            assert (refused.code, notice) == (2, f"sending to {REPOSITORY}")
            assert f"cannot push to {REPOSITORY}" in error
        finally:
            shell.close()


@pytest.mark.parametrize(
    "options",
    [("--format", "cyclonedx", "--push", REPOSITORY), ("--format", "model-index", "--dry-run")],
)
def test_options_that_do_not_go_together(
    certificate: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    shell = Shell("http://127.0.0.1:1", tmp_path / "home")
    try:
        said = shell("export", certificate, "--allow-unsigned", "--out", tmp_path / "a", *options)
    finally:
        shell.close()
    assert (said.code, said.err.count("\n")) == (2, 1)
    assert not (tmp_path / "a").exists()


def test_eval_results_name_the_data_set_that_a_pack_was_frozen_from(
    certificate: Path, tmp_path: Path
) -> None:
    found = verify(certificate, allow_unsigned=True).contents
    source = ExportSource(found.evidence, found.base, found.candidate)
    with pytest.raises(UsageError, match="no task of this certificate was frozen"):
        eval_results(source)
    task = found.candidate[0].task
    info = catalogue.own()[task]
    write_json(
        tmp_path / "provenance.json",
        Provenance(
            source="hub",
            name=task,
            dataset_path="allenai/ai2_arc",
            dataset_name="ARC-Easy",
            dataset_revision="c" * 40,
            licence="cc-by-sa-4.0",
            context="none",
            items=1,
            versions={},
            command=[],
        ),
    )
    packed = replace(info, name="arc", folder=tmp_path)
    records = [r.model_copy(update={"task": "arc"}) for r in found.candidate if r.task == task]
    frozen = ExportSource(found.evidence, found.base, records, catalogue.Catalogue(added=(packed,)))
    (text,) = eval_results(frozen).values()
    (entry,) = yaml.safe_load(text)
    assert entry["dataset"] == {
        "id": "allenai/ai2_arc",
        "task_id": "ARC-Easy",
        "revision": "c" * 40,
    }
