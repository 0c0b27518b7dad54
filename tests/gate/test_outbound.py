"""Fields on their way: the quick way up gives what the long way gives, field for field."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

from hypothesis import example, given
from hypothesis import strategies as st

from egress.credentials import Rendered, Secret, apply_headers, strip_hop_by_hop
from egress.gate import outbound
from egress.gate.outbound import VIA, upstream_fields
from egress.policy import Host, Protocol, Request

if TYPE_CHECKING:
    from egress.gate.exchange import Exchange

type Field = tuple[bytes, bytes]

_NAMES = [
    *(b"Host", b"hOST", b"Accept", b"Authorization", b"authorization_", b"X.Api-Key", b"Cookie", b"Via", b"---"),
    *(b"Connection", b"connection", b"Proxy-Connection", b"Keep-Alive", b"TE", b"te", b"Upgrade", b"HTTP2-Settings"),
    *(b"Proxy-Authorization", b"Content-Length", b"transfer-encoding", b"Trailer", b"Expect", b"Close", b"X-Hop"),
    *(b"Sec-WebSocket-Extensions", b"X-\xff", b"X" * 65),
]
_VALUES = [b"", b"keep-alive", b"Keep-Alive", b"close", b"x-hop", b"TE, X-Hop, host", b"trailers", b"websocket", b"5"]
FIELDS = st.lists(st.tuples(st.sampled_from(_NAMES), st.sampled_from(_VALUES)), max_size=8)
SET = st.lists(st.sampled_from(["Authorization", "X-Api-Key", "Via", "host", "x-hop", "bad name", "TE"]), max_size=2)


def exchange(protocol: Protocol, headers: list[str], remove: list[str], withheld: list[str]) -> Exchange:
    """As much of an exchange as counts here."""
    rendered = Rendered(tuple((name, Secret("s", "canary")) for name in headers), ("s",), tuple(withheld))
    request = Request("agent", protocol, Host("api.example.com"), 8443, "GET", "/")
    decision = SimpleNamespace(remove=tuple(remove))
    return SimpleNamespace(request=request, decision=decision, rendered=rendered)  # type: ignore[return-value]


def step_by_step(made: Exchange, fields: list[Field], *, host: bool, framing: bool, via: bool) -> list[Field]:
    """One thing after the other, as the rules of the module say it."""
    upgrade = made.request.protocol in outbound.WEBSOCKET
    rendered, remove = made.rendered, made.decision.remove
    protected = [*(name for name, _ in rendered.headers), *rendered.withheld, *remove]
    kept = strip_hop_by_hop(fields, upgrade=upgrade, protected=protected)
    if upgrade:
        kept = [field for field in kept if field[0].lower() != b"sec-websocket-extensions"]
    if not framing:
        kept = [field for field in kept if field[0].lower() not in (b"content-length", b"transfer-encoding")]
    if host:
        kept = [(b"Host", b"api.example.com:8443"), *(field for field in kept if field[0].lower() != b"host")]
    if via:
        kept.append(VIA)
    return apply_headers(kept, remove, rendered)


@given(
    st.sampled_from([Protocol.HTTPS, Protocol.WSS]), FIELDS, st.tuples(SET, SET, SET), st.tuples(*[st.booleans()] * 3)
)
@example(Protocol.HTTPS, [(b"Connection", b"close"), (b"Close", b"x")], ([], [], []), (True, True, True))
@example(Protocol.HTTPS, [(b"Proxy-Connection", b"x-hop"), (b"X-Hop", b"")], ([], [], []), (True, True, False))
@example(Protocol.HTTPS, [(b"TE", b"trailers")], (["Authorization"], [], []), (True, False, False))
def test_the_quick_way_up_is_the_long_one(
    protocol: Protocol,
    fields: list[Field],
    ruled: tuple[list[str], list[str], list[str]],
    wanted: tuple[bool, bool, bool],
) -> None:
    """Of hop-by-hop fields, of those that a rule sets or removes in any spelling, of Host, framing and Via."""
    made = exchange(protocol, *ruled)
    host, framing, via = wanted
    expected = step_by_step(made, fields, host=host, framing=framing, via=via)
    for _ in range(2):
        assert upstream_fields(made, fields, host=host, framing=framing, via=via) == expected


def test_spellings_that_are_remembered_are_bounded() -> None:
    """A client that never repeats a name adds no memory beyond the limit, and fools nothing."""
    made = exchange(Protocol.HTTPS, ["Authorization"], [], [])
    table = outbound._upwards(("Authorization",), host=True, framing=True)
    for number in range(outbound._SPELLINGS_AT_MOST + 10):
        fields = [(b"X-%d" % number, b"v"), (b"authorization", b"evil"), (b"X" * 200, b"v")]
        sent = upstream_fields(made, fields)
        assert [value for name, value in sent if name.lower() == b"authorization"] == [b"canary"]
        assert len(table.known) <= outbound._SPELLINGS_AT_MOST
    assert all(len(name) <= outbound._SPELLING_LENGTH for name in table.known)
