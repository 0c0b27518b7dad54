"""The grammar of targets: what each form means, and what is refused with the right spelling."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from egress.policy import (
    AnyTarget,
    Host,
    HostTarget,
    NetworkTarget,
    Refusal,
    Target,
    TargetError,
    Verdict,
    parse_host,
    parse_network,
    parse_target,
    target_covers,
)

TARGETS = [
    ("example.com", HostTarget("example.com", exact=True, below=False), None),
    ("EXAMPLE.com.", HostTarget("example.com", exact=True, below=False), None),
    ("*.example.com", HostTarget("example.com", exact=False, below=True), None),
    (".example.com", HostTarget("example.com", exact=True, below=True), None),
    ("*.bücher.example", HostTarget("xn--bcher-kva.example", exact=False, below=True), None),
    ("localhost:8080", HostTarget("localhost", exact=True, below=False), 8080),
    ("**", AnyTarget(), None),
    ("**:443", AnyTarget(), 443),
    ("*.example.com:8443", HostTarget("example.com", exact=False, below=True), 8443),
    ("10.1.2.3", NetworkTarget(ip_network("10.1.2.3/32")), None),
    ("10.1.2.3:22", NetworkTarget(ip_network("10.1.2.3/32")), 22),
    ("10.0.0.0/8", NetworkTarget(ip_network("10.0.0.0/8")), None),
    ("10.0.0.0/8:22", NetworkTarget(ip_network("10.0.0.0/8")), 22),
    ("2001:db8::1", NetworkTarget(ip_network("2001:db8::1/128")), None),
    ("[2001:db8::1]", NetworkTarget(ip_network("2001:db8::1/128")), None),
    ("[2001:db8::1]:443", NetworkTarget(ip_network("2001:db8::1/128")), 443),
    ("2001:db8::/32", NetworkTarget(ip_network("2001:db8::/32")), None),
    ("[2001:db8::/32]:443", NetworkTarget(ip_network("2001:db8::/32")), 443),
    ("::ffff:10.0.0.1", NetworkTarget(ip_network("10.0.0.1/32")), None),
    ("::ffff:10.0.0.0/104", NetworkTarget(ip_network("10.0.0.0/8")), None),
]


@pytest.mark.parametrize(("text", "what", "port"), TARGETS)
def test_each_form_means_what_the_grammar_says(text: str, what: HostTarget, port: int | None) -> None:
    """Names are canonical, mapped ranges are IPv4."""
    assert parse_target(text) == Target(what, port)


REFUSED = [
    ("", "write a host"),
    ("*", "write `**`"),
    ("*.com", "name more of the host"),
    (".com", "name more of the host"),
    ("*.co.uk", "name more of the host"),
    (".github.io", "name more of the host"),
    ("al*ed.test", "`*.ed.test`"),
    ("api-*.example.com", "`*.example.com`"),
    ("**.example.com", "`*.example.com`"),
    ("example.*", "whole first label"),
    ("*.*.example.com", "`*.example.com`"),
    ("*example.com", "`*.example.com`"),
    ("https://example.com/x", "URL"),
    ("example.com/x", "`paths`"),
    ("example.com:0", "1 to 65535"),
    ("example.com:70000", "1 to 65535"),
    ("example.com:443-444", "`ports`"),
    ("example.com:*", "1 to 65535"),
    ("a b.example", "space"),
    ("127.1", "plain host name"),
    ("0x7f000001", "plain host name"),
    ("*.10.0.0.1", "CIDR"),
    ("10.0.0.1/8", "write `10.0.0.0/8` or `10.0.0.1`"),
    ("10.0.0.0/33", "prefix length"),
    ("10.0.0.0/08", "prefix length"),
    ("10.0.0.0/255.0.0.0", "prefix length"),
    ("10.0.0.0/", "prefix length"),
    ("2001:db8::1/32", "write `2001:db8::/32`"),
    ("0.0.0.0/0", "every address"),
    ("::/0", "every address"),
    ("::ffff:0:0/96", "every address"),
    ("[example.com]:443", "brackets"),
    ("[2001:db8::1", "brackets"),
    ("[2001:db8::1]x", "brackets"),
    ("user@example.com", "plain host name"),
    ("example.com\x00", "plain host name"),
    ("-bad.example", "in a list file no dash"),
]


@pytest.mark.parametrize(("text", "told"), REFUSED)
def test_a_mistake_is_refused_with_what_to_write(text: str, told: str) -> None:
    """The message and the hint name the right spelling."""
    error = parse_target(text)
    assert isinstance(error, TargetError)
    assert told in f"{error.message}; {error.hint}"
    assert error.hint


@pytest.mark.parametrize("text", ["0.0.0.0/0", "::/0"])
def test_every_address_may_be_denied_but_not_allowed(text: str) -> None:
    """`deny: "::/0"` turns IPv6 off; an allow of it would turn the firewall off."""
    assert isinstance(parse_target(text), TargetError)
    assert isinstance(parse_target(text, verdict=Verdict.DENY), Target)


@pytest.mark.parametrize(
    ("text", "expected"), [("10.0.0.0/8", "10.0.0.0/8"), ("10.1.2.3", "10.1.2.3/32"), ("fd00::/8", "fd00::/8")]
)
def test_a_network_is_an_address_or_a_range(text: str, expected: str) -> None:
    """As `addresses` takes it."""
    assert parse_network(text) == ip_network(expected)


@pytest.mark.parametrize("text", ["", "example.com", "example.com/8", "10.0.0.1/8", "*", "10.0.0.0/8/8", "0.0.0.0/0"])
def test_what_is_not_a_network_is_refused(text: str) -> None:
    """Also a name, and a range of everything."""
    assert isinstance(parse_network(text), TargetError)


COVERS = [
    ("example.com", "example.com", True),
    ("example.com", "api.example.com", False),
    ("example.com", "evilexample.com", False),
    ("*.example.com", "example.com", False),
    ("*.example.com", "a.b.example.com", True),
    ("*.example.com", "evilexample.com", False),
    ("*.example.com", "x.example.com.evil.test", False),
    (".example.com", "example.com", True),
    (".example.com", "a.example.com", True),
    ("**", "anything.test", True),
    ("**", "10.0.0.1", False),
    ("10.0.0.0/8", "10.1.2.3", True),
    ("10.0.0.0/8", "11.1.2.3", False),
    ("10.0.0.0/8", "example.com", False),
    ("example.com:443", "example.com", True),
    ("example.com:8443", "example.com", False),
]


@pytest.mark.parametrize(("text", "host", "covered"), COVERS)
def test_a_target_covers_whole_labels(text: str, host: str, covered: bool) -> None:  # noqa: FBT001 -- a column of a table
    """Port 443 is asked."""
    target, named = parse_target(text), parse_host(host)
    assert isinstance(target, Target)
    assert not isinstance(named, Refusal)
    assert isinstance(named, Host)
    assert target_covers(target, named, 443) is covered
