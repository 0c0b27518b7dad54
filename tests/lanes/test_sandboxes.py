"""Who a client is, in both lanes: by source, by name and token, and by nothing else; who is nobody reaches nothing."""

from __future__ import annotations

import base64
import socket
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from harness.origins import answer_ok
from rig.modes import HOST
from rig.proxy import LOOPBACK, Carrier, Proxy, port_of
from rig.wire import Wire

from egress.config import PolicySource, SandboxDefinition, hash_token
from egress.gate.roster import Roster
from egress.policy import Sandbox, Scope
from egress.proxy.limits import OwnClientSlots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from harness.origins import Origins
    from rig.wire import Reply

TOKENS = {"agent": "a" * 40 + "-agent", "other": "b" * 40 + "-other", "bound": "c" * 40 + "-bound"}
OTHERS = "other.test"


def basic(name: str, token: str, scheme: str = "Basic") -> str:
    """The field with a name and a token."""
    return f"Proxy-Authorization: {scheme} {base64.b64encode(f'{name}:{token}'.encode()).decode()}"


AGENT = basic("agent", TOKENS["agent"])
OTHER = basic("other", TOKENS["other"])
BOUND = basic("bound", TOKENS["bound"])


class Tenants:
    """A proxy with sandboxes by source and by token; each may reach a host of its own besides what all may."""

    def __init__(self, proxy: Proxy, origin: Origins) -> None:
        self.proxy, self.origin = proxy, origin
        self.port = port_of(origin)

    def connect(self, source: str = "127.0.0.1") -> Wire:
        """A connection from an address."""
        return Wire(socket.create_connection(self.proxy.address, timeout=10, source_address=(source, 0)))

    def head(self, *fields: str, host: str = HOST, connect: bool = False) -> bytes:
        """A request to the proxy itself, or a CONNECT."""
        line = f"CONNECT {host}:{self.port} HTTP/1.1" if connect else f"GET http://{host}:{self.port}/ HTTP/1.1"
        return "\r\n".join([line, f"Host: {host}:{self.port}", *fields, "", ""]).encode()

    def ask(self, *fields: str, source: str = "127.0.0.1", host: str = HOST, connect: bool = False) -> Reply:
        """The answer to one head on a connection of its own."""
        with self.connect(source) as wire:
            return wire.send(self.head(*fields, host=host, connect=connect)).reply("CONNECT" if connect else "GET")


@pytest.fixture
def tenants(start: Callable[..., Proxy], origin: Origins, tmp_path: Path) -> Tenants:
    """`agent` and `other` by token, `bound` by token and source, `near` and `nearer` by source."""
    port = port_of(origin)
    own = tmp_path / "other.yaml"
    own.write_text(
        f'version: 1\nrules:\n  - {{deny: "{HOST}:{port}"}}\n'
        f'  - {{allow: "{OTHERS}:{port}", protocol: [http, https], {LOOPBACK}}}\n'
    )
    policy = f'version: 1\nrules:\n  - {{allow: "{HOST}:{port}", protocol: [http, https], {LOOPBACK}}}\n'
    others = (PolicySource(Scope.TEAM, own),)
    sandboxes = (
        SandboxDefinition(Sandbox("agent"), token=hash_token(TOKENS["agent"].encode())),
        SandboxDefinition(Sandbox("other"), token=hash_token(TOKENS["other"].encode()), policies=others),
        SandboxDefinition(Sandbox("bound"), (ip_network("127.0.0.7"),), token=hash_token(TOKENS["bound"].encode())),
        SandboxDefinition(Sandbox("near"), (ip_network("127.0.0.0/29"), ip_network("127.9.0.0/16"))),
        SandboxDefinition(Sandbox("nearer"), (ip_network("127.0.0.2"),), policies=others),
    )
    # Out of the range that is `near`'s, unless a test comes from there.
    return Tenants(start(policy, HOST, OTHERS, sandboxes=sandboxes), origin)


NOBODY = "127.1.0.1"
KNOWN = [
    ("agent", (AGENT,), NOBODY),
    ("agent", (AGENT.replace("Basic", "basic"),), NOBODY),
    ("agent", (AGENT.replace("Proxy-Authorization", "proxy-authorization"),), NOBODY),
    ("agent", (AGENT,), "127.0.0.1"),
    ("bound", (BOUND,), "127.0.0.7"),
    ("near", (), "127.0.0.1"),
    ("near", (), "127.9.9.9"),
    ("near", ("X-Forwarded-For: 127.0.0.2", "Forwarded: for=127.0.0.2"), "127.0.0.1"),
]


@pytest.mark.parametrize(("name", "fields", "source"), KNOWN)
@pytest.mark.parametrize("connect", [False, True])
def test_a_client_is_the_sandbox_of_its_token_else_of_its_source(
    tenants: Tenants, name: str, fields: tuple[str, ...], source: str, *, connect: bool
) -> None:
    """In the row, and by the policy: requests and CONNECT alike."""
    assert tenants.ask(*fields, source=source, connect=connect).status == 200
    if not connect:
        assert tenants.proxy.ledger.only()[0].sandbox == name


def test_each_sandbox_has_its_own_files_on_top_of_those_that_all_have(tenants: Tenants) -> None:
    """A narrower source is another sandbox, with other rules."""
    assert tenants.ask(OTHER, source=NOBODY).reason == "rule-deny"
    assert tenants.ask(source="127.0.0.2").reason == "rule-deny"
    assert tenants.ask(source="127.0.0.2", host=OTHERS).status == 200
    assert tenants.ask(AGENT, source=NOBODY, host=OTHERS).reason == "host-not-allowed"
    assert [row.sandbox for row in tenants.proxy.ledger.wait(4)] == ["other", "nearer", "nearer", "agent"]


UNKNOWN = [
    ("no credentials", (), NOBODY, 407),
    ("a wrong token", (basic("agent", TOKENS["other"]),), NOBODY, 407),
    ("another's name with one's own token", (basic("other", TOKENS["agent"]),), NOBODY, 407),
    ("a wrong token, where the source alone would do", (basic("near", TOKENS["agent"]),), "127.0.0.1", 407),
    ("the name of a sandbox without a token", (basic("near", "x"),), NOBODY, 407),
    ("an empty user", (basic("", TOKENS["agent"]),), NOBODY, 407),
    ("an empty token", (basic("agent", ""),), NOBODY, 407),
    ("a name in other letters", (basic("Agent", TOKENS["agent"]),), NOBODY, 407),
    ("twice the same", (AGENT, AGENT), NOBODY, 407),
    ("two of them", (AGENT, OTHER), NOBODY, 407),
    ("another scheme", (AGENT.replace("Basic", "Bearer"),), NOBODY, 407),
    ("no base64", ("Proxy-Authorization: Basic %%%",), NOBODY, 407),
    ("nothing after the scheme", ("Proxy-Authorization: Basic",), NOBODY, 407),
    ("no colon", (f"Proxy-Authorization: Basic {base64.b64encode(b'agent').decode()}",), NOBODY, 407),
    ("the right token from elsewhere", (BOUND,), NOBODY, 407),
    ("the field for the server", (AGENT.replace("Proxy-", ""),), NOBODY, 407),
    ("a sandbox that is not there", (basic("unknown", TOKENS["agent"]),), NOBODY, 407),
]


@pytest.mark.parametrize(("fields", "source", "status"), [row[1:] for row in UNKNOWN], ids=[row[0] for row in UNKNOWN])
@pytest.mark.parametrize("connect", [False, True])
def test_who_is_no_sandbox_is_refused_and_asked_for_a_token(
    tenants: Tenants, fields: tuple[str, ...], source: str, status: int, *, connect: bool
) -> None:
    """With a row of its own, whose sandbox is `unknown`; nothing is resolved or dialled."""
    reply = tenants.ask(*fields, source=source, connect=connect)
    assert (reply.status, reply.reason) == (status, "sandbox-unknown")
    assert (reply.field("proxy-authenticate") or "").startswith("Basic ")
    decision, outcome = tenants.proxy.ledger.only()
    assert (decision.verdict, decision.reason, decision.sandbox) == ("deny", "sandbox-unknown", "unknown")
    assert outcome.status == status
    assert not tenants.origin.connections


def test_who_no_token_would_help_is_not_asked_for_one(start: Callable[..., Proxy], origin: Origins) -> None:
    """Where sandboxes are told by their sources alone: 403, without a challenge."""
    sandboxes = (SandboxDefinition(Sandbox("near"), (ip_network("127.0.0.2"),)),)
    tenants = Tenants(start("version: 1\n", HOST, sandboxes=sandboxes), origin)
    for connect in (False, True):
        reply = tenants.ask(connect=connect)
        assert (reply.status, reply.reason, reply.field("proxy-authenticate")) == (403, "sandbox-unknown", None)
    assert [row.sandbox for row in tenants.proxy.ledger.wait(2)] == ["unknown", "unknown"]


def test_without_sandboxes_everybody_is_the_default_one(start: Callable[..., Proxy], origin: Origins) -> None:
    """Whatever they say of themselves."""
    tenants = Tenants(start("version: 1\n", HOST), origin)
    assert tenants.ask(AGENT).reason == "host-not-allowed"
    assert tenants.proxy.ledger.only()[0].sandbox == "default"


def test_a_connection_never_becomes_another_sandboxs(tenants: Tenants) -> None:
    """Also not by a CONNECT; each request says anew who it is, and the connection's own sandbox may go on."""
    with tenants.connect(NOBODY) as wire:
        assert wire.send(tenants.head(AGENT)).reply().status == 200
        assert wire.send(tenants.head(OTHER, host=OTHERS)).reply().reason == "sandbox-unknown"
    with tenants.connect(NOBODY) as wire:
        assert wire.send(tenants.head(AGENT)).reply().status == 200
        assert wire.send(tenants.head()).reply().reason == "sandbox-unknown"
    with tenants.connect(NOBODY) as wire:
        assert wire.send(tenants.head(AGENT)).reply().status == 200
        assert wire.send(tenants.head(OTHER, connect=True, host=OTHERS)).reply("CONNECT").reason == "sandbox-unknown"
    rows = tenants.proxy.ledger.wait(6)
    assert [row.sandbox for row in rows] == ["agent"] * 6
    assert [row.verdict for row in rows] == ["allow", "deny"] * 3


def test_who_was_refused_may_say_who_it_is_on_the_same_connection(tenants: Tenants) -> None:
    """As clients do that send a password only once they are asked for it."""
    with tenants.connect(NOBODY) as wire:
        assert wire.send(tenants.head()).reply().status == 407
        assert wire.send(tenants.head(AGENT)).reply().status == 200
    assert [row.sandbox for row in tenants.proxy.ledger.wait(2)] == ["unknown", "agent"]


def test_inside_a_tunnel_the_connect_says_who_it_is(tenants: Tenants) -> None:
    """A field inside changes nothing, and goes no further."""
    tenants.proxy.ledger.clear()
    with tenants.origin.behaving(answer_ok), tenants.connect(NOBODY) as wire:
        assert wire.send(tenants.head(AGENT, connect=True)).reply("CONNECT").status == 200
        with tenants.proxy.secure(wire, HOST, "http/1.1") as inside:
            inside.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{tenants.port}\r\n{OTHER}\r\n\r\n".encode())
            assert inside.reply().status == 200
    assert tenants.proxy.ledger.only()[0].sandbox == "agent"
    assert TOKENS["other"].encode() not in everything(tenants)


def everything(tenants: Tenants) -> bytes:
    """Whatever the origin got and the audit has, with what base64 stands for decoded."""
    got = b"".join(bytes(connection.received) for connection in tenants.origin.connections)
    return got + repr(tenants.proxy.ledger.events).encode()


def test_a_token_is_in_no_row_page_log_or_upstream_byte(tenants: Tenants, caplog: pytest.LogCaptureFixture) -> None:
    """Of an allowed request, a denied one, a wrong one, one that is malformed, and a CONNECT."""
    seen = b""
    with tenants.origin.behaving(answer_ok):
        for fields, host in (
            ((AGENT,), HOST),
            ((AGENT,), OTHERS),
            ((AGENT, AGENT), HOST),
            ((AGENT, "bad field"), HOST),
        ):
            for connect in (False, True):
                seen += tenants.ask(*fields, source=NOBODY, host=host, connect=connect).whole
    seen += everything(tenants) + caplog.text.encode()
    for secret in (TOKENS["agent"], AGENT.rpartition(" ")[2]):
        assert secret.encode() not in seen
    assert any(connection.received for connection in tenants.origin.connections)


def test_a_removed_sandboxs_connections_are_cut_with_a_row_each(tenants: Tenants) -> None:
    """One in a tunnel, one that speaks to the proxy itself; another sandbox's goes on."""
    with tenants.connect(NOBODY) as tunnel, tenants.connect(NOBODY) as plain, tenants.connect("127.0.0.1") as near:
        assert tunnel.send(tenants.head(AGENT, connect=True)).reply("CONNECT").status == 200
        assert plain.send(tenants.head(AGENT)).reply().status == 200
        assert near.send(tenants.head()).reply().status == 200
        tenants.proxy.ledger.wait(2)

        async def remove() -> int:
            gate = tenants.proxy.gate
            roster = gate.generation.roster
            assert roster is not None
            left = [member for member in roster.members if member.definition.name != "agent"]
            return gate.swap(replace(gate.generation, number=2, roster=Roster(left)))

        assert tenants.proxy.call(remove()) == 2
        assert tunnel.rest() == b""
        assert plain.rest() == b""
        assert near.send(tenants.head()).reply().status == 200
    rows = tenants.proxy.ledger.wait(5)
    assert sorted(row.reason for row in rows if row.sandbox == "agent") == ["rule-allow", *["sandbox-unknown"] * 2]
    assert tenants.ask(AGENT, source=NOBODY).status == 407


@pytest.mark.parametrize("carrier", [Carrier.FRONT], indirect=True)
def test_connections_are_counted_for_the_sandbox_wherever_they_come_from(tenants: Tenants) -> None:
    """By token or by source; an unknown client's for its address, whose room it gives back once it is known."""
    rooms = OwnClientSlots(1)

    async def limit() -> None:
        tenants.proxy.front._client_slots = rooms.of

    tenants.proxy.call(limit())
    with tenants.connect(NOBODY) as one, tenants.connect("127.1.0.2") as two:
        assert one.send(tenants.head(AGENT)).reply().status == 200
        assert two.send(tenants.head(AGENT)).reply().reason == "limit-connections"
        assert two.send(tenants.head(AGENT)).reply().reason == "limit-connections"
        assert two.send(tenants.head(OTHER, host=OTHERS)).reply().status == 200
    with tenants.connect("127.0.0.1") as one, tenants.connect("127.9.9.9") as two:
        assert one.send(tenants.head()).reply().status == 200
        assert two.reply().reason == "limit-connections"
    tenants.proxy.until(lambda: tenants.proxy.connections == 0, "all connections to end")
    assert {key: slots._room for key, slots in rooms._of.items()} == dict.fromkeys(rooms._of, 1)
    assert {"sandbox agent", "sandbox other", "sandbox near", NOBODY} <= set(rooms._of)


def test_each_sandbox_has_a_limit_of_its_own(start: Callable[..., Proxy], origin: Origins) -> None:
    """What one has used up is still there for the other, whose rule it is as well, whatever address both come from."""
    port = port_of(origin)
    policy = (
        f'version: 1\nrules:\n  - {{name: both, allow: "{HOST}:{port}", protocol: http, {LOOPBACK},'
        " limits: {requests: 2/h}}\n"
    )
    sandboxes = tuple(
        SandboxDefinition(Sandbox(name), token=hash_token(TOKENS[name].encode())) for name in ("agent", "other")
    )
    tenants = Tenants(start(policy, HOST, sandboxes=sandboxes), origin)
    answers = [tenants.ask(field).status for field in (AGENT, AGENT, AGENT, OTHER, OTHER, OTHER)]
    assert answers == [200, 200, 429, 200, 200, 429]
    assert {decision.sandbox for decision in tenants.proxy.ledger.wait(6)} == {"agent", "other"}
