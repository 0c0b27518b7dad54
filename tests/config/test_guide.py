"""The guide's examples are true."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from egress.config import PolicySource, load_policy
from egress.config.later import LATER_KEYS
from egress.config.policy_model import PolicyModel, RuleModel
from egress.policy import Scope

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "policy.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_of_the_guide_loads(example: str, tmp_path: Path) -> None:
    """What people copy works, without a warning."""
    path = tmp_path / "policy.yaml"
    path.write_text(example)
    warnings = load_policy([PolicySource(Scope.SANDBOX, path)]).warnings
    # The report mode never loads without a word.
    assert [warning.where for warning in warnings] == (["mode"] if "mode: report" in example else [])


def test_guide_names_every_key() -> None:
    """A key that is not in the guide does not exist for its readers."""
    keys = {*PolicyModel.model_fields, *RuleModel.model_fields, *LATER_KEYS["rules"]}
    assert {key for key in keys if f"`{key}`" not in GUIDE} == set()
