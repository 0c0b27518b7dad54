"""Hosts, ports and authorities: what is read, what is refused, and that reading twice is reading once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy import Host, Reason, Refusal, parse_authority, parse_host, parse_port
from egress.policy.names import is_canonical_name

HOSTS = [
    ("example.com", "example.com"),
    ("EXAMPLE.Com", "example.com"),
    ("example.com.", "example.com"),
    ("localhost", "localhost"),
    ("_dmarc.my_host.example", "_dmarc.my_host.example"),
    ("a-b--c.example", "a-b--c.example"),
    ("1and1.example", "1and1.example"),
    ("0x7f.example", "0x7f.example"),
    ("bücher.example", "xn--bcher-kva.example"),
    ("BÜCHER.example", "xn--bcher-kva.example"),
    ("bücher。example", "xn--bcher-kva.example"),
    ("faß.example", "xn--fa-hia.example"),
    ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ("xn--ls8h.example", "xn--ls8h.example"),
    ("a" * 63 + ".example", "a" * 63 + ".example"),
    ("10.1.2.3", "10.1.2.3"),
    ("::1", "::1"),
    ("2001:DB8:0::1", "2001:db8::1"),
    ("::ffff:10.0.0.1", "10.0.0.1"),
    ("::ffff:a00:1", "10.0.0.1"),
    ("::127.0.0.1", "::7f00:1"),
]


@pytest.mark.parametrize(("raw", "text"), HOSTS)
def test_a_host_has_one_canonical_form(raw: str, text: str) -> None:
    """Case, root dot, IDNA and mapped addresses are folded."""
    host = parse_host(raw)
    assert isinstance(host, Host)
    assert host.text == text


REFUSED = [
    "",
    ".",
    "..",
    "a..b",
    ".example.com",
    "example.com..",
    " example.com",
    "example.com ",
    "exa mple.com",
    "example.com\n",
    "example.com\x00",
    "evil.test\x00.example.com",
    "example.com\x7f",
    "example.com\x85",
    "evil.test%00.example.com",
    "evil%2etest",
    "user@example.com",
    "user:pw@example.com",
    "example.com:80",
    "example.com/x",
    "example.com\\x",
    "example.com?x",
    "example.com#x",
    "[example.com]",
    "[::1]",
    "*.example.com",
    "**",
    "-a.example",
    "a-.example",
    "a" * 64 + ".example",
    ".".join(["a" * 49] * 6),
    "a" * 100_000,
    "127.1",
    "127.0.1",
    "0",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0xA9FEA9FE",
    "0x7f.0.0.1",
    "0251.0376.0251.0376",
    "010.0.0.1",
    "169.254.43518",
    "1.2.3.4.5",
    "256.1.1.1",
    "1.2.3.4.",
    "example.0x",
    "example.123",
    "127.0.0.1.",
    "①②⑦.0.0.1",
    "127。0。0。1",
    "\uff11\uff12\uff17.0.0.1",
    "exam\u00adple.com",
    "exam\u200bple.com",
    "a\ufe0f.example",
    "example.com\u2100",
    "example\uff0fevil.com",
    "example\uff05evil.com",
    "\u3000example.com",
    "xn--a.example",
    "xn--.example",
    "xn--example-.example",
    "xn--BCHER-KVA\u0301.example",
    "::1%lo",
    "fe80::1%25lo",
    "::ffff:0x7f000001",
    "v1.fe80::a",
    "1::2::3",
    "\ud800.example",
    "١٢٧.0.0.1",
]


@pytest.mark.parametrize("raw", REFUSED)
def test_what_is_not_certainly_one_host_is_refused(raw: str) -> None:
    """Each of these is read differently by some resolver, proxy or library, or not at all."""
    refusal = parse_host(raw)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.HOST_INVALID


@pytest.mark.parametrize("raw", ["[::1]", "[2001:DB8::1]", "[::ffff:1.2.3.4]"])
def test_brackets_stand_around_ipv6_where_the_caller_allows_them(raw: str) -> None:
    """An authority writes IPv6 in brackets; nothing else does."""
    assert isinstance(parse_host(raw, brackets=True), Host)


@pytest.mark.parametrize("raw", ["[example.com]", "[1.2.3.4]", "[::1", "[::1]x", "[]", "[[::1]]", "[::1%lo]"])
def test_brackets_around_anything_else_are_refused(raw: str) -> None:
    """A bracketed name once got past an allow-list (CVE-2022-29188)."""
    assert isinstance(parse_host(raw, brackets=True), Refusal)


@given(st.text(max_size=60) | st.from_regex(r"[a-zA-Z0-9._:\[\]%-]{1,40}", fullmatch=True))
def test_canonicalising_twice_is_canonicalising_once(raw: str) -> None:
    """A canonical host reads as itself, and no input raises."""
    host = parse_host(raw, brackets=True)
    if isinstance(host, Host):
        assert parse_host(host.text) == host
        assert host.address is not None or is_canonical_name(host.text)


@pytest.mark.parametrize("raw", ["1", "80", "443", "65535"])
def test_a_port_is_plain_digits(raw: str) -> None:
    """1 to 65535."""
    assert parse_port(raw) == int(raw)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "0",
        "080",
        "+80",
        "-1",
        "65536",
        "99999",
        "100000",
        "8 0",
        " 80",
        "80\n",
        "0x50",
        "8_0",
        "٨٠",
        "\uff18\uff10",
    ],
)
def test_any_other_port_is_refused(raw: str) -> None:
    """`int` takes signs, underscores and digits of other scripts; a port does not."""
    refusal = parse_port(raw)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.PORT_INVALID


AUTHORITIES = [
    ("example.com:443", None, ("example.com", 443)),
    ("example.com", 80, ("example.com", 80)),
    ("EXAMPLE.com.:8443", 80, ("example.com", 8443)),
    ("[::1]:443", None, ("::1", 443)),
    ("[::1]", 80, ("::1", 80)),
    ("10.0.0.1:22", None, ("10.0.0.1", 22)),
]


@pytest.mark.parametrize(("raw", "default", "expected"), AUTHORITIES)
def test_an_authority_is_host_and_port(raw: str, default: int | None, expected: tuple[str, int]) -> None:
    """As in CONNECT targets and Host fields."""
    parsed = parse_authority(raw, default)
    assert not isinstance(parsed, Refusal)
    assert (parsed[0].text, parsed[1]) == expected


@pytest.mark.parametrize("default", [None, 443])
@pytest.mark.parametrize(
    "raw",
    [
        "",
        ":443",
        "example.com:",
        "example.com:0443",
        "example.com:443:443",
        "example.com:443/x",
        "http://example.com:443",
        "user@example.com:443",
        "::1:443",
        "::1",
        "[::1]evil.test:443",
        "[::1]:",
        "[::1",
        "[evil.test]:443",
        "[1.2.3.4]:443",
        "example.com:443#@evil.test",
        "example.com, evil.test",
        "exa\x00mple.com:443",
    ],
)
def test_any_other_authority_is_refused(raw: str, default: int | None) -> None:
    """With and without a default port."""
    assert isinstance(parse_authority(raw, default), Refusal)


def test_a_missing_port_is_refused_where_it_must_be_there() -> None:
    """CONNECT has no default port."""
    refusal = parse_authority("example.com", None)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.PORT_INVALID


@given(st.text(max_size=60))
def test_a_refusal_shows_nothing_of_the_input(raw: str) -> None:
    """A detail may reach a terminal, and the input is hostile."""
    refusal = parse_host(raw)
    if isinstance(refusal, Refusal):
        assert refusal.detail.isascii()
        assert refusal.detail.isprintable()
