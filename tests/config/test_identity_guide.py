"""The guide on cloud identities is true: its example loads as a whole, and it names every key, path and variable."""

from __future__ import annotations

from typing import TYPE_CHECKING

from documents import ROOT, blocks, prose

from egress.cli.identity_variables import identity_names
from egress.config import ServerOverrides, load_server_config
from egress.config.identity_model import AwsIdentityModel, GoogleIdentityModel, IdentityModel
from egress.gate.build import load_generation
from egress.gate.endpoints import METADATA_HOSTS
from egress.gate.endpoints.azure import INSTANCE_PATH

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

GUIDE = ROOT / "docs" / "guides" / "identity.md"
TEXT = prose(GUIDE)


def test_the_example_loads_as_a_whole(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The configuration and the policy that it shows fit each other, and nothing of them is warned of."""
    config, policy = [block.text for block in blocks(GUIDE, "yaml")]
    (tmp_path / "egress.yaml").write_text(f"state_dir: state\n{config}")
    (tmp_path / "policy.yaml").write_text(policy)
    (tmp_path / "state").mkdir(mode=0o700)
    server = load_server_config(tmp_path / "egress.yaml", ServerOverrides(), {})
    generation = load_generation(server, {})
    identity = server.identity
    assert identity is not None
    assert caplog.messages == []
    used = {name for rule in generation.policy.scopes[0].rules for name in [swap.secret for swap in rule.swap]}
    assert used == {"arm", "vault", "storage"}
    assert set(identity_names(server)) == {name for name in identity_names(server) if f"`{name}`" in TEXT}


def test_the_guide_names_every_key_path_and_host() -> None:
    """What is not in the guide does not exist for its readers."""
    models = (IdentityModel, AwsIdentityModel, GoogleIdentityModel)
    named = {*(key for model in models for key in model.model_fields), *METADATA_HOSTS}
    assert {name for name in named if f"`{name}`" not in TEXT} == set()
    assert INSTANCE_PATH in TEXT
