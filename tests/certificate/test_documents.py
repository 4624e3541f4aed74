"""Records of documents in a certificate: what follows from the record alone is checked."""

from __future__ import annotations

import math
from typing import Any

import pytest

from fixtures.gate import record
from retainbench.harness.certificate.checks import answers
from retainbench.harness.core.errors import IntegrityError
from retainbench.harness.core.records import DOCUMENT_METRIC

RIGHT: dict[str, Any] = {
    "metric": DOCUMENT_METRIC,
    "chance": 0.0,
    "choice_logprobs": [-100.0],
    "document_tokens": 50,
    "document_bytes": 200,
}


def test_a_score_that_follows_from_likelihood_and_tokens_is_accepted() -> None:
    one = record("general_text", 0, math.exp(-2.0), **RIGHT)
    answers._check_record(one, "base", code=False, rotated=False)


@pytest.mark.parametrize(
    "change",
    [
        {"document_tokens": 40},
        {"document_tokens": None},
        {"document_bytes": None},
        {"choice_logprobs": [-90.0]},
        {"gold": "the text"},
        {"valid": False},
    ],
)
def test_what_contradicts_it_is_refused(change: dict[str, Any]) -> None:
    one = record("general_text", 0, math.exp(-2.0), **(RIGHT | change))
    with pytest.raises(IntegrityError, match="base"):
        answers._check_record(one, "base", code=False, rotated=False)
