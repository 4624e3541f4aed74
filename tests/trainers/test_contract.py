"""What every method must keep, by the rules of `retainbench check`, and what its page says.

Runs over discovery, so a new trainer is tested by existing (give it small options in
`trainer_cases.SMALL`).
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.trainer_cases import SMALL
from retainbench.harness.contracts import method as contract
from retainbench.harness.core import paths
from retainbench.harness.suites import describe, methods

METHODS = methods.methods()
CASES = [
    (method, adaptation) for method in METHODS for adaptation in methods.load(method).ADAPTATIONS
]


@pytest.mark.parametrize("method", METHODS)
def test_method_has_small_options(method: str) -> None:
    assert method in SMALL, "add small options to trainer_cases.SMALL"


@pytest.mark.parametrize(("method", "adaptation"), CASES)
def test_method_keeps_the_contract(tiny_base: Path, method: str, adaptation: str) -> None:
    module = methods.load(method)
    options = module.Options.model_validate(SMALL[method])
    assert contract.contract(module) == ""
    rules = list(contract.check(module, tiny_base, adaptation, options))
    assert len(rules) == len(contract.RULES)
    assert [rule for rule in rules if not rule.passed] == []


def test_readme_of_the_methods_is_generated() -> None:
    assert (paths.TRAINERS / "README.md").read_text(encoding="utf-8") == describe.markdown()


@pytest.mark.parametrize("method", METHODS)
def test_every_option_is_documented(method: str) -> None:
    described = describe.describe(method)
    assert described.paper
    assert described.summary
    assert [option.name for option in described.options if not option.meaning] == []
