"""The examples of the guide on placeholders load, and it tells of every key and form there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from egress.config import PolicySource, load_policy
from egress.config.credential_model import PlaceholderModel, SwapModel
from egress.config.placeholder_forms import FORMS
from egress.policy import OWN_CREDENTIALS, Scope

GUIDES = Path(__file__).parents[2] / "docs" / "guides"
GUIDE = (GUIDES / "placeholders.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)
CREDENTIALS = re.findall(r"```yaml\n(.*?)```", (GUIDES / "credentials.md").read_text(), re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example_of_the_guide_loads(example: str, tmp_path: Path) -> None:
    """What people copy works, without a warning."""
    path = tmp_path / "policy.yaml"
    path.write_text(example)
    assert load_policy([PolicySource(Scope.SANDBOX, path)]).warnings == ()


def test_the_parts_of_the_guide_on_credentials_load(tmp_path: Path) -> None:
    """Its rule with Basic beside its first example; its binding to methods and paths on its own."""
    whole, rule, bound, *_ = CREDENTIALS
    whole = whole.replace("hosts: [api.github.com]", "hosts: [api.github.com, github.com]")
    for text in (whole + rule, bound):
        path = tmp_path / "policy.yaml"
        path.write_text(f"version: 1\n{text}")
        assert load_policy([PolicySource(Scope.SANDBOX, path)]).warnings == ()


def test_the_guide_names_every_key_and_form() -> None:
    """What is not in the guide does not exist for its readers."""
    keys = {
        field.alias or name for model in (SwapModel, PlaceholderModel) for name, field in model.model_fields.items()
    }
    assert {name for name in (*keys, *FORMS) if f"`{name}`" not in GUIDE} == set()
    assert f"`{OWN_CREDENTIALS[0]}`, `{OWN_CREDENTIALS[1]}`, `{OWN_CREDENTIALS[2]}`" in GUIDE
