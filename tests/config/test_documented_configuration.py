"""The configuration that the guide shows is whole, and loads."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from egress.config import Durability, Limits, ServerOverrides, load_server_config
from egress.config.proxy_model import ProxyModel
from egress.config.server_model import AuditModel, LimitsModel, ServerModel, UpstreamModel

if TYPE_CHECKING:
    import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "configuration.md"
EXAMPLE = re.findall(r"```yaml\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]


def test_the_example_loads_and_states_the_defaults(tmp_path: Path) -> None:
    """Every figure in it is the one that holds without a file."""
    (tmp_path / "org.yaml").write_text("version: 1\n")
    (tmp_path / "egress.yaml").write_text(EXAMPLE)
    config = load_server_config(tmp_path / "egress.yaml", ServerOverrides(), {})
    assert config.limits == Limits()
    assert (config.audit.flush_interval, config.audit.queue, config.audit.query_values) == (0.2, 10_000, False)
    assert (config.audit.durability, config.audit.denial_rows) == (Durability.NORMAL, 200)
    assert sorted(config.secrets) == ["arm", "github", "internal"]
    assert [source.scope.value for source in config.policies] == ["sandbox", "org"]


def test_the_example_names_every_key(subtests: pytest.Subtests) -> None:
    """A key that the loader takes and the guide does not show is one that nobody finds."""
    for model in (ServerModel, AuditModel, UpstreamModel, ProxyModel, LimitsModel):
        for key in (entry.alias or name for name, entry in model.model_fields.items()):
            with subtests.test(key):
                assert re.search(rf"^\s*{key}:", EXAMPLE, re.MULTILINE)
