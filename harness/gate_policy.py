"""A policy file -> `Policy`, as strictly as a suite file.

The file is YAML: the keys of a suite's `policy:` block, alone or under `policy:` (so that a whole
suite file serves too). Command: `retainbench gate --policy FILE`.
"""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import ValidationError

from retainbench.harness.errors import UsageError
from retainbench.harness.records import Record
from retainbench.harness.suite import Policy, explain


def load_policy(path: Path) -> Policy:
    """Read a policy.

    Raises:
        UsageError: naming the file, the key and what is allowed.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
    block = value.get("policy", value) if isinstance(value, dict) else value
    if not isinstance(block, dict):
        raise UsageError(f"{path}: a policy is a mapping of keys, such as `margin: 0.02`")
    try:
        return _File.model_validate({"policy": block}).policy
    except ValidationError as error:
        raise UsageError(f"{path}: {explain(error, block)}") from error


class _File(Record):
    """Puts the key `policy` in front of every error's place, where `explain` looks for it."""

    policy: Policy
