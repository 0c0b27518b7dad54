"""`forwards`, `transparent` and `deny_page` of the server's configuration: what they come to, and what they refuse."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from egress.config import (
    DenyPage,
    Forward,
    ServerConfig,
    ServerOverrides,
    TransparentConfig,
    TransparentMode,
    UnixListener,
    load_server_config,
)
from egress.errors import ConfigError
from egress.policy import Host

if TYPE_CHECKING:
    from pathlib import Path

ROADS = """
forwards:
  127.0.0.1:5432: DB.corp.example:5432
  "[::1]:5432": "[2001:db8::1]:5432"
  unix:run/db.sock: 10.0.0.1:5432
transparent: {listen: ["0.0.0.0:3129", "[::]:3129"], mode: tproxy}
deny_page: inside-tls
sandboxes:
  reports: {listener: 127.0.0.1:5432}
  local: {listener: unix:run/db.sock}
  redirected: {listener: 0.0.0.0:3129}
"""


def load(folder: Path, text: str, *transparent: str) -> ServerConfig:
    """A configuration from the text of its file."""
    (folder / "egress.yaml").write_text(text or "workers: 1\n")
    return load_server_config(folder / "egress.yaml", ServerOverrides(transparent=transparent), {"HOME": "/home/dev"})


def test_what_is_stated_becomes_values(tmp_path: Path) -> None:
    """Names canonical, paths absolute; sandboxes are told by any of the listeners."""
    config = load(tmp_path, ROADS)
    socket = UnixListener(f"{tmp_path}/run/db.sock")
    assert config.forwards == (
        Forward(("127.0.0.1", 5432), Host("db.corp.example"), 5432),
        Forward(("::1", 5432), Host("2001:db8::1", ip_address("2001:db8::1")), 5432),
        Forward(socket, Host("10.0.0.1", ip_address("10.0.0.1")), 5432),
    )
    assert config.transparent == TransparentConfig((("0.0.0.0", 3129), ("::", 3129)), TransparentMode.TPROXY)
    assert config.deny_page is DenyPage.INSIDE_TLS
    assert [own.listener for own in config.sandboxes] == [("127.0.0.1", 5432), socket, ("0.0.0.0", 3129)]
    assert config.doors[0] == ("127.0.0.1", 3128)
    assert len(config.doors) == 6


def test_nothing_stated_is_no_road(tmp_path: Path) -> None:
    """Nothing is listened on that nobody asked for."""
    config = load(tmp_path, "")
    assert (config.forwards, config.transparent, config.deny_page) == ((), None, None)


def test_the_flag_says_where_and_the_file_how(tmp_path: Path) -> None:
    """The flag's addresses stand in place of the file's."""
    config = load(tmp_path, "transparent: {listen: '0.0.0.0:1', mode: tproxy}", "[::]:2", "127.0.0.1:3")
    assert config.transparent == TransparentConfig((("::", 2), ("127.0.0.1", 3)), TransparentMode.TPROXY)
    assert load(tmp_path, "", "0.0.0.0:3129").transparent == TransparentConfig((("0.0.0.0", 3129),))


WRONG = [
    ("forwards: 5432", "egress.yaml:1: forwards: should name a destination for each listener, not a number, write"),
    ("forwards: [a]", "forwards: should name a destination for each listener, not a list"),
    ("forwards: {5432: db:5432}", "forwards: a key should be text, not a number, quote it"),
    ("forwards: {'db:5432': db:5432}", 'forwards["db:5432"]: `db` is a name; a listener needs an address'),
    ("forwards: {127.0.0.1:5432: db}", "`db` is no destination: the destination names no port, write `127.0.0.1:5432"),
    ("forwards: {127.0.0.1:5432: 'db:0'}", "`db:0` is no destination: a port is a number from 1 to 65535"),
    ("forwards: {127.0.0.1:5432: 127.1:5432}", "`127.1:5432` is no destination: "),
    ("forwards: {127.0.0.1:5432: '*.db:5432'}", "is no destination: a host holds no wildcard"),
    ("forwards: {127.0.0.1:5432: 7}", "should be text, not a number"),
    ("forwards: {unix:@db: db:5432}", "names an abstract socket"),
    ("forwards: {127.0.0.1:3128: db:5432}", "forwards: 127.0.0.1:3128 serves something else already, name another"),
    ("forwards: {127.0.0.1:1: db:5, '127.0.0.1:1 ': db:6}", "is not an address and port to listen on"),
    ("transparent: true", "transparent: should be a mapping, not true/false"),
    ("transparent: {}", "transparent: `listen` is missing"),
    ("transparent: {listen: []}", "transparent.listen: this list is empty, so nothing could be redirected"),
    ("transparent: {listen: unix:a.sock}", "connections are redirected to an address, never to a unix socket"),
    ("transparent: {listen: 0.0.0.0:0}", "a firewall's rule names the port, so it cannot be any free one"),
    ("transparent: {listen: 'gateway:3129'}", "`gateway` is a name; a listener needs an address"),
    ("transparent: {listen: 0.0.0.0:1, mode: nat}", "transparent.mode: unknown word `nat`"),
    ("transparent: {listen: 127.0.0.1:3128}", "transparent: 127.0.0.1:3128 serves something else already"),
    ("forwards: {127.0.0.1:1: db:5}\ntransparent: {listen: 127.0.0.1:1}", "transparent: 127.0.0.1:1 serves"),
    ("deny_page: inside", "deny_page: unknown word `inside`"),
    ("deny_page: true", "deny_page: should be `connect` or `inside-tls`, not true/false"),
    ("sandboxes: {a: {listener: 127.0.0.1:5432}}", "the proxy does not listen there, so nobody would be this sandbox"),
    ("forwards: {127.0.0.1:9: db:5}\nidentity: {listen: 127.0.0.1:9, azure: {a: b}}", "identity.listen: this is where"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_what_is_wrong_is_told_where_and_how(tmp_path: Path, text: str, said: str) -> None:
    """And nothing is listened on."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("flag", "said"),
    [("3129", "is not an address and port"), ("here:1", "is a name"), ("127.0.0.1:3128", "serves something else")],
)
def test_a_wrong_flag_is_told_as_that(tmp_path: Path, flag: str, said: str) -> None:
    """With its name."""
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path, "", flag)
    assert [problem.file for problem in caught.value.problems] == ["--transparent"]
