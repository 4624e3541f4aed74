"""A hub on this machine, and a retainbench that asks it: freezing as it is with internet.

`Hub` answers what `datasets` and `huggingface_hub` ask of a dataset's repository; each repository
has commits with files of their own, and branches. `Shell` runs commands in one process, in which
both libraries know no other hub (they read its address when they are imported).
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit


class Repository:
    """A dataset: files by commit, commits by branch."""

    def __init__(self, commits: Mapping[str, Mapping[str, bytes]], **branches: str) -> None:
        self.commits = {commit: dict(files) for commit, files in commits.items()}
        self.branches = {name.replace("_", "/"): commit for name, commit in branches.items()}

    def commit(self, revision: str) -> str | None:
        """What a revision means; None where there is no such thing."""
        found = self.branches.get(revision, revision)
        return found if found in self.commits else None


def jsonl(*rows: Mapping[str, Any]) -> bytes:
    """Rows as a file."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


class Hub:
    """The server's state: datasets by name, and every revision that was asked for."""

    def __init__(self) -> None:
        self.datasets: dict[str, Repository] = {}
        self.asked: set[tuple[str, str]] = set()

    def answer(self, path: str, body: bytes) -> tuple[str, Any]:
        """Commit and content; None and why where there is no such thing."""
        for name, repository in self.datasets.items():
            api, files = f"/api/datasets/{name}/", f"/datasets/{name}/resolve/"
            if path.startswith((api, files)):
                rest = path.removeprefix(api).removeprefix(files)
                kind = "resolve" if path.startswith(files) else rest.split("/", 1)[0]
                tail = rest if kind == "resolve" else rest.partition("/")[2]
                revision, _, inside = tail.partition("/")
                self.asked.add((name, unquote(revision)))
                commit = repository.commit(unquote(revision))
                if commit is None:
                    return "", "RevisionNotFound"
                found = self._content(name, repository, commit, kind, unquote(inside), body)
                return ("", "EntryNotFound") if found is None else (commit, found)
        return "", "RepoNotFound"

    def _content(
        self, name: str, repository: Repository, commit: str, kind: str, inside: str, body: bytes
    ) -> Any:
        files = repository.commits[commit]
        if kind == "resolve":
            return files.get(inside)
        if kind == "revision":
            listed = [{"rfilename": file} for file in files]
            stated = {"license": f"licence of {name}"}
            return {"id": name, "sha": commit, "siblings": listed, "cardData": stated}
        if kind == "tree":
            return _tree(files, inside)
        if kind == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else []
            return [entry for path in wanted for entry in _entry(files, path)]
        return None


def _tree(files: Mapping[str, bytes], folder: str) -> list[dict[str, Any]]:
    start = f"{folder}/" if folder else ""
    names = {start + f[len(start) :].split("/")[0] for f in files if f.startswith(start)}
    return [entry for name in sorted(names) for entry in _entry(files, name)]


def _entry(files: Mapping[str, bytes], path: str) -> list[dict[str, Any]]:
    if path in files:
        return [{"type": "file", "path": path, "size": len(files[path]), "oid": _oid(files[path])}]
    inside = any(name.startswith(f"{path}/") for name in files)
    return [{"type": "directory", "path": path, "oid": _oid(path.encode())}] if inside else []


def _oid(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:40]


@contextmanager
def serve(hub: Hub) -> Iterator[str]:
    """The hub's address, while it is up."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            commit, content = hub.answer(urlsplit(self.path).path, body)
            content = content if commit else {"error": content}
            data = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(200 if commit else 404)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", "application/json")
            if commit:
                self.send_header("X-Repo-Commit", commit)
                self.send_header("ETag", f'"{_oid(data)}"')
            else:
                self.send_header("X-Error-Code", content["error"])
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_HEAD = do_POST = do_GET

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Result(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str


LOOP = """
import contextlib, io, json, os, sys
from retainbench.harness import cli, tasks_code, tasks_pack
answers = os.fdopen(os.dup(1), "w")
for line in sys.stdin:
    for name in (tasks_pack.VARIABLE, tasks_code.VARIABLE):
        os.environ.pop(name, None)
    sys.argv = ["retainbench", *json.loads(line)]
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        cli.cli_suite.screen.file = cli.cli_tasks.screen.file = out
        try:
            cli.main()
        except SystemExit as ended:
            code = ended.code or 0
    print(json.dumps([code, out.getvalue(), err.getvalue()]), file=answers, flush=True)
"""


class Shell:
    """`retainbench` commands, one after another in one process."""

    def __init__(self, address: str, home: Path) -> None:
        environment = os.environ | {
            "HF_ENDPOINT": address,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",
            "HF_DATASETS_OFFLINE": "0",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
        }
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", LOOP],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, *arguments: object) -> Result:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([str(argument) for argument in arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the command's process died"
        return Result(*json.loads(line))

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()
