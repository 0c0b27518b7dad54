"""URLs are read one way only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.policy import Protocol, Reason, Refusal
from egress.review import Destination, parse_url

READ = [
    ("https://api.example.com", Protocol.HTTPS, "api.example.com", 443, "/", None),
    ("HTTPS://API.Example.COM./v1?x=1", Protocol.HTTPS, "api.example.com", 443, "/v1", "x=1"),
    ("http://api.example.com:8080/a/b?", Protocol.HTTP, "api.example.com", 8080, "/a/b", ""),
    ("https://api.example.com?x=/a@b:1", Protocol.HTTPS, "api.example.com", 443, "/", "x=/a@b:1"),
    ("https://api.example.com/@x", Protocol.HTTPS, "api.example.com", 443, "/@x", None),
    ("ws://api.example.com/chat", Protocol.WS, "api.example.com", 80, "/chat", None),
    ("wss://api.example.com", Protocol.WSS, "api.example.com", 443, "/", None),
    ("tcp://db.example.com:5432", Protocol.TCP, "db.example.com", 5432, None, None),
    ("dns://api.example.com", Protocol.DNS, "api.example.com", 53, None, None),
    ("https://[2001:DB8::1]:8443/x", Protocol.HTTPS, "2001:db8::1", 8443, "/x", None),
    ("https://10.1.2.3/", Protocol.HTTPS, "10.1.2.3", 443, "/", None),
    ("https://bücher.example/", Protocol.HTTPS, "xn--bcher-kva.example", 443, "/", None),
    ("api.example.com:443", Protocol.HTTPS, "api.example.com", 443, "/", None),
    ("api.example.com:8443", Protocol.HTTPS, "api.example.com", 8443, "/", None),
    ("api.example.com:80", Protocol.HTTP, "api.example.com", 80, "/", None),
    ("api.example.com", Protocol.HTTPS, "api.example.com", 443, "/", None),
    ("[2001:db8::1]:443", Protocol.HTTPS, "2001:db8::1", 443, "/", None),
]

REFUSED = [
    ("", Reason.REQUEST_MALFORMED),
    ("https://", Reason.HOST_INVALID),
    ("https:///path", Reason.HOST_INVALID),
    ("https://?x", Reason.HOST_INVALID),
    ("https://user@api.example.com/", Reason.HOST_INVALID),
    ("https://user:pw@api.example.com/", Reason.HOST_INVALID),
    ("https://evil.test@api.example.com", Reason.HOST_INVALID),
    ("https://api.example.com/#x", Reason.REQUEST_MALFORMED),
    ("https://api.example.com#@evil.test/", Reason.REQUEST_MALFORMED),
    ("https://evil.test\\@api.example.com/", Reason.REQUEST_MALFORMED),
    ("https:\\\\api.example.com", Reason.REQUEST_MALFORMED),
    (" https://api.example.com", Reason.REQUEST_MALFORMED),
    ("https://api.example.com/a b", Reason.REQUEST_MALFORMED),
    ("ht\ttps://api.example.com/", Reason.REQUEST_MALFORMED),
    ("https://api.example.com/\r\nHost: x", Reason.REQUEST_MALFORMED),
    ("https://api.example.com/é", Reason.REQUEST_MALFORMED),
    ("https://api.example.com/?é", Reason.REQUEST_MALFORMED),
    ("https://api.example.com:0/", Reason.PORT_INVALID),
    ("https://api.example.com:99999/", Reason.PORT_INVALID),
    ("https://api.example.com:x/", Reason.PORT_INVALID),
    ("https://127.1/", Reason.HOST_INVALID),
    ("https://0x7f.0.0.1/", Reason.HOST_INVALID),
    ("https://2130706433/", Reason.HOST_INVALID),
    ("https://a..b/", Reason.HOST_INVALID),
    ("https://api%2eexample.com/", Reason.HOST_INVALID),
    ("https://[fe80::1%25eth0]/", Reason.HOST_INVALID),
    ("ftp://api.example.com/", Reason.PROTOCOL_UNKNOWN),
    ("file:///etc/passwd", Reason.PROTOCOL_UNKNOWN),
    ("javascript:alert(1)", Reason.PORT_INVALID),
    ("tcp://db.example.com", Reason.PORT_INVALID),
    ("tcp://db.example.com:5432/", Reason.REQUEST_MALFORMED),
    ("tcp://db.example.com:5432?x", Reason.REQUEST_MALFORMED),
    ("dns://api.example.com/", Reason.REQUEST_MALFORMED),
    ("dns://10.1.2.3", Reason.HOST_INVALID),
    ("https:/api.example.com", Reason.REQUEST_MALFORMED),
    ("//api.example.com/", Reason.REQUEST_MALFORMED),
    ("user@api.example.com:443", Reason.HOST_INVALID),
    ("https://" + "a" * 70_000, Reason.REQUEST_MALFORMED),
]


@pytest.mark.parametrize(("text", "protocol", "host", "port", "path", "query"), READ)
def test_url_is_read_into_its_parts(  # noqa: PLR0917  a column each
    text: str, protocol: Protocol, host: str, port: int, path: str | None, query: str | None
) -> None:
    """Scheme, canonical host, port by scheme, raw path, raw query."""
    read = parse_url(text)
    assert isinstance(read, Destination)
    assert (read.protocol, read.host.text, read.port, read.path, read.query) == (protocol, host, port, path, query)


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_doubtful_url_is_refused(text: str, reason: Reason) -> None:
    """What forgiving parsers would repair, each in its own way."""
    read = parse_url(text)
    assert isinstance(read, Refusal)
    assert read.reason is reason


@given(st.text(max_size=60) | st.text(alphabet="htps:/@#?[]\\.a1%", max_size=30).map(lambda text: "https://" + text))
def test_any_text_gives_a_destination_or_a_refusal(text: str) -> None:
    """Total; and what is read has no part that another reader would take for the authority."""
    read = parse_url(text)
    if isinstance(read, Destination):
        assert "@" not in read.host.text
        assert read.path is None or read.path.startswith("/")
