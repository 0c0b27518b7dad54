"""The guide on signing is true: its examples load without a warning, and it names every word there is."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks

from egress.config import PolicySource, load_policy
from egress.config.sign_model import HmacModel
from egress.credentials.aws_keys import read_keys
from egress.policy import (
    MESSAGE_VARIABLES,
    VALUE_VARIABLES,
    HashName,
    KeyForm,
    Scope,
    SignatureEncoding,
)

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = ROOT / "docs" / "guides" / "signing.md"
TEXT = GUIDE.read_text()


@pytest.mark.parametrize("example", [block.text for block in blocks(GUIDE, "yaml")])
def test_an_example_loads(example: str, tmp_path: Path) -> None:
    """What people copy works, and signs."""
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\n{example}")
    loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
    assert loaded.warnings == ()
    assert all(rule.sign is not None for scope in loaded.policy.scopes for rule in scope.rules)


def test_the_forms_of_a_value_are_those_that_are_read() -> None:
    """One line of JSON, and one line a form of text."""
    (one,) = [block.text for block in blocks(GUIDE, "json")]
    assert json.loads(one)["Version"] == 1
    forms = [one, *blocks(GUIDE, "text")[0].text.splitlines()]
    tokens = [read_keys(form.replace("...", "0000").strip()).token is None for form in forms]
    assert tokens == [False, True, False]


def test_every_word_of_the_language_is_named() -> None:
    """A word that is not in the guide does not exist for its readers."""
    words = {*HmacModel.model_fields, *MESSAGE_VARIABLES, *VALUE_VARIABLES, "header:NAME", "sigv4", "region", "service"}
    words |= {each.value for kind in (HashName, KeyForm, SignatureEncoding) for each in kind}
    assert {word for word in words if f"`{word}`" not in TEXT} == set()
    rows = re.findall(r"^\| (.+?) \| .* \| (`message`|everywhere|`value`, `also`) \|$", TEXT, re.MULTILINE)
    told = {name: where for names, where in rows for name in re.findall(r"`([^`]+)`", names)}
    assert {name for name, where in told.items() if where != "`value`, `also`"} == {*MESSAGE_VARIABLES, "header:NAME"}
    assert {name for name, where in told.items() if where != "`message`"} == set(VALUE_VARIABLES)
