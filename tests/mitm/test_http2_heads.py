"""HTTP/2 heads: written as HTTP/1.1 and read by the strict parser, so that one parser decides for both."""

from __future__ import annotations

import pytest
from mitmproxy import http

from egress.mitm.http2 import head_of
from egress.wire.head import NoBody, Reject, RejectKind, RequestHead

type Fields = tuple[tuple[bytes, bytes], ...]


def asked(
    method: bytes = b"GET", path: bytes = b"/x", authority: bytes = b"a.test", fields: Fields = ()
) -> RequestHead | Reject:
    """The head of a request as mitmproxy's HTTP/2 layer makes it."""
    request = http.Request(
        host="",
        port=0,
        method=method,
        scheme=b"https",
        authority=authority,
        path=path,
        http_version=b"HTTP/2.0",
        headers=http.Headers(fields),
        content=None,
        trailers=None,
        timestamp_start=0,
        timestamp_end=None,
    )
    return head_of(request)


READ = [
    ({}, ("GET", "/x", None, "a.test")),
    ({"path": b"/x?a=1"}, ("GET", "/x", "a=1", "a.test")),
    ({"authority": b"a.test:8443"}, ("GET", "/x", None, "a.test:8443")),
    ({"authority": b"[2001:db8::1]:443"}, ("GET", "/x", None, "[2001:db8::1]:443")),
    ({"fields": ((b"host", b"a.test"),)}, ("GET", "/x", None, "a.test")),
    ({"authority": b"", "fields": ((b"host", b"a.test"),)}, ("GET", "/x", None, "a.test")),
    ({"method": b"OPTIONS", "path": b"*"}, ("OPTIONS", "*", None, "a.test")),
    ({"method": b"POST", "fields": ((b"content-length", b"5"),)}, ("POST", "/x", None, "a.test")),
    ({"fields": ((b"cookie", b"a=1"), (b"cookie", b"b=2"))}, ("GET", "/x", None, "a.test")),
]

REFUSED = [
    # no name, two names, or a name that could be read in two ways
    {"authority": b""},
    {"authority": b"", "fields": ((b"host", b"a.test"), (b"host", b"a.test"))},
    {"authority": b"", "fields": ((b"host", b"a.test"), (b"Host", b"b.test"))},
    {"fields": ((b"host", b"b.test"),)},
    {"fields": ((b"host", b"a.test"), (b"host", b"b.test"))},
    {"fields": ((b"HOST", b"b.test"),)},
    {"fields": ((b"host", b"a.test:443"),)},
    {"authority": b"a.test, b.test"},
    {"authority": b"user@a.test"},
    {"authority": b"a.test/"},
    {"authority": b"a.test\r\nX: y"},
    {"authority": b"a.test\0"},
    {"authority": b"a b"},
    # a request line in a pseudo-header
    {"method": b"GET /admin HTTP/1.1\r\nX: y\r\n\r\nGET"},
    {"method": b"GET /admin HTTP/1.1 X"},
    {"method": b""},
    {"method": b"G ET"},
    {"method": b"GET\t"},
    {"path": b""},
    {"path": b"x"},
    {"path": b"/x y"},
    {"path": b"/x HTTP/1.1"},
    {"path": b"/x\r\nHost: b.test"},
    {"path": b"/x\nX: y"},
    {"path": b"/x\0"},
    {"path": b"/x#y"},
    {"path": b"/x\\y"},
    {"path": b"/\xe9"},
    {"path": b"*"},
    {"path": b"\t/x"},
    # fields that are none, or more than one
    {"fields": ((b"x", b"a\r\nhost: b.test"),)},
    {"fields": ((b"x", b"a\nb"),)},
    {"fields": ((b"x", b"a\0b"),)},
    {"fields": ((b"x\r\ny", b"1"),)},
    {"fields": ((b"x y", b"1"),)},
    {"fields": ((b"x:y", b"1"),)},
    {"fields": ((b"x-api-key:evil", b"1"),)},
    {"fields": ((b"x:", b"1"),)},
    {"fields": ((b"", b"1"),)},
    {"fields": ((b":x", b"1"),)},
    {"fields": ((b" x", b"1"),)},
    {"fields": ((b"x\x7f", b"1"),)},
    # framing that HTTP/1.1 would read differently
    {"fields": ((b"content-length", b"5"), (b"content-length", b"6"))},
    {"fields": ((b"content-length", b"+5"),)},
    {"fields": ((b"content-length", b"5"), (b"transfer-encoding", b"chunked"))},
    {"fields": ((b"transfer-encoding", b"gzip, chunked"),)},
    {"fields": ((b"expect", b"200-ok"),)},
]


@pytest.mark.parametrize(("request_", "head"), READ)
def test_a_head_that_http1_could_carry_is_read(
    request_: dict[str, object], head: tuple[str, str, str | None, str]
) -> None:
    """Method, path, query and Host, each in its place."""
    found = asked(**request_)  # type: ignore[arg-type]
    assert isinstance(found, RequestHead), found
    assert (found.method, found.target.path, found.target.query, found.host) == head


@pytest.mark.parametrize("request_", REFUSED)
def test_a_head_that_http1_could_not_carry_unharmed_is_refused(request_: dict[str, object]) -> None:
    """What a pseudo-header smuggles would become a second line, field or request at an HTTP/1.1 upstream."""
    found = asked(**request_)  # type: ignore[arg-type]
    assert isinstance(found, Reject), found
    assert found.kind is RejectKind.MALFORMED


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        (tuple((b"x%d" % number, b"1") for number in range(99)), None),
        (tuple((b"x%d" % number, b"1") for number in range(100)), RejectKind.TOO_LARGE),
        (((b"x", b"a" * 60_000),), None),
        (((b"x", b"a" * 70_000),), RejectKind.TOO_LARGE),
    ],
    ids=["100-fields", "101-fields", "60k", "70k"],
)
def test_the_limits_of_a_head_hold_for_http2(fields: Fields, kind: RejectKind | None) -> None:
    """Bounded: 64 KB and 100 fields, the same as in HTTP/1.1; Host counts as one of them."""
    found = asked(fields=fields)
    assert (found.kind if isinstance(found, Reject) else None) is kind


def test_a_long_path_is_bounded() -> None:
    """The request line has its own limit."""
    assert isinstance(asked(path=b"/" + b"a" * 15_000), RequestHead)
    found = asked(path=b"/" + b"a" * 17_000)
    assert isinstance(found, Reject)
    assert found.kind is RejectKind.TOO_LARGE


def test_a_request_without_a_body_field_has_no_body() -> None:
    """HTTP/2 frames its bodies itself; what the head says is only what it declares."""
    found = asked()
    assert isinstance(found, RequestHead)
    assert isinstance(found.framing, NoBody)
