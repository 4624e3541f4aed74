"""adapter_config.json: what may be given to PEFT, checked before PEFT sees it.

PEFT allocates by `r`, matches regular expressions of the file's choosing against every module name
and imports the module that `megatron_core` names. Each of these is bounded or refused here, without
importing PEFT. What passes may still not fit; loading reports that.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.models.checks.weights import Weights

PROMPTS = (
    "ADAPTION_PROMPT",
    "CARTRIDGE",
    "CPT",
    "MULTITASK_PROMPT_TUNING",
    "PREFIX_TUNING",
    "PROMPT_TUNING",
    "P_TUNING",
)
"""Types that put vectors before each prompt: there are no weights that could be merged."""
ROUTERS = ("POLY", "XLORA")

_RANKS = ("r", "init_r", "target_r", "rank", "n_frequency", "num_vectors")
_PATTERNS = ("target_modules", "exclude_modules")
REFUSED = {
    "megatron_config": "PEFT imports the module that `megatron_core` names",
    "layer_replication": "it changes the number of layers; merge the adapter first",
    "alora_invocation_tokens": "an activated LoRA changes with the prompt and cannot be merged",
    "arrow_config": "it loads further adapters",
}
MATCH_SECONDS = 5
"""Of processor time: a machine that is busy with something else refuses nobody's adapter."""
MOST_PATTERN = 2000
"""Characters of a regular expression; PEFT's own examples have fewer than 100."""
_MATCH = """
import json, re, resource, sys
work = json.load(sys.stdin)
resource.setrlimit(resource.RLIMIT_CPU, (work["seconds"], work["seconds"]))
for pattern in work["patterns"]:
    for name in work["names"]:
        re.fullmatch(pattern, name)
"""


def check(folder: Path, config: dict[str, Any], weights: Weights) -> None:
    """Check an adapter's config against its own tensors.

    Raises:
        IntegrityError: naming the key and what to do.
    """
    file = weights.files[0].with_name("adapter_config.json")
    kind = config.get("peft_type")
    if not isinstance(kind, str):
        raise IntegrityError(f"{file}: peft_type must be a text such as LORA")
    if kind in PROMPTS:
        raise IntegrityError(
            f"{file}: {kind} adds virtual tokens to each prompt and cannot be merged into weights; "
            "it is not scored. Train an adapter that changes weights, such as LORA"
        )
    if kind in ROUTERS:
        raise IntegrityError(f"{file}: {kind} chooses between adapters and cannot be merged")
    for key, reason in REFUSED.items():
        if config.get(key):
            raise IntegrityError(f"{file}: {key} is refused, since {reason}")
    if config.get("megatron_core") not in (None, "megatron.core"):
        raise IntegrityError(f"{file}: megatron_core is refused, since PEFT would import it")
    for key in ("rank_pattern", "alpha_pattern"):
        if not isinstance(config.get(key) or {}, dict):
            raise IntegrityError(f"{file}: {key} must map patterns to numbers")
    _check_ranks(file, config, weights)
    for key in _PATTERNS:
        value = config.get(key)
        texts = value if isinstance(value, list) else [value]
        if value is not None and not all(isinstance(text, str) for text in texts):
            raise IntegrityError(f"{file}: {key} must be a text or a list of texts")


def require_fit(folder: Path, config: dict[str, Any], base: dict[str, Any], held: Weights) -> None:
    """Check an adapter's config against the base that it is loaded on.

    Args:
        base: the base's config.json.
        held: the base's weights.

    Raises:
        IntegrityError: token ids outside of the vocabulary, or a regular expression that does not
            end.
    """
    file = folder / "adapter_config.json"
    _check_tokens(file, config.get("trainable_token_indices"), base, held)
    patterns = [config[key] for key in _PATTERNS if isinstance(config.get(key), str)]
    for key in ("rank_pattern", "alpha_pattern"):
        patterns += [rf"(.*\.)?({pattern})" for pattern in config.get(key) or {}]
    patterns = [text for text in patterns if text != "all-linear"]
    if patterns:
        names = sorted({name.rpartition(".")[0] for name in held.tensors})
        _require_fast(file, patterns, names)


def _check_ranks(file: Path, config: dict[str, Any], weights: Weights) -> None:
    """A rank is the length of some stored tensor, except for LoKr, which caps it."""
    longest = max((n for tensor in weights.tensors.values() for n in tensor.shape), default=0)
    most = 2**20 if config["peft_type"] == "LOKR" else max(longest, 1)
    lowest = 0 if config["peft_type"] in ("OFT", "BOFT") else 1
    pattern = config.get("rank_pattern")
    named = {key: config.get(key) for key in _RANKS}
    named |= pattern if isinstance(pattern, dict) else {}
    for key, value in named.items():
        if value is None or (config["peft_type"] == "ADALORA" and isinstance(value, list)):
            continue
        if type(value) is not int or not lowest <= value <= most:
            raise IntegrityError(
                f"{file}: {key[:80]} is {str(value)[:40]!r}; expected a whole number from {lowest} "
                f"to {most}, the longest side of a stored tensor"
            )
    _check_alpha(file, config)
    for key, value in config.items():
        bad = isinstance(value, float) and not math.isfinite(value)
        if bad or (type(value) is int and abs(value) > 2**53):
            raise IntegrityError(f"{file}: {key[:80]} is {str(value)[:40]}; expected a number")


def _check_alpha(file: Path, config: dict[str, Any]) -> None:
    patterns = config.get("alpha_pattern")
    named = {"lora_alpha": config.get("lora_alpha", 8)} if config["peft_type"] == "LORA" else {}
    named |= patterns if isinstance(patterns, dict) else {}
    for key, value in named.items():
        number = type(value) in (int, float) and math.isfinite(value)
        if not number or not 0 < abs(value) < 1e6:
            raise IntegrityError(
                f"{file}: {key[:80]} is {str(value)[:40]!r}; expected a number other than 0 of at "
                "most a million"
            )


def _check_tokens(file: Path, tokens: Any, base: dict[str, Any], held: Weights) -> None:
    if not tokens:
        return
    inner = base.get("text_config", base)
    size = inner.get("vocab_size", 0)
    lists = list(tokens.values()) if isinstance(tokens, dict) else [tokens]
    for ids in lists:
        if not isinstance(ids, list) or not all(type(n) is int and 0 <= n < size for n in ids):
            raise IntegrityError(
                f"{file}: trainable_token_indices must list ids from 0 to {size - 1}, the "
                f"vocabulary of {held.files[0].parent}"
            )


def _require_fast(file: Path, patterns: list[str], names: list[str]) -> None:
    """Match each pattern with each module name as PEFT will, in a process that can be stopped."""
    long = next((text for text in patterns if len(text) > MOST_PATTERN), None)
    problem = f"longer than {MOST_PATTERN} characters" if long else None
    if problem is None:
        work = json.dumps({"patterns": patterns, "names": names, "seconds": MATCH_SECONDS})
        command = [sys.executable, "-I", "-c", _MATCH]
        done = subprocess.run(command, input=work, text=True, capture_output=True)
        if done.returncode < 0:
            problem = f"not matched within {MATCH_SECONDS} s"
        elif done.returncode:
            problem = done.stderr.strip().splitlines()[-1][:200]
    if problem:
        raise IntegrityError(
            f"{file}: a regular expression for modules is {problem}: "
            f"{(long or patterns[0])[:80]!r}; list the modules by name"
        )
