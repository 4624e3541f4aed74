"""The options of a certificate have one set of defaults, and none is ignored."""

from __future__ import annotations

import dataclasses
import inspect

import pytest

import retainbench
from retainbench.harness.api.certify import CertifyOptions


def test_both_functions_have_the_same_defaults() -> None:
    parameters = inspect.signature(retainbench.certify).parameters.values()
    given = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    del given["overwrite"]
    assert given == {field.name: field.default for field in dataclasses.fields(CertifyOptions)}


def test_an_option_that_a_chain_does_not_have_is_refused() -> None:
    with pytest.raises(TypeError, match="dtpye"):
        retainbench.certify_chain(["a", "b", "c"], "quick", "out", dtpye="bfloat16")
