"""Send what `export` wrote to a model repository of the Hugging Face hub.

`model-index` is merged into the metadata of the repository's README.md, `eval-results` is a file of
its own. Nothing else of the certificate leaves the machine, and nothing at all without `--push`.

Command: `retainbench export CERT --format F --out DIR --push ORG/MODEL [--pull-request]
[--dry-run]`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.text.escaping import one_line

MESSAGE = "Add retention scores measured by retainbench"
FORMATS = ("model-index", "eval-results")


def require(format: str, repository: str) -> None:
    """Refuse a malformed name, and a format without a place in a model repository."""
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        raise UsageError(f"--push {repository}: write ORG/MODEL, such as acme/model-7b")
    if format not in FORMATS:
        raise UsageError(f"--push takes --format {' or '.join(FORMATS)}, not {format}")


def push(files: Sequence[Path], out: Path, format: str, repository: str, pull_request: bool) -> str:
    """Send the files of one export; returns the address of the commit or the pull request.

    Args:
        files: what `export` returned, below `out`.
        repository: `ORG/MODEL`; the token is the one that huggingface_hub finds.

    Raises:
        UsageError: the hub cannot be reached, refuses the token or the repository.
    """
    from huggingface_hub import errors

    # The error of the HTTP library that the hub's library uses, and OSError.
    transport: tuple[Any, ...] = errors.HfHubHTTPError.__bases__
    try:
        if format == "model-index":
            return _merge(files[0], repository, pull_request)
        return _add(files, out, repository, pull_request)
    except (*transport, ValueError) as error:
        raise UsageError(f"cannot push to {repository}: {one_line(str(error), 300)}") from error


def _merge(file: Path, repository: str, pull_request: bool) -> str:
    from huggingface_hub import metadata_update

    metadata = yaml.safe_load(file.read_text())
    made = metadata_update(
        repository, metadata, overwrite=True, create_pr=pull_request, commit_message=MESSAGE
    )
    return getattr(made, "pr_url", None) or str(made)


def _add(files: Sequence[Path], out: Path, repository: str, pull_request: bool) -> str:
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(str(file.relative_to(out)), file) for file in files]
    made = HfApi().create_commit(
        repository, operations, commit_message=MESSAGE, create_pr=pull_request
    )
    return str(made.pr_url or made.commit_url)
