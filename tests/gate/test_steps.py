"""The gate's steps: their order, what each refuses, and that each leaves its record."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from workbench import CLIENT, Bench, CountingResolver, host, request

from egress.gate import gate as gate_module
from egress.gate.connecting import Destination
from egress.gate.denial import Denial
from egress.gate.dial import DialFailure, Dialled
from egress.gate.exchange import Exchange
from egress.gate.grant import GRANT_SECONDS, GRANTS_AT_MOST, Grant, GrantBook
from egress.policy import Protocol, Reason, TlsMode, Verdict

if TYPE_CHECKING:
    from egress.audit import DecisionEvent
    from egress.policy import Request

type Make = Callable[..., Bench]

PUBLIC = "93.184.215.14"
POLICY = """
secrets:
  key: {env: KEY, hosts: [secret.test, other.test:8443]}
rules:
  - deny: 198.51.100.0/24
  - {name: never delete, deny: api.test, methods: [DELETE]}
  - {name: the api, allow: api.test}
  - {allow: paths.test, paths: [/ok]}
  - {allow: private.test, addresses: [10.0.0.0/8]}
  - {ask: ask.test}
  - {allow: [secret.test, unbound.test], protocol: https, inject: {Authorization: "Bearer ${key}"}}
  - {allow: tunnel.test, tls: tunnel}
  - {allow: "raw.test:5432", protocol: tcp}
"""
# The compiler refuses a rule whose secret is bound elsewhere, so that case is made by hand below.
POLICY = POLICY.replace("[secret.test, unbound.test]", "secret.test")
PINS = dict.fromkeys(("api.test", "paths.test", "ask.test", "secret.test", "tunnel.test", "raw.test"), PUBLIC)


def ask(bench: Bench, asked: Request, **more: object) -> Exchange | Denial:
    """Admit one request."""
    return asyncio.run(bench.admit(asked, **more))  # type: ignore[arg-type]


def denied(outcome: object) -> Denial:
    """A denial."""
    assert isinstance(outcome, Denial), outcome
    return outcome


def only_decision(bench: Bench) -> DecisionEvent:
    """The one decision that was recorded."""
    (decision,) = bench.ledger.decisions
    return decision


# invariant 1


@pytest.mark.parametrize(
    "asked",
    [
        request("evil.test"),
        request("sub.api.test"),
        request("api.test", 22),
        request("api.test", method="DELETE"),
        request("paths.test", path="/no"),
        request("ask.test"),
        request("paths.test", method=None),
        request("api.test", protocol=Protocol.TCP, method=None),
        request("192.0.2.1"),
        request("raw.test", 5432),
    ],
    ids=lambda asked: f"{asked.protocol.value}-{asked.method}-{asked.host}:{asked.port}{asked.path}",
)
def test_no_grant_no_connect(bench: Make, asked: Request) -> None:
    """What no rule allows asks no name server, gets no grant, and dials nothing."""
    made = bench(POLICY)
    resolver = made.watch_resolver()
    denial = denied(ask(made, asked))
    assert resolver.asked == []
    assert len(made.book) == 0
    outcome = asyncio.run(made.gate.dial(made.book, asked.host.text, asked.port, tls=True))
    assert isinstance(outcome, DialFailure)
    assert only_decision(made).id == denial.decision_id


@pytest.mark.parametrize(
    ("name", "port"), [("evil.test", 443), ("api.test", 22), ("ask.test", 443), ("192.0.2.1", 443), ("api.test", 5432)]
)
def test_no_dns_for_a_connect_that_no_rule_could_allow(bench: Make, name: str, port: int) -> None:
    """A CONNECT is judged by name before anything is resolved."""
    made = bench(POLICY)
    resolver = made.watch_resolver()
    denied(asyncio.run(made.connect(name, port)))
    assert resolver.asked == []


@pytest.mark.parametrize(("stated", "servers"), [("", ()), ("resolvers: [10.0.0.53]\n", (("10.0.0.53", 53),))])
def test_names_are_asked_of_the_policys_resolvers(
    bench: Make, stated: str, servers: tuple[tuple[str, int], ...]
) -> None:
    """At CONNECT and for a request; where it names none, of those of the proxy."""
    made = bench(f"{stated}{POLICY}")
    resolver = made.watch_resolver(tunnel_test=ip_address(PUBLIC), api_test=ip_address(PUBLIC))
    assert isinstance(asyncio.run(made.connect("tunnel.test")), Destination)
    assert isinstance(ask(made, request("api.test")), Exchange)
    assert resolver.servers == [servers, servers]


def test_no_dns_for_a_connect_that_is_inspected(bench: Make) -> None:
    """Its requests are judged first; only a tunnel's name is resolved at CONNECT."""
    made = bench(POLICY)
    resolver = made.watch_resolver(tunnel_test=ip_address(PUBLIC))
    assert isinstance(asyncio.run(made.connect("api.test")), Destination)
    assert resolver.asked == []
    assert isinstance(asyncio.run(made.connect("tunnel.test")), Destination)
    assert resolver.asked == ["tunnel.test"]


def test_a_connection_is_opened_on_a_grant_once(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The grant of an admitted request opens one connection; a second dial finds none."""
    made = bench(POLICY, PINS)
    seen: list[Grant] = []

    async def note(grant: Grant, *, timeout_seconds: float) -> DialFailure:
        assert timeout_seconds == 1.0
        seen.append(grant)
        return DialFailure("not dialled here")

    monkeypatch.setattr(gate_module, "dial", note)

    async def twice() -> None:
        exchange = await made.allowed(request("api.test"))
        first = await made.gate.dial(made.book, "api.test", 443, tls=True)
        second = await made.gate.dial(made.book, "api.test", 443, tls=True)
        assert (first.detail, second.detail) == ("not dialled here", "no grant for this destination")  # type: ignore[union-attr]
        assert [grant.decision_id for grant in seen] == [exchange.id]
        assert seen[0].addresses == (ip_address(PUBLIC),)

    asyncio.run(twice())


def test_a_grant_does_not_outlive_its_time(bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """An admitted request whose connection comes too late is not dialled."""
    made = bench(POLICY, PINS)

    async def late() -> DialFailure | Dialled:
        await made.allowed(request("api.test"))
        import time

        now = time.monotonic()
        monkeypatch.setattr("egress.gate.grant.time.monotonic", lambda: now + GRANT_SECONDS + 1)
        return await made.gate.dial(made.book, "api.test", 443, tls=True)

    assert asyncio.run(late()) == DialFailure("no grant for this destination")


# the steps


def test_an_allowed_request_has_its_decision_before_its_grant(bench: Make) -> None:
    """At the moment at which the audit takes the decision, no grant exists yet."""
    made = bench(POLICY, PINS)
    grants: list[int] = []

    def take(_: object) -> bool:
        grants.append(len(made.book))
        return True

    made.ledger.accepts = take
    exchange = ask(made, request("api.test", path="/v1"))
    assert isinstance(exchange, Exchange)
    assert (grants, len(made.book)) == ([0], 1)
    row = only_decision(made)
    assert (row.id, row.verdict, row.reason, row.rule) == (exchange.id, "allow", "rule-allow", "the api")
    assert (row.host, row.port, row.method, row.path, row.scheme) == ("api.test", 443, "GET", "/v1", "https")
    assert (row.sandbox, row.client, row.lane, row.address) == ("agent", CLIENT.peer, CLIENT.lane, PUBLIC)
    assert row.policy_hash == made.gate.generation.policy.digest


@pytest.mark.parametrize(
    ("asked", "reason", "verdict"),
    [
        (request("evil.test"), Reason.HOST_NOT_ALLOWED, Verdict.DENY),
        (request("api.test", 22), Reason.PORT_NOT_ALLOWED, Verdict.DENY),
        (request("api.test", method="DELETE"), Reason.RULE_DENY, Verdict.DENY),
        (request("paths.test", path="/no"), Reason.PATH_NOT_ALLOWED, Verdict.DENY),
        (request("ask.test"), Reason.APPROVAL_REQUIRED, Verdict.ASK),
        (request("private.test"), Reason.NAME_NOT_RESOLVED, Verdict.DENY),
        (request("secret.test", 80, Protocol.HTTP), Reason.PROTOCOL_NOT_ALLOWED, Verdict.DENY),
    ],
)
def test_a_denial_tells_its_reason_and_records_it(
    bench: Make, asked: Request, reason: Reason, verdict: Verdict
) -> None:
    """The page, the decision and its outcome agree."""
    made = bench(POLICY, PINS)
    made.watch_resolver()
    denial = denied(ask(made, asked))
    assert (denial.reason, denial.verdict, denial.host, denial.port) == (reason, verdict, asked.host.text, asked.port)
    row, outcome = made.ledger.only()
    assert (row.id, row.reason, row.verdict) == (denial.decision_id, reason.value, verdict.value)
    assert outcome.status == denial.status
    assert made.gate.open == {}


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", Reason.ADDRESS_NOT_PUBLIC),
        ("10.1.2.3", Reason.ADDRESS_NOT_PUBLIC),
        ("169.254.169.254", Reason.ADDRESS_NOT_PUBLIC),
        ("100.64.0.1", Reason.ADDRESS_NOT_PUBLIC),
        ("224.0.0.1", Reason.ADDRESS_NOT_PUBLIC),
        ("0.0.0.0", Reason.ADDRESS_NOT_PUBLIC),
        ("::1", Reason.ADDRESS_NOT_PUBLIC),
        ("::ffff:10.1.2.3", Reason.ADDRESS_NOT_PUBLIC),
        ("64:ff9b::a01:203", Reason.ADDRESS_NOT_PUBLIC),
        ("2002:a01:203::1", Reason.ADDRESS_NOT_PUBLIC),
        ("fd00:ec2::254", Reason.ADDRESS_NOT_PUBLIC),
        ("198.51.100.7", Reason.ADDRESS_DENIED),
    ],
)
def test_private_by_default(bench: Make, address: str, reason: Reason) -> None:
    """A pin is an answer, not a permission: an allowed name that resolves inwards is refused before any dial."""
    made = bench(POLICY, {"api.test": address})
    denial = denied(ask(made, request("api.test")))
    assert denial.reason is reason
    assert len(made.book) == 0
    assert only_decision(made).verdict == "deny"


def test_a_rule_that_names_the_range_may_dial_it(bench: Make) -> None:
    """And only that range."""
    assert isinstance(ask(bench(POLICY, {"private.test": "10.1.2.3"}), request("private.test")), Exchange)
    refused = ask(bench(POLICY, {"private.test": "192.168.1.1"}), request("private.test"))
    assert denied(refused).reason is Reason.ADDRESS_NOT_PUBLIC


def test_addresses_that_fail_are_dropped(bench: Make) -> None:
    """Of several answers, the grant holds those that pass, in order."""
    made = bench(POLICY, {"api.test": f"10.0.0.1 {PUBLIC} 127.0.0.1 8.8.8.8"})
    exchange = ask(made, request("api.test"))
    assert isinstance(exchange, Exchange)
    assert exchange.addresses == (ip_address(PUBLIC), ip_address("8.8.8.8"))


def test_the_proxy_itself_is_not_dialled(bench: Make) -> None:
    """Even where a rule names loopback: the proxy's own port would loop."""
    policy = "rules: [{allow: 'self.test:3128', addresses: [127.0.0.0/8]}]"
    made = bench(policy, {"self.test": "127.0.0.1"})
    made.gate.own.ports.add(3128)
    assert denied(ask(made, request("self.test", 3128))).reason is Reason.ADDRESS_IS_PROXY
    assert len(made.book) == 0


def test_a_name_that_does_not_resolve_is_refused(bench: Make) -> None:
    """With what the resolver said."""
    made = bench(POLICY)
    made.watch_resolver()
    denial = denied(ask(made, request("api.test")))
    assert (denial.reason, denial.status) == (Reason.NAME_NOT_RESOLVED, 502)
    assert "does not exist" in denial.detail


def test_an_address_is_its_own_answer(bench: Make) -> None:
    """A destination that is named as an address asks no name server."""
    made = bench("rules: [{allow: 8.8.8.8}]")
    resolver = made.watch_resolver()
    assert isinstance(ask(made, request("8.8.8.8")), Exchange)
    assert resolver.asked == []


def test_a_pooled_connection_is_judged_by_its_own_address(bench: Make) -> None:
    """The address of an open connection is judged in place of fresh answers; nobody is asked."""
    made = bench(POLICY)
    resolver = made.watch_resolver()
    exchange = ask(made, request("api.test"), peer=ip_address(PUBLIC))
    assert isinstance(exchange, Exchange)
    assert exchange.addresses == (ip_address(PUBLIC),)
    assert denied(ask(made, request("api.test"), peer=ip_address("10.0.0.1"))).reason is Reason.ADDRESS_NOT_PUBLIC
    assert resolver.asked == []


# credentials


def test_a_secret_is_rendered_for_its_host(bench: Make) -> None:
    """The exchange holds the header; the row holds the secret's name, never its value."""
    made = bench(POLICY, PINS, {"KEY": "canary-value"})
    exchange = ask(made, request("secret.test"))
    assert isinstance(exchange, Exchange)
    ((name, value),) = exchange.rendered.headers
    assert (name, value.reveal()) == ("Authorization", "Bearer canary-value")
    assert only_decision(made).secrets == ("key",)
    assert "canary" not in repr(made.ledger.events)
    assert "canary" not in repr(exchange)


def test_secret_confinement(bench: Make) -> None:
    """A missing secret refuses the request before a name is resolved; its page does not say where it comes from."""
    made = bench(POLICY, PINS)
    resolver = made.watch_resolver()
    denial = denied(ask(made, request("secret.test")))
    assert denial.reason is Reason.CREDENTIAL_UNAVAILABLE
    assert b"KEY" not in denial.http1()
    assert resolver.asked == []
    assert len(made.book) == 0


# audit


def test_audit_that_takes_nothing_denies(bench: Make) -> None:
    """The traffic waits for room, then it is denied; no grant, nothing left open."""
    made = bench(POLICY, PINS)
    made.ledger.accepts = lambda _: False
    denial = denied(ask(made, request("api.test")))
    assert (denial.reason, denial.status) == (Reason.AUDIT_UNAVAILABLE, 503)
    assert len(made.book) == 0
    assert made.gate.open == {}


def test_audit_that_has_room_in_time_delays_only(bench: Make) -> None:
    """Back-pressure: the request waits until the queue takes its decision."""
    made = bench(POLICY, PINS)
    tries: list[int] = []

    def later(_: object) -> bool:
        tries.append(1)
        return len(tries) > 2

    made.ledger.accepts = later
    assert isinstance(ask(made, request("api.test")), Exchange)
    assert len(tries) == 3
    assert len(made.ledger.decisions) == 1


def test_every_decision_leaves_a_record(bench: Make) -> None:
    """One decision and one outcome an exchange, however often it is finished; byte counts and status are in it."""
    made = bench(POLICY, PINS)
    exchange = ask(made, request("api.test"))
    assert isinstance(exchange, Exchange)
    assert made.gate.open == {exchange.id: exchange}
    exchange.bytes_up, exchange.bytes_down = 5, 7
    exchange.response_started(204)
    exchange.finish()
    exchange.finish("again")
    decision, outcome = made.ledger.only()
    assert (decision.id, outcome.id) == (exchange.id, exchange.id)
    assert (outcome.status, outcome.bytes_up, outcome.bytes_down, outcome.error) == (204, 5, 7, None)
    assert 0 <= (outcome.first_byte_us or 0) <= (outcome.duration_us or 0)
    assert made.gate.open == {}


def test_query_values_are_masked_in_the_record(bench: Make) -> None:
    """Names only, unless the configuration says otherwise."""
    made = bench(POLICY, PINS)
    asked = replace(request("api.test"), query="token=s3cret&page=2")
    ask(made, asked)
    assert "s3cret" not in (only_decision(made).query or "")
    made.gate.recorder = replace(made.gate.recorder, show_query_values=True)
    made.ledger.clear()
    ask(made, asked)
    assert only_decision(made).query == "token=s3cret&page=2"


# limits and states


def test_a_full_book_refuses(bench: Make) -> None:
    """A connection holds no more unspent grants than it may."""
    made = bench(POLICY, PINS)
    for number in range(GRANTS_AT_MOST):
        made.book.add(Grant(f"{number}", "x.test", 1, tls=False, addresses=(), expires=0))
    assert denied(ask(made, request("api.test"))).reason is Reason.LIMIT_CONNECTIONS


def test_a_draining_gate_refuses(bench: Make) -> None:
    """New requests and new tunnels; nothing is resolved for them."""
    made = bench(POLICY)
    resolver = made.watch_resolver()
    made.gate.draining = True
    assert denied(ask(made, request("api.test"))).reason is Reason.SHUTTING_DOWN
    assert denied(asyncio.run(made.connect("api.test"))).reason is Reason.SHUTTING_DOWN
    assert resolver.asked == []


# CONNECT


@pytest.mark.parametrize(
    ("name", "port", "expected"),
    [
        ("api.test", 443, (TlsMode.INSPECT, True, False, False)),
        ("api.test", 80, (TlsMode.INSPECT, True, True, False)),
        ("secret.test", 443, (TlsMode.INSPECT, True, False, False)),
        ("raw.test", 5432, (None, False, False, True)),
        ("tunnel.test", 443, (TlsMode.TUNNEL, True, False, False)),
    ],
)
def test_a_connect_says_what_may_follow(
    bench: Make, name: str, port: int, expected: tuple[TlsMode | None, bool, bool, bool]
) -> None:
    """TLS opened or passed, plain HTTP, raw TCP: what some rule could allow. No row: what follows leaves it."""
    made = bench(POLICY, PINS)
    judged = asyncio.run(made.connect(name, port))
    assert isinstance(judged, Destination)
    tls, https, http, opaque = expected
    assert (judged.https, judged.http, judged.opaque) == (https, http, opaque)
    assert tls is None or judged.tls is tls
    assert made.ledger.events == []


def test_a_tunnel_to_a_private_address_is_refused_at_connect(bench: Make) -> None:
    """While a readable answer can still be given."""
    made = bench(POLICY, {"tunnel.test": "10.0.0.1"})
    denial = denied(asyncio.run(made.connect("tunnel.test")))
    assert denial.reason is Reason.ADDRESS_NOT_PUBLIC
    assert only_decision(made).reason == "address-not-public"


def test_a_connect_to_what_no_rule_names_tells_the_most_helpful_reason(bench: Make) -> None:
    """The reason of the rule that came closest, not of the protocol that was tried last."""
    assert denied(asyncio.run(bench(POLICY).connect("paths.test", 22))).reason is Reason.PORT_NOT_ALLOWED
    assert denied(asyncio.run(bench(POLICY).connect("evil.test"))).reason is Reason.HOST_NOT_ALLOWED


def test_refusing_what_could_not_be_read_leaves_a_row(bench: Make) -> None:
    """Who sent it, when, and why it was refused; no destination is made up."""
    made = bench(POLICY)
    asyncio.run(made.gate.refuse_unread(CLIENT, Reason.REQUEST_MALFORMED, "a bare LF"))
    row = only_decision(made)
    assert (row.host, row.port, row.method, row.reason, row.detail) == (
        None, None, None, "request-malformed", "a bare LF",
    )  # fmt: skip


def test_the_bench_counts_questions() -> None:
    """The counting resolver does count, so that an empty list proves something."""
    resolver = CountingResolver()
    asyncio.run(resolver.resolve("a.test"))
    assert resolver.asked == ["a.test"]
    assert len(GrantBook()) == 0
    assert host("A.test").text == "a.test"
