"""Request heads: what is read, what is refused, and when. The tables are the specification."""

from __future__ import annotations

import pytest

from egress.wire.head import (
    Chunked,
    ContentLength,
    Framing,
    HeadLimits,
    NeedMore,
    NoBody,
    Reject,
    RejectKind,
    RequestHead,
    Target,
    TargetForm,
    Version,
    parse_request_head,
)

ORIGIN, ABSOLUTE = TargetForm.ORIGIN, TargetForm.ABSOLUTE


def head_with(*fields: bytes, line: bytes = b"POST /x HTTP/1.1") -> bytes:
    """Build a head from its first line and fields; Host comes first."""
    return b"\r\n".join([line, b"Host: allowed.test", *fields]) + b"\r\n\r\n"


def accepted(data: bytes) -> RequestHead:
    """Parse what must be accepted."""
    head = parse_request_head(data)
    assert isinstance(head, RequestHead), head
    return head


# Every line is refused as a request line, whatever the rest of the head.
BAD_REQUEST_LINES = (
    b"",
    b" GET /x HTTP/1.1",
    b"\tGET /x HTTP/1.1",
    b"\r\nGET /x HTTP/1.1",
    b"\nGET /x HTTP/1.1",
    b"GET\t/x HTTP/1.1",
    b"GET /x\tHTTP/1.1",
    b"GET  /x HTTP/1.1",
    b"GET /x  HTTP/1.1",
    b"GET /x HTTP/1.1 ",
    b"GET /x HTTP/1.1\t",
    b"GET /x HTTP/1.1 HTTP/1.1",
    b"GET /x /y HTTP/1.1",
    b"GET /x",
    b"GET /x ",
    b"GET",
    b"GET HTTP/1.1",
    b"GET  HTTP/1.1",
    b"GET /x HTTP/1.2",
    b"GET /x HTTP/0.9",
    b"GET /x HTTP/2.0",
    b"GET /x HTTP/2",
    b"GET /x HTTP/9.9",
    b"GET /x HTTP/1.10",
    b"GET /x HTTP/1.",
    b"GET /x HTTP/1x1",
    b"GET /x HTTP/111",
    b"GET /x HTTP/01.1",
    b"GET /x http/1.1",
    b"GET /x Http/1.1",
    b"GET /x HTTPS/1.1",
    b"GET /x ICY/1.1",
    b"PRI * HTTP/2.0",
    b"G\x00T /x HTTP/1.1",
    b"G(T /x HTTP/1.1",
    b"G\xe9T /x HTTP/1.1",
    b"GET: /x HTTP/1.1",
    b"M" * 33 + b" /x HTTP/1.1",
    b"GET /x\r HTTP/1.1",
    b"GET /x\rHTTP/1.1",
    b"GET /x HTTP/1.1\r",
    b"GET /x\x0b HTTP/1.1",
    b"GET /x\x7f HTTP/1.1",
    b"GET /x\x00 HTTP/1.1",
)

# method, target, and how it is read.
TARGETS: tuple[tuple[bytes, bytes, Target], ...] = (
    (b"GET", b"/", Target(ORIGIN, "/")),
    (b"GET", b"/?", Target(ORIGIN, "/", "")),
    (b"GET", b"/a/b;c=1,2/~u/@x:y/!$&'()*+", Target(ORIGIN, "/a/b;c=1,2/~u/@x:y/!$&'()*+")),
    (b"GET", b"/a//b/", Target(ORIGIN, "/a//b/")),
    (b"GET", b"//evil.test/x", Target(ORIGIN, "//evil.test/x")),
    (b"GET", b"http://a.test//x", Target(ABSOLUTE, "//x", None, "http", "a.test")),
    (b"GET", b"/../a/./b", Target(ORIGIN, "/../a/./b")),
    (b"GET", b"/%2e%2E%00?%zz".replace(b"%zz", b"%7A"), Target(ORIGIN, "/%2e%2E%00", "%7A")),
    (b"GET", b"/a?b?c=/../d//e", Target(ORIGIN, "/a", "b?c=/../d//e")),
    (b"GET", b"/a?x=//evil.test", Target(ORIGIN, "/a", "x=//evil.test")),
    (b"GET", b"/[id]|^?a[]=1&b={}|^`", Target(ORIGIN, "/[id]|^", "a[]=1&b={}|^`")),
    (b"OPTIONS", b"/a", Target(ORIGIN, "/a")),
    (b"OPTIONS", b"*", Target(TargetForm.ASTERISK, "*")),
    (b"GET", b"http://a.test/", Target(ABSOLUTE, "/", None, "http", "a.test")),
    (b"GET", b"http://a.test", Target(ABSOLUTE, "/", None, "http", "a.test")),
    (b"GET", b"HTTP://A.test:80/x?y", Target(ABSOLUTE, "/x", "y", "http", "A.test:80")),
    (b"GET", b"https://[2001:db8::1]:443/x", Target(ABSOLUTE, "/x", None, "https", "[2001:db8::1]:443")),
    (b"GET", b"ws://a_b.test/x", Target(ABSOLUTE, "/x", None, "ws", "a_b.test")),
    (b"GET", b"wss://1.2.3.4/x", Target(ABSOLUTE, "/x", None, "wss", "1.2.3.4")),
    (b"OPTIONS", b"http://a.test", Target(ABSOLUTE, "*", None, "http", "a.test")),
    (b"OPTIONS", b"http://a.test/", Target(ABSOLUTE, "/", None, "http", "a.test")),
    (b"CONNECT", b"a.test:443", Target(TargetForm.AUTHORITY, "", authority="a.test:443")),
    (b"CONNECT", b"[::1]:443", Target(TargetForm.AUTHORITY, "", authority="[::1]:443")),
    (b"connect", b"/x", Target(ORIGIN, "/x")),
)

# Names that only the policy refuses; the shape is right, so these too must be read and, while they arrive, waited for.
UNUSUAL_AUTHORITIES: tuple[tuple[bytes, bytes, Target], ...] = tuple(
    (b"CONNECT", text, Target(TargetForm.AUTHORITY, "", authority=text.decode()))
    for text in (b".test:443", b"-a.test:443", b"_a:1", b"0x7f.1:80", b"a..b:443", b"..:00000")
)

BAD_TARGETS: tuple[tuple[bytes, bytes], ...] = (
    *((b"GET", target) for target in (
        b"*", b"x", b"x/y", b"a.test:443", b"?x", b"#", b"/#", b"/a#b", b"/a?b#c",
        b"/a\\b", b"\\a", b"/..\\x", b"/a?b\\c", b"/%", b"/%2", b"/%zz", b"/%2g", b"/%u0041", b"/a?%",
        b"/a?%4", b"/%%41",
        b"/\xc3\xa9", b"/a?\xff", b'/a"b', b"/<a>", b"/a?<b>", b"/a\x7fb", b"/{a}", b"/a`b",
        b"http:/a.test/x", b"http:a.test", b"http:///x", b"http://", b"http://?x", b"http://a.test?x",
        b"http://a.test#x",
        b"http://u@a.test/", b"http://u:p@a.test/", b"http://@a.test/", b"http://a.test@b.test/x",
        b"http://a.test\\@b.test/", b"http://a.test:/x", b"http://a.test:80:80/x", b"http://a.test:x/",
        b"http://a.test:+80/",
        b"http://a.test:123456/", b"http://[a.test]/", b"http://[::1/", b"http://[::1%25lo]/", b"http://[::1%lo]/",
        b"http://[::1]a/", b"http://a%2etest/", b"http://a,b/", b"http://a b/", b"ftp://a.test/x", b"file:///x",
        b"javascript:x", b"gopher://a.test/", b"rtsp://a.test/x", b"data:,x", b"*/x", b"**",
    )),
    *((b"CONNECT", target) for target in (
        b"a.test", b"a.test:", b":443", b"/", b"*", b"http://a.test:443", b"a.test:443/", b"u@a.test:443", b"::1:443",
        b"[a.test]:443", b"[::1]", b"[::1%25lo]:443", b"a.test:443:443", b"a.test:0x1bb", b"a.test:123456",
        b"a.test:443#",
        b"a.test:443?x", b"a.test:-1",
    )),
    (b"OPTIONS", b"**"),
    (b"options", b"*"),
    (b"POST", b"*"),
)  # fmt: skip

# Fields that make any head malformed, with CRLF added around them.
BAD_FIELDS = (
    b": x",
    b"x",
    b"x y: z",
    b"x : y",
    b"x\t: y",
    b" x: y",
    b"\tx: y",
    b"x: a\r\n b",
    b"x: a\r\n\tb",
    b"x\r\n : y",
    b"x: a\rb",
    b"x: a\nb",
    b"x: a\nb: c",
    b"x: a\r",
    b"x: a\n",
    b"x: \x00",
    b"x: a\x00b",
    b"x: \x0by",
    b"x: \x0c",
    b"x: \x1b[31m",
    b"x: \x7f",
    b"x:\x08",
    b"x\x00: y",
    b"x\xe9: y",
    b"(x): y",
    b"x@y: z",
    b'"x": y',
    b"{x}: y",
    b"x[]: y",
    b"x/y: z",
    b"x,y: z",
    b"x;y: z",
    b"x=y: z",
    b"x\\y: z",
    b"Host\x00: a",
)

BAD_LENGTHS = (
    b"", b"-1", b"+5", b" ", b"5 5", b"5, 5", b"5,", b",5", b"5;", b"0x5", b"5_0", b"1e3", b"5.0", b"05",
    b"00", b"\xb2",
    b"9007199254740992", b"99999999999999999999", b"5\t5", b"five", b"5\xa0", b"\xd9\xa5",
)  # fmt: skip

# fields, and the framing they declare.
FRAMINGS: tuple[tuple[tuple[bytes, ...], Framing], ...] = (
    ((), NoBody()),
    ((b"Content-Length: 0",), ContentLength(0)),
    ((b"content-length:5",), ContentLength(5)),
    ((b"CONTENT-LENGTH: \t 5 \t",), ContentLength(5)),
    ((b"Content-Length: 9007199254740991",), ContentLength(2**53 - 1)),
    ((b"Transfer-Encoding: chunked",), Chunked()),
    ((b"transfer-encoding: CHUNKED",), Chunked()),
    ((b"Transfer-Encoding: \t chunked \t ",), Chunked()),
    ((b"X-Transfer-Encoding: gzip", b"X-Content-Length: x"), NoBody()),
)

BAD_FRAMINGS: tuple[tuple[bytes, ...], ...] = (
    (b"Content-Length: 5", b"Content-Length: 5"),
    (b"Content-Length: 5", b"content-length: 6"),
    (b"Content-Length: 6", b"Transfer-Encoding: chunked"),
    (b"Transfer-Encoding: chunked", b"Content-Length: 6"),
    (b"Transfer-Encoding: chunked", b"Content-Length: 0"),
    (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    (b"Transfer-Encoding: chunked", b"transfer-encoding: identity"),
    (b"Transfer-Encoding: chunked, chunked",),
    (b"Transfer-Encoding: gzip, chunked",),
    (b"Transfer-Encoding: chunked, identity",),
    (b"Transfer-Encoding: identity",),
    (b"Transfer-Encoding: gzip",),
    (b"Transfer-Encoding: xchunked",),
    (b"Transfer-Encoding: chunkedx",),
    (b"Transfer-Encoding: chunked;q=1",),
    (b'Transfer-Encoding: "chunked"',),
    (b"Transfer-Encoding: chunked,",),
    (b"Transfer-Encoding: , chunked",),
    (b"Transfer-Encoding:",),
    (b"Transfer-Encoding: \xa0chunked",),
    (b"Expect: 200-ok",),
    (b"Expect:",),
    (b"Expect: 100-continue, x",),
    (b"Expect: 100-continue", b"Expect: 100-continue"),
)

BAD_HOSTS = (
    b"", b" ", b"a b", b"a.test, b.test", b"a.test,b.test", b"u@a.test", b"http://a.test", b"a.test/",
    b"a.test/x", b"a.test:",
    b":80", b"a.test:80:80", b"a.test:x", b"a.test:-1", b"a.test:123456", b"[::1", b"::1", b"[a.test]",
    b"[::1]x", b"[::1%25lo]",
    b"a%2etest", b"a.test\\b", b"a.test#b", b"a.test?b", b"\xef\xbd\x85vil.test", b"a.test\tb", b"*.a.test", b"a" * 256,
)  # fmt: skip

GOOD_HOSTS = (
    b"a.test",
    b"A.test:443",
    b"a_b.test",
    b"1.2.3.4:80",
    b"[::1]",
    b"[::ffff:1.2.3.4]:443",
    b"a.test.",
    b"x--y",
)


@pytest.mark.parametrize("line", BAD_REQUEST_LINES)
def test_request_line_is_exactly_method_target_version(line: bytes) -> None:
    """A request line is a token, a space, a target, a space and HTTP/1.0 or 1.1; anything else is refused."""
    assert isinstance(parse_request_head(line + b"\r\nHost: allowed.test\r\n\r\n"), Reject)


@pytest.mark.parametrize("line", BAD_REQUEST_LINES)
def test_bad_request_line_is_refused_before_the_head_ends(line: bytes) -> None:
    """No further byte can mend a bad first line, so none is waited for."""
    assert isinstance(parse_request_head(line + b"\r\nX"), Reject)


@pytest.mark.parametrize(("method", "text", "target"), TARGETS + UNUSUAL_AUTHORITIES)
def test_targets_are_taken_apart_as_sent(method: bytes, text: bytes, target: Target) -> None:
    """Each form is read where HTTP allows it; nothing is decoded or repaired."""
    assert accepted(head_with(line=method + b" " + text + b" HTTP/1.1")).target == target


@pytest.mark.parametrize(("method", "text"), BAD_TARGETS)
def test_target_outside_the_grammar_is_refused(method: bytes, text: bytes) -> None:
    """A target that no form allows for the method is refused, and so early that the head need not end."""
    data = head_with(line=method + b" " + text + b" HTTP/1.1")
    assert isinstance(parse_request_head(data), Reject)
    assert isinstance(parse_request_head(data[:-3]), Reject)


def test_origin_of_a_target_is_what_a_server_is_sent() -> None:
    """Absolute-form becomes origin-form, keeping the query and telling none from an empty one."""
    for text, origin in ((b"http://a.test", "/"), (b"http://a.test/x?", "/x?"), (b"/x?y", "/x?y"), (b"/x", "/x")):
        assert accepted(head_with(line=b"GET " + text + b" HTTP/1.1")).target.origin == origin


@pytest.mark.parametrize("field", BAD_FIELDS)
@pytest.mark.parametrize("before", [(), (b"a: b", b"c:")])
@pytest.mark.parametrize("after", [(), (b"d: e",)])
def test_bad_field_is_refused_wherever_it_stands(
    field: bytes, before: tuple[bytes, ...], after: tuple[bytes, ...]
) -> None:
    """Folding, bare CR or LF, controls, and names that are no token are refused in every place of a head."""
    assert isinstance(parse_request_head(head_with(*before, field, *after)), Reject)


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_bad_field_is_refused_before_the_head_ends(field: bytes) -> None:
    """A complete bad line is refused although the head still goes on."""
    assert isinstance(parse_request_head(head_with(field)[:-2] + b"more"), Reject)


def test_values_keep_obs_text_and_tabs_and_lose_outer_whitespace() -> None:
    """A value is kept as sent, without the spaces and tabs around it."""
    head = accepted(head_with(b"x: \t a\tb \xe9\xff c \t", b"y:", b"z: \t ", b"!#$%&'*+-.^_`|~0: :"))
    assert head.fields[1:] == (
        (b"x", b"a\tb \xe9\xff c"),
        (b"y", b""),
        (b"z", b""),
        (b"!#$%&'*+-.^_`|~0", b":"),
    )


def test_what_follows_the_head_is_not_looked_at() -> None:
    """`length` counts the head with its empty line, and nothing behind it changes the result."""
    data = head_with(b"Content-Length: 5")
    head = accepted(data)
    assert head.length == len(data)
    assert parse_request_head(data + b"\x00\r\n\r\n\xff") == head
    assert parse_request_head(bytearray(data)) == head


def test_versions_10_and_11_are_read() -> None:
    """HTTP/1.0 needs no Host; both versions are told apart."""
    head = accepted(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.version, head.host, head.fields, head.keep_alive) == (Version.HTTP_10, None, (), False)
    head = accepted(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (head.version, head.host, head.keep_alive) == (Version.HTTP_11, "a", True)


@pytest.mark.parametrize("line", [b"GET / HTTP/1.1", b"CONNECT a.test:443 HTTP/1.1", b"OPTIONS * HTTP/1.1"])
def test_http_11_without_host_is_refused(line: bytes) -> None:
    """HTTP/1.1 demands a Host wherever the target is not a URL itself."""
    assert isinstance(parse_request_head(line + b"\r\nX: y\r\n\r\n"), Reject)


def test_absolute_form_without_host_is_read() -> None:
    """A URL as the target names the destination once; `host` is None, and the proxy writes it from the target."""
    head = accepted(b"GET http://allowed.test:443/x HTTP/1.1\r\n\r\n")
    assert (head.host, head.target.authority) == (None, "allowed.test:443")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("target", [b"/", b"http://a.test/"])
def test_repeated_host_is_refused(version: bytes, target: bytes) -> None:
    """Two Host fields are refused even when equal, in both versions and both forms."""
    data = b"GET " + target + b" HTTP/" + version + b"\r\nHost: a.test\r\nhost: a.test\r\n\r\n"
    assert isinstance(parse_request_head(data), Reject)


@pytest.mark.parametrize("host", BAD_HOSTS)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_host_that_is_no_authority_is_refused(host: bytes, version: bytes) -> None:
    """Host is one `host[:port]`: no list, user information, path, zone, or anything that needs decoding."""
    assert isinstance(parse_request_head(b"GET / HTTP/" + version + b"\r\nHost:" + host + b"\r\n\r\n"), Reject)


@pytest.mark.parametrize("host", GOOD_HOSTS)
def test_host_is_given_as_sent(host: bytes) -> None:
    """A Host of the right shape is given unchanged; making it canonical is the policy's."""
    assert accepted(b"GET / HTTP/1.1\r\nhOsT: " + host + b" \r\n\r\n").host == host.decode()


@pytest.mark.parametrize(("fields", "framing"), FRAMINGS)
def test_framing_is_what_the_fields_declare(fields: tuple[bytes, ...], framing: Framing) -> None:
    """One length, or one `chunked`, or no body."""
    assert accepted(head_with(*fields)).framing == framing


@pytest.mark.parametrize("length", BAD_LENGTHS)
def test_content_length_is_plain_digits(length: bytes) -> None:
    """What some reader's int() would take, and another's would not, is refused."""
    assert isinstance(parse_request_head(head_with(b"Content-Length:" + length)), Reject)


@pytest.mark.parametrize("fields", BAD_FRAMINGS)
def test_doubtful_framing_is_refused(fields: tuple[bytes, ...]) -> None:
    """Fields that let two readers end the body in two places are refused, in any order and with others between."""
    assert isinstance(parse_request_head(head_with(*fields)), Reject)
    assert isinstance(parse_request_head(head_with(b"a: b", *[part for f in fields for part in (f, b"c: d")])), Reject)


def test_transfer_encoding_in_http_10_is_refused() -> None:
    """An HTTP/1.0 reader does not know chunks and would take them for the next request."""
    data = head_with(b"Transfer-Encoding: chunked", line=b"POST /x HTTP/1.0")
    assert isinstance(parse_request_head(data), Reject)


@pytest.mark.parametrize("field", [b"Content-Length: 5", b"Transfer-Encoding: chunked"])
def test_connect_with_a_body_is_refused(field: bytes) -> None:
    """What follows a CONNECT's head is the tunnel, so it must not declare a body."""
    assert isinstance(parse_request_head(head_with(field, line=b"CONNECT a.test:443 HTTP/1.1")), Reject)


def test_connect_with_an_empty_body_is_read() -> None:
    """A length of zero says the same as none."""
    assert accepted(head_with(b"Content-Length: 0", line=b"CONNECT a.test:443 HTTP/1.1")).framing == ContentLength(0)


def test_expect_is_told_only_in_http_11() -> None:
    """RFC 9110 section 10.1.1: the expectation of an HTTP/1.0 client is ignored."""
    field = b"Expect: 100-Continue"
    assert accepted(head_with(field)).expects_continue
    assert not accepted(head_with(field, line=b"POST /x HTTP/1.0")).expects_continue
    assert not accepted(head_with()).expects_continue


def test_lookups_see_every_spelling_and_line() -> None:
    """No lookup hides a repeated field or a list member."""
    head = accepted(head_with(b"Upgrade: WebSocket, h2c", b"upgrade:", b"UPGRADE: x", b"Connection: Upgrade,,close"))
    assert head.upgrade == (b"websocket", b"h2c", b"x")
    assert head.values(b"upgrade") == (b"WebSocket, h2c", b"", b"x")
    assert head.connection == (b"upgrade", b"close")
    assert not head.keep_alive
    assert accepted(head_with(b"Connection: Keep-Alive", line=b"GET / HTTP/1.0")).keep_alive


@pytest.mark.parametrize(
    "prefix",
    [b" ", b"\r", b"\n", b"\x00", b"\x16\x03\x01", b"\x05\x01\x00", b"\x80", b"(", b"GE\x00", b"M" * 33,
     b"GET  ", b"GET \\",
     b"GET #", b"GET /x#", b"GET /x\\", b"GET /\xff", b"GET /x HTTQ", b"GET /x http", b"GET /x HTTP/2",
     b"GET /x HTTP/1.2",
     b"GET /x HTTP/1.1 ", b"GET /x HTTP/1.1\rX", b"GET /x\r", b"GET / HTTP/1.1\r\n ", b"GET / HTTP/1.1\r\n:",
     b"GET / HTTP/1.1\r\n\rX", b"GET / HTTP/1.1\r\n\n", b"GET / HTTP/1.1\r\nX ", b"GET / HTTP/1.1\r\nX\r",
     b"GET / HTTP/1.1\r\nX: \x00", b"GET / HTTP/1.1\r\nX: a\rb", b"GET / HTTP/1.1\r\nX: a\n", b"SSH-2.0-x\r\n",
     b"*1\r\n", b"EHLO a\r\n", b"CONNECT a HTTP/1.1\r\n"],
)  # fmt: skip
def test_hopeless_prefix_is_refused_at_once(prefix: bytes) -> None:
    """A client is not kept waiting, nor its bytes kept, once no continuation could be valid."""
    assert isinstance(parse_request_head(prefix), Reject)


def test_every_prefix_of_a_valid_head_waits() -> None:
    """Until its last byte a valid head is never refused."""
    fields = (b"a: b \xff\tc ", b"d:", b"Content-Length: 0")
    for method, text, _ in TARGETS + UNUSUAL_AUTHORITIES:
        data = head_with(*fields, line=method + b" " + text + b" HTTP/1.1")
        assert isinstance(parse_request_head(data), RequestHead)
        for end in range(len(data)):
            assert isinstance(parse_request_head(data[:end]), NeedMore), data[:end]


LIMITS = HeadLimits(bytes=200, fields=3, line=40)


@pytest.mark.parametrize("ended", [True, False])
def test_head_at_its_size_limit_passes_and_one_byte_more_is_refused(*, ended: bool) -> None:
    """The limit counts every byte of the head, whether its end has come or not."""
    data = head_with(b"x: " + b"a" * 1000)
    data = data[: 200 - 4] + b"\r\n\r\n"
    assert isinstance(parse_request_head(data, LIMITS), RequestHead)
    assert isinstance(parse_request_head(data[:-1], LIMITS), NeedMore)
    longer = data[:-4] + (b"a\r\n\r\n" if ended else b"aaaa")
    reject = parse_request_head(longer, LIMITS)
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE


@pytest.mark.parametrize("ended", [True, False])
def test_fields_at_their_limit_pass_and_one_more_is_refused(*, ended: bool) -> None:
    """Host counts too; the head need not have ended."""
    assert isinstance(parse_request_head(head_with(b"a:", b"b:"), LIMITS), RequestHead)
    reject = parse_request_head(head_with(b"a:", b"b:", b"c:")[: None if ended else -2], LIMITS)
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE


@pytest.mark.parametrize("end", [b" HTTP/1.1\r\nHost: a\r\n\r\n", b" HTTP/1.1\r\nHo", b""])
def test_request_line_at_its_limit_passes_and_one_byte_more_is_refused(end: bytes) -> None:
    """The first line has a limit of its own, CRLF included, and it holds before the line ends."""
    line = b"GET /" + b"a" * (40 - len(b"GET / HTTP/1.1\r\n"))
    assert not isinstance(parse_request_head(line + end, LIMITS), Reject)
    reject = parse_request_head(line + b"a" * (1 if end else 40) + end, LIMITS)
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE


def test_limits_hold_at_the_same_byte_with_and_without_a_hint() -> None:
    """A head that comes byte by byte is refused for its fields at the end of the first one too many."""
    data = head_with(b"a: b", b"c: d", b"e: f")
    buffer, hint = bytearray(), None
    for byte in data:
        buffer.append(byte)
        outcome, plain = parse_request_head(buffer, LIMITS, resume=hint), parse_request_head(buffer, LIMITS)
        assert type(outcome) is type(plain)
        if not isinstance(outcome, NeedMore):
            break
        hint = outcome
    assert isinstance(outcome, Reject)
    assert outcome.kind is RejectKind.TOO_LARGE
    assert buffer.endswith(b"e: f\r\n")


def test_default_limits_are_those_of_the_invariant() -> None:
    """INVARIANT bounded: a head is at most 64 KB and 100 fields."""
    assert HeadLimits() == HeadLimits(bytes=65_536, fields=100, line=16_384)
    reject = parse_request_head(head_with()[:-2] + b"x: y\r\n" * 100)
    assert isinstance(reject, Reject)
    assert reject.kind is RejectKind.TOO_LARGE
    assert isinstance(parse_request_head(head_with()[:-2] + b"x: " + b"y" * 65_536), Reject)


def test_overlong_field_name_is_refused() -> None:
    """A name is at most 256 bytes, so that waiting for its colon is bounded."""
    assert isinstance(parse_request_head(head_with(b"x" * 256 + b": y")), RequestHead)
    assert isinstance(parse_request_head(head_with(b"x" * 257 + b": y")), Reject)
    assert isinstance(parse_request_head(head_with()[:-2] + b"x" * 257), Reject)


def test_rejections_repeat_no_input() -> None:
    """INVARIANT sandbox text is hostile text: a Reject's sentence is ours alone."""
    marker = b"CANARYCANARY"
    for data in (
        marker + b"\x00",
        b"GET " + marker + b"\r\n",
        head_with(marker),
        head_with(b"Content-Length: " + marker),
    ):
        reject = parse_request_head(data)
        assert isinstance(reject, Reject)
        assert "CANARY" not in reject.detail
