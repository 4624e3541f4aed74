"""Retention tasks on axes of their own are certified; what a reward.py scores is judged again."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

from fixtures.certify import POLICY, suite
from retainbench.harness.certificate import measure
from retainbench.harness.certificate.certify import CertificateRequest, certify
from retainbench.harness.certificate.verify import verify
from retainbench.harness.scoring import evaluate
from retainbench.harness.scoring.stored import Scoring

SMALL = {"items_per_task": 2, "divergence_prompts": 1, "divergence_tokens": 2, "noise_floor": []}


def test_rules_and_refusals_are_certified(tiny_base: Path, tmp_path: Path) -> None:
    """On a tiny model whose window has room for a question and the longest answer."""
    base = tmp_path / "base"
    shutil.copytree(tiny_base, base)
    config = json.loads((base / "config.json").read_text(encoding="utf-8"))
    config["max_position_embeddings"] = 1_024
    (base / "config.json").write_text(json.dumps(config), encoding="utf-8")
    names = ["writing_rules", "refusals"]
    asked = suite(tasks=names, **SMALL)
    scoring = Scoring(evaluate.of_model, {"dtype": "float32"})
    request = CertificateRequest(
        scoring, ["retainbench"], measure=partial(measure.drift_and_kl, suite=asked)
    )
    policy = POLICY.model_copy(update={"mandatory": names})
    out = tmp_path / "certificate"
    made = certify(str(base), str(base), asked, policy, out, request)
    assert made.evidence.items_per_task == 2
    verify(out, allow_unsigned=True, suite=asked)
