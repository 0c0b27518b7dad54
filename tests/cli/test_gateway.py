"""`egress gateway` on the command line: what needs no root, and how misuse is told."""

from __future__ import annotations

import os
import pwd

import pytest
from typer.testing import CliRunner

from egress.cli.gateway_options import wanted
from egress.cli.gateway_told import lines
from egress.cli.main import app
from egress.confine.gateway import Gateway, Subnet, ThisHost
from egress.confine.gateway_status import GatewayStatus, State
from egress.confine.gateway_text import command_line, rules_text
from egress.errors import GatewayError


def run(*words: str) -> tuple[int, str]:
    """Run the command; what it printed, errors too."""
    result = CliRunner().invoke(app, ["gateway", *words])
    if isinstance(result.exception, GatewayError):
        return 1, str(result.exception)
    return result.exit_code, result.output


def test_print_prints_the_rules() -> None:
    """The same text that `up` sets."""
    words = ["--interface", "lan0", "--ipv6", "redirect", "--dns-port", "5300", "--open-port", "3128"]
    gateway = Gateway(Subnet(interfaces=("lan0",), open_ports=(3128,)), dns_port=5300)
    assert run("print", *words) == (0, rules_text(gateway))


def test_the_command_that_is_told_makes_the_same_rules() -> None:
    """What `up` and `status` print can be run."""
    gateway = Gateway(ThisHost(uids=(1001, 1002), closed_ports=(9464,)), dns_port=5300, table="egress_2")
    words = command_line(gateway).split()[3:]
    assert run("print", *words) == (0, rules_text(gateway))


def test_users_are_named_or_numbered() -> None:
    """A name is what it is on this machine."""
    name = pwd.getpwuid(os.getuid()).pw_name
    code, text = run("print", "--this-host", "--uid", name, "--uid", "1234", "--ipv6", "reject")
    assert code == 0
    assert f"meta skuid {{ {os.getuid()}, 1234 }}" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["print"], "nothing says what is to be confined"),
        (["print", "--this-host"], "needs either the users that are confined"),
        (["print", "--this-host", "--uid", "nobody-of-this-name"], "there is no user `nobody-of-this-name`"),
        (["print", "--this-host", "--uid", "1", "--tproxy"], "is not with --this-host"),
        (["print", "--interface", "lan0", "--uid", "1"], "is only with --this-host"),
        (["print", "--interface", "lan0", "--closed-port", "1"], "is only with --this-host"),
        (["print", "--sandbox", "veth7:10.8.0.7"], "binds no sandbox to an address"),
        (["up", "--interface", "lan*"], "`lan*` is no name of an interface"),
        (["down", "--table", "filter"], "`filter` is no name for a table of ours"),
        (["status", "--table", "filter"], "`filter` is no name for a table of ours"),
    ],
)
def test_misuse_is_told(words: list[str], message: str) -> None:
    """With the option or the text that is wrong."""
    code, text = run(*words)
    assert code != 0
    assert message in text


def test_ipv6_is_refused_where_an_interface_has_none() -> None:
    """Left to itself, as for an interface that is not there yet."""
    gateway = wanted(
        interface=["nowhere0"],
        source=None,
        sandbox=None,
        tproxy=False,
        open_port=None,
        this_host=False,
        uid=None,
        except_uid=None,
        closed_port=None,
        port=3129,
        dns_port=None,
        ipv6="auto",
        table="egress",
    )
    assert gateway.ipv6 == "reject"


@pytest.mark.parametrize("state", State)
def test_every_state_has_its_words(state: State) -> None:
    """A state without words would be an error when it matters."""
    assert list(lines(GatewayStatus("egress", state)))


def test_many_differences_are_cut() -> None:
    """A screen is enough to see that it is wrong; `--json` has all."""
    told = list(lines(GatewayStatus("egress", State.DRIFTED, None, tuple(map(str, range(25))))))
    assert told[-1] == "  and 5 more"
