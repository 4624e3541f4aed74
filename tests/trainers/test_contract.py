"""What every method must keep, by the rules of `retainbench check`, and what its page says.

Runs over discovery, so a new trainer is tested by existing (give it small options in
`trainer_cases.SMALL`).
"""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from fixtures.runs import SFT, plan_of, suite
from fixtures.trainer_cases import SMALL
from retainbench.harness.contracts import method as contract
from retainbench.harness.core import paths
from retainbench.harness.core.errors import UsageError
from retainbench.harness.core.stages import AnyAdapter
from retainbench.harness.running import run as runner
from retainbench.harness.suites import describe, loading, methods

METHODS = methods.methods()
ADAPTERS = [
    AnyAdapter.model_validate(adaptation)
    for adaptation in (
        {"peft_type": "DORA", "r": 2},
        {"peft_type": "OFT", "oft_block_size": 4, "r": 0},
        {"peft_type": "VERA", "r": 4},
        {"peft_type": "IA3", "target_modules": ["k_proj", "v_proj"], "feedforward_modules": []},
    )
]
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


@pytest.mark.parametrize("adaptation", ADAPTERS, ids=str)
def test_adapters_of_peft_keep_the_contract(tiny_base: Path, adaptation: AnyAdapter) -> None:
    """With one method of each kind of loop; what they move is scored and measured merged."""
    module = methods.load("rft" if adaptation.peft_type == "IA3" else "sft")
    options = module.Options.model_validate(SMALL[module.__name__.rpartition(".")[2]])
    rules = list(contract.check(module, tiny_base, adaptation, options))
    assert [rule for rule in rules if not rule.passed] == []


def test_a_run_with_an_adapter_of_peft_counts_and_measures_it(
    tiny_base: Path, tmp_path: Path
) -> None:
    """Two stages, so that the first one is merged under the second."""
    stage = {**SFT, "adaptation": {"peft_type": "OFT", "oft_block_size": 4, "r": 0}}
    vera = {**SFT, "adaptation": {"peft_type": "VERA", "r": 8}}
    chosen = suite(tiny_base, recipes={"oft": stage, "both": {"stages": [stage, vera]}})
    plan = plan_of(chosen)
    assert plan_of(type(chosen).model_validate(plan.suite.model_dump(mode="json"))) == plan
    for card in runner.run(plan, tmp_path):
        assert card.status == "done", card.reason
        end = card.points[-1]
        assert card.adaptation.startswith("oft oft_block_size=4 r=0")
        assert 0 < card.trainable_parameters < card.total_parameters
        flops = end.ledger.flops / (2 * end.ledger.forward_tokens)
        assert card.total_parameters * 2 < flops < card.total_parameters * 3
        assert end.drift is not None
        assert end.drift.relative > 0


@pytest.mark.parametrize(
    ("adaptation", "what"),
    [
        (
            {"peft_type": "DORA", "rank": 8},
            "recipes.x.adaptation: DORA: unknown 'rank'.*Known: .*r",
        ),
        ({"peft_type": "VEERA"}, "unknown 'VEERA'; did you mean 'VERA'?"),
        ({"peft_type": "PREFIX_TUNING"}, "cannot be merged"),
        ({"peft_type": "OFT", "r": 4, "oft_block_size": 4}, "adaptation: OFT: "),
        ({"peft_type": "LORA", "layer_replication": [[0, 1]]}, "unknown 'layer_replication'"),
        ({"kind": "lora", "r": 4}, "unknown key 'recipes.x.stages.0.adaptation.r'.*rank"),
    ],
)
def test_a_wrong_adapter_is_refused_in_one_line(
    adaptation: dict[str, object], what: str, tmp_path: Path
) -> None:
    file = tmp_path / "small.yaml"
    recipe = {"method": "sft", "adaptation": adaptation}
    text = {"name": "x", "description": "x", "base": "fruitfly", "targets": ["countdown"]}
    text |= {"tasks": ["dates"], "seeds": [0], "budget": {"unit": "steps", "amount": 1.0}}
    file.write_text(yaml.safe_dump({**text, "recipes": {"x": recipe}}))
    with pytest.raises(UsageError, match=what) as refused:
        loading.read(str(file))
    assert "\n" not in str(refused.value)


def test_readme_of_the_methods_is_generated() -> None:
    assert (paths.TRAINERS / "README.md").read_text(encoding="utf-8") == describe.markdown()


@pytest.mark.parametrize("method", METHODS)
def test_every_option_is_documented(method: str) -> None:
    described = describe.describe(method)
    assert described.paper
    assert described.summary
    assert [option.name for option in described.options if not option.meaning] == []
