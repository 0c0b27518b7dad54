"""The guide on upstream proxies is true: its examples load, it has every key, and its details are those told."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from documents import ROOT, blocks, prose

from egress.config import ConnectBy, ProxyScheme, ServerOverrides, load_server_config
from egress.config.proxy_model import ProxyModel

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = ROOT / "docs" / "guides" / "upstream-proxy.md"
TEXT = prose(GUIDE)


def test_the_examples_load(tmp_path: Path) -> None:
    """Each as a whole configuration."""
    found = []
    for block in blocks(GUIDE, "yaml"):
        path = tmp_path / "egress.yaml"
        path.write_text(block.text)
        proxy = load_server_config(path, ServerOverrides(), {"HOME": "/home/x"}).upstream.proxy
        assert proxy is not None
        found.append(str(proxy.address))
    assert found == ["http://proxy.corp.example:3128", "socks5://10.0.0.9:1080"]


def test_the_guide_names_every_key_and_word() -> None:
    """What is not in the guide does not exist for its readers."""
    keys = {entry.alias or name for name, entry in ProxyModel.model_fields.items()}
    words = {word.value for word in (*ProxyScheme, *ConnectBy)}
    assert {name for name in keys | words if f"`{name}`" not in TEXT} == set()


def test_every_detail_that_it_explains_is_one_of_ours() -> None:
    """The table is what people search for."""
    code = "".join(
        path.read_text()
        for path in (*(ROOT / "egress" / "gate").glob("*.py"), ROOT / "egress" / "wire" / "connect_reply.py")
    )
    details = re.findall(r"^\| `((?:the upstream|we cannot)[^`]*)` \|", TEXT, re.MULTILINE)
    assert len(details) == 7
    for detail in details:
        start = re.split(r" \(status|: \.\.\.", detail)[0]
        assert start in code, detail
