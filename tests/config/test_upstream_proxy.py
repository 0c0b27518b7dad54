"""`upstream: {proxy: ...}`: what it says, what goes through it, and what is said of mistakes, without a password."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from egress.config import (
    ConnectBy,
    EnvSource,
    FileSource,
    ProxyScheme,
    ServerOverrides,
    StoreSource,
    UpstreamProxy,
    load_server_config,
)
from egress.errors import ConfigError
from egress.policy import Host, Refusal, parse_host

if TYPE_CHECKING:
    from pathlib import Path

PASTED = "hunter2-canary"


def load(folder: Path, text: str, flag: str | None = None) -> UpstreamProxy:
    """The proxy of a configuration file with this `upstream`."""
    path = folder / "egress.yaml"
    path.write_text(text)
    proxy = load_server_config(path, ServerOverrides(upstream_proxy=flag), {"HOME": "/home/x"}).upstream.proxy
    assert proxy is not None
    return proxy


WHOLE = """
upstream:
  proxy:
    url: https://proxy.corp.example:3128
    user: egress
    password: {file: secret.txt}
    connect: name
    except: [.corp.example, "10.0.0.0/8", "db.test:5432"]
    ca: root.pem
"""


def test_every_key_is_read(tmp_path: Path) -> None:
    """Paths are taken from the file's folder."""
    proxy = load(tmp_path, WHOLE)
    assert (proxy.address.scheme, str(proxy.address)) == (ProxyScheme.HTTPS, "https://proxy.corp.example:3128")
    assert (proxy.user, proxy.password) == ("egress", FileSource(tmp_path / "secret.txt"))
    assert (proxy.connect, proxy.ca) == (ConnectBy.NAME, (tmp_path / "root.pem",))


def test_a_url_alone_is_enough(tmp_path: Path) -> None:
    """Everything else has a default."""
    proxy = load(tmp_path, "upstream: {proxy: 'socks5://[2001:db8::1]:1080'}\n")
    assert proxy == UpstreamProxy(proxy.address)
    assert (str(proxy.address), proxy.connect) == ("socks5://[2001:db8::1]:1080", ConnectBy.ADDRESS)


def test_the_flag_moves_the_proxy_and_the_file_keeps_the_rest(tmp_path: Path) -> None:
    """Also where the file names no URL: then the flag has to."""
    proxy = load(tmp_path, WHOLE, "https://127.0.0.1:99")
    assert (str(proxy.address), proxy.user) == ("https://127.0.0.1:99", "egress")
    text = "upstream: {proxy: {user: me, password: {env: P}}}\n"
    assert load(tmp_path, text, "http://127.0.0.1:99").password == EnvSource("P")
    assert load(tmp_path, text.replace("env", "store"), "http://127.0.0.1:99").password == StoreSource("P")
    with pytest.raises(ConfigError, match=r"upstream.proxy: `url` is missing"):
        load(tmp_path, text)


# Host, port, checked address; whether it goes through the proxy of WHOLE.
THROUGH = [
    ("api.example.com", 443, "203.0.113.7", True),
    ("api.example.com", 443, "2001:db8::7", True),
    ("corp.example", 443, "203.0.113.7", False),
    ("git.corp.example", 443, "203.0.113.7", False),
    ("notcorp.example", 443, "203.0.113.7", True),
    ("api.example.com", 443, "10.1.2.3", False),
    ("10.1.2.3", 443, "10.1.2.3", False),
    ("203.0.113.7", 443, "203.0.113.7", True),
    ("db.test", 5432, "203.0.113.7", False),
    ("db.test", 443, "203.0.113.7", True),
    ("api.example.com", 443, "127.0.0.1", False),
    ("api.example.com", 443, "::1", False),
    ("api.example.com", 443, "::ffff:127.0.0.1", False),
    ("api.example.com", 80, "169.254.169.254", False),
    ("api.example.com", 80, "fe80::1", False),
    ("api.example.com", 80, "0.0.0.0", False),
    ("api.example.com", 80, "fd00:ec2::254", False),
    ("api.example.com", 80, "168.63.129.16", False),
    ("api.example.com", 80, "100.100.100.200", False),
    ("api.example.com", 80, "64:ff9b::7f00:1", False),
    ("api.example.com", 443, "192.168.1.1", True),
]


@pytest.mark.parametrize(("host", "port", "address", "through"), THROUGH)
def test_what_goes_through_it(host: str, port: int, address: str, through: bool, tmp_path: Path) -> None:  # noqa: FBT001
    """All but what is excepted, and this machine's own addresses, which mean another machine there."""
    named = parse_host(host)
    assert not isinstance(named, Refusal)
    assert isinstance(named, Host)
    assert load(tmp_path, WHOLE).serves(named, port, ip_address(address)) is through


WRONG = [
    ("{proxy: 7}", "upstream.proxy: should be a mapping, not a number"),
    ("{proxy: {}}", "upstream.proxy: `url` is missing, write `http://proxy.corp.example:3128`"),
    ("{proxy: ftp://a:1}", "the URL of a proxy begins with `http://`, `https://` or `socks5://`"),
    ("{proxy: proxy.corp.example:3128}", "the URL of a proxy begins with `http://`, `https://` or `socks5://`"),
    ("{proxy: socks5h://a:1}", "`socks5h` is no scheme here, write `socks5`, and `connect: name`"),
    ("{proxy: http://proxy.corp.example}", "the port of the proxy is missing, write it, as in"),
    ("{proxy: http://a:0}", "the port of the proxy is missing"),
    ("{proxy: http://a:99999}", "this is not the URL of a proxy"),
    ("{proxy: http://a:1/x}", "the URL of a proxy ends with its port"),
    ("{proxy: 'http://a:1?x'}", "the URL of a proxy ends with its port"),
    ("{proxy: 'http://a b:1'}", "this is not the URL of a proxy"),
    ("{proxy: http://127.1:1}", "this is not the URL of a proxy"),
    ("{proxy: 'http://[fe80::1%25eth0]:1'}", "this is not the URL of a proxy"),
    (f"{{proxy: 'http://me:{PASTED}@a:1'}}", "a user and a password do not stand in the URL of a proxy"),
    (f"{{proxy: {{url: http://a:1, user: me, password: {PASTED}}}}}", "a value never stands in a file"),
    ("{proxy: {url: http://a:1, password: {env: P}}}", "upstream.proxy.password: a password without a `user`"),
    ("{proxy: {url: http://a:1, user: me}}", "upstream.proxy.user: a user without a `password`"),
    ("{proxy: {url: http://a:1, user: 'a:b', password: {env: P}}}", "a user of an HTTP proxy has no `:`"),
    ("{proxy: {url: http://a:1, ca: x.pem}}", "upstream.proxy.ca: `ca` is for a proxy that is spoken to over https"),
    ("{proxy: {url: http://a:1, connect: nmae}}", "upstream.proxy.connect: unknown word `nmae`, did you mean `name`?"),
    ("{proxy: {url: http://a:1, connect: 7}}", "should be `address` or `name`, not a number"),
    ("{proxy: {url: http://a:1, except: ['**']}}", "with `**` nothing would go through the proxy"),
    ("{proxy: {url: http://a:1, except: ['*.com']}}", "covers names that anyone can register"),
    ("{proxy: {url: http://a:1, except: ['{sandbox}.test']}}", "upstream.proxy.except[0]"),
    ("{proxy: {url: http://a:1, excpet: [a.test]}}", "unknown key, did you mean `except`?"),
    ("{proxy: {url: http://a:1, user: ''}}", "upstream.proxy.user: this should be 1 to 255 printable characters"),
]


@pytest.mark.parametrize(("text", "said"), WRONG)
def test_mistakes_are_told_with_their_place_and_without_a_password(text: str, said: str, tmp_path: Path) -> None:
    """File, line, key, and what to write instead."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, f"upstream: {text}\n")
    assert "egress.yaml:1: upstream.proxy" in str(caught.value)
    assert said in str(caught.value)
    assert PASTED not in str(caught.value)


def test_a_password_in_the_flag_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """Command lines are read by everybody; so are errors."""
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, "{}\n", f"http://me:{PASTED}@a:1")
    assert str(caught.value).startswith("--upstream-proxy: a user and a password do not stand in the URL of a proxy")
    assert "password: {env: VARIABLE}" in str(caught.value)
    assert PASTED not in str(caught.value)
