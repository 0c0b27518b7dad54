"""The commands of the guide do what it says, on a host that has what they name."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks
from rig.netns import Network, Server, original_destination

from egress.cli import gateway_options

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

GUIDE = ROOT / "docs" / "guides" / "gateway.md"
USERS = {"egress": "3128", "agent": "1001"}
COMMANDS = [line for block in blocks(GUIDE, "sh") for line in block.text.splitlines()]


@pytest.fixture
def host(network: Network) -> Iterator[Network]:
    """The gateway, with the interfaces of the guide besides its own."""
    for number in (7, 8):
        network.gateway.ip("link", "add", f"veth{number}", "type", "bridge")
    yield network
    for number in (7, 8):
        network.gateway.ip("link", "del", f"veth{number}")


def words_of(line: str) -> list[str]:
    """A command line's words; the users of the guide need not be users of this machine."""
    return [USERS.get(word, word) for word in shlex.split(line)[1:]]


@pytest.mark.parametrize("line", [line for line in COMMANDS if " up " in line])
def test_what_the_guide_sets_can_be_set_and_looked_at_and_removed(host: Network, line: str) -> None:
    """Each `up`, then a `status` that finds it in force, then `down`."""
    egress = host.gateway.egress
    told = egress(*words_of(line))
    assert told.returncode == 0, told.stderr
    with Server(host.gateway, 3129, original_destination), Server(host.gateway, 5300, original_destination):
        told = egress("gateway", "status", "--json")
    found = json.loads(told.stdout)
    assert (found["state"], found["differences"]) == ("in-force", [])
    # The stand-ins are root's, who is confined where everybody but one is.
    assert found["ready"] or "--except-uid" in line
    assert egress("gateway", "down").returncode == 0


def test_the_guide_shows_every_command_and_option() -> None:
    """What is not in the guide is found by nobody."""
    text = GUIDE.read_text()
    assert {words_of(line)[1] for line in COMMANDS} == {"up", "down", "print", "status"}
    assert [option for option in _options() if f"{option}" not in text] == []


def _options() -> list[str]:
    annotated = [value for value in vars(gateway_options).values() if hasattr(value, "__metadata__")]
    return [name for value in annotated for name in value.__metadata__[0].param_decls or ()]
