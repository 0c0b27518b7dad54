"""Identity endpoints that are asked through the proxy, in every lane: answered, or refused, and never passed on."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from rig.identities import ARM, EMAIL, UNBOUND, VALUES, ask_through, begin, placeholder
from rig.modes import HOST, Mode, carried
from rig.proxy import LOOPBACK, port_of

from egress.audit import DecisionEvent
from egress.config import SandboxDefinition, hash_token
from egress.gate.floods import Floods
from egress.policy import Sandbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins
    from rig.modes import Site
    from rig.proxy import Proxy

IMDS = "http://169.254.169.254/metadata/identity/oauth2/token"
TOKEN = f"{IMDS}?api-version=2018-02-01&resource={ARM}"
GOOGLE = "http://metadata.google.internal/computeMetadata/v1"
ACCOUNT = f"{GOOGLE}/instance/service-accounts/default"
FLAVOR = "Metadata-Flavor: Google"
# What nobody should write, and what would reach a machine's real identity.
CARELESS = """
  - {allow: [169.254.169.254, metadata.google.internal], addresses: [169.254.0.0/16]}
  - {allow: "169.254.169.254:80", protocol: tcp, addresses: [169.254.0.0/16]}
"""


@pytest.fixture
def site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """A proxy that answers the endpoints, under a policy that allows the metadata hosts besides."""
    return begin(start, origin, CARELESS)


def test_azure_gets_a_placeholder_that_looks_like_a_token(site: Site) -> None:
    """For the resource that was asked for, with times that a client can compute with; the row says so."""
    reply = ask_through(site.proxy, TOKEN, "Metadata: true")
    assert reply.status == 200
    token = json.loads(reply.body)
    assert token["access_token"] == placeholder(site.proxy, "arm")
    assert token["access_token"].count(".") == 2
    assert (token["resource"], token["token_type"]) == (ARM, "Bearer")
    assert int(token["expires_on"]) - int(token["not_before"]) == int(token["expires_in"]) == 3_600
    row, outcome = site.proxy.ledger.only()
    assert (row.verdict, row.reason, row.host) == ("allow", "identity-placeholder", "169.254.169.254")
    assert row.address is None
    # A number and nothing like one: what else travels to the process that writes rows is refused there.
    assert (outcome.status, type(outcome.status)) == (200, int)
    assert "arm" in (row.detail or "")


def test_google_gets_a_placeholder_and_the_flavor(site: Site) -> None:
    """Token and account; each answer has the header by which clients know the server."""
    reply = ask_through(site.proxy, f"{ACCOUNT}/token", FLAVOR)
    assert json.loads(reply.body)["access_token"] == placeholder(site.proxy, "cloud")
    assert reply.field("metadata-flavor") == "Google"
    reply = ask_through(site.proxy, f"{ACCOUNT}/?recursive=true", FLAVOR)
    assert json.loads(reply.body)["email"] == EMAIL


REFUSED = [
    (TOKEN, (), 400),
    (IMDS, ("Metadata: true",), 400),
    (f"{IMDS}?api-version=2018-02-01", ("Metadata: true",), 400),
    (f"{TOKEN}.example", ("Metadata: true",), 400),
    (f"{TOKEN}&resource={ARM}", ("Metadata: true",), 400),
    (TOKEN, ("Metadata: true", "Metadata: true"), 400),
    (f"{ACCOUNT}/token", (), 403),
    (f"{ACCOUNT}/identity?audience=https://one.example", (FLAVOR,), 404),
    (f"{GOOGLE}/instance/attributes/ssh-keys", (FLAVOR,), 404),
    ("http://169.254.169.254/latest/meta-data/iam/security-credentials/", (), 404),
    ("http://169.254.169.254:8080/latest/user-data", (), 404),
    ("http://[::ffff:169.254.169.254]/latest/user-data", (), 404),
    ("http://metadata.google.internal./computeMetadata/v1/instance/id", (FLAVOR,), 404),
]


@pytest.mark.parametrize(("url", "fields", "status"), REFUSED)
def test_what_is_not_configured_is_refused_and_goes_nowhere(
    site: Site, url: str, fields: tuple[str, ...], status: int
) -> None:
    """Though a rule allows the host: as the service itself would refuse it, with a row, and no placeholder in it."""
    reply = ask_through(site.proxy, url, *fields)
    assert reply.status == status
    assert b"eyJ" not in reply.body
    row, outcome = site.proxy.ledger.only()
    assert (row.verdict, row.reason, row.address) == ("deny", "identity-refused", None)
    assert outcome.status == status


def test_a_flood_of_refused_questions_is_counted(site: Site) -> None:
    """As every denial: each is answered, and they do not fill the record."""
    site.proxy.gate.recorder = replace(site.proxy.gate.recorder, floods=Floods(2, site.proxy.ledger.offer))
    for _ in range(6):
        assert ask_through(site.proxy, IMDS, "Metadata: true").status == 400
    site.proxy.until(lambda: sum(row.count for row in site.proxy.ledger.decisions) == 6, "the count")
    rows = [row for row in site.proxy.ledger.events if isinstance(row, DecisionEvent)]
    assert [row.count for row in rows[:2]] == [1, 1]
    assert max(row.count for row in rows) > 1


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD"])
def test_only_get_is_answered(site: Site, method: str) -> None:
    """What would ask for a session token of AWS's service, or change something, gets nothing."""
    assert ask_through(site.proxy, TOKEN, "Metadata: true", "Content-Length: 0", method=method).status == 405
    row, _ = site.proxy.ledger.only()
    assert row.verdict == "deny"


@pytest.mark.parametrize("port", [80, 443, 8080])
def test_no_tunnel_leads_to_a_metadata_host(site: Site, port: int) -> None:
    """Though a rule allows one."""
    wire, reply = site.proxy.tunnel("169.254.169.254", port)
    wire.close()
    assert reply.status == 405
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.reason) == ("deny", "identity-refused")


def test_no_rule_sends_a_request_to_a_metadata_host(start: Callable[..., Proxy], origin: Origins) -> None:
    """A rewrite asks for what its client did not ask for: nobody answers that."""
    more = f"""
  - {{allow: "moved.test:{port_of(origin)}", rewrite: {{scheme: http, host: 169.254.169.254, port: 80}}, {LOOPBACK}}}
  - {{allow: 169.254.169.254, addresses: [169.254.169.254]}}
"""
    site = begin(start, origin, more)
    assert site.proxy.ask("moved.test", site.port).status == 403
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.reason) == ("deny", "address-is-proxy")


def test_no_other_name_leads_to_a_metadata_host(start: Callable[..., Proxy], origin: Origins) -> None:
    """A name that resolves to its address, under a rule that names it."""
    site = begin(start, origin, "  - {allow: alias.test, protocol: http, addresses: [169.254.169.254]}")
    site.proxy.config.resolve["alias.test"] = (ip_address("169.254.169.254"),)  # type: ignore[index]
    assert site.proxy.ask("alias.test", 80).reason == "address-is-proxy"


def test_without_identity_a_metadata_host_is_denied_as_ever(start: Callable[..., Proxy], origin: Origins) -> None:
    """The default denies it by name or address, and nothing is answered."""
    site = begin(start, origin, identity=None)
    assert ask_through(site.proxy, TOKEN, "Metadata: true").status == 403
    row, _ = site.proxy.ledger.only()
    assert row.reason == "address-not-allowed"


def test_who_is_no_sandbox_gets_nothing(start: Callable[..., Proxy], origin: Origins) -> None:
    """Asked for its token like any client; with it, answered, and the row has its name."""
    own = SandboxDefinition(Sandbox("agent"), token=hash_token(b"a-long-enough-token"))
    site = begin(start, origin, sandboxes=(own,))
    assert ask_through(site.proxy, TOKEN, "Metadata: true").status == 407
    known = "Proxy-Authorization: Basic YWdlbnQ6YS1sb25nLWVub3VnaC10b2tlbg=="
    assert ask_through(site.proxy, TOKEN, "Metadata: true", known).status == 200
    nobody, agent = site.proxy.ledger.wait(2)
    assert (nobody.verdict, nobody.reason) == ("deny", "sandbox-unknown")
    assert (agent.verdict, agent.sandbox) == ("allow", "agent")


def test_what_cannot_be_recorded_is_not_answered(site: Site) -> None:
    """INVARIANT every-decision-leaves-a-record."""
    site.proxy.ledger.accepts = lambda _: False
    reply = ask_through(site.proxy, TOKEN, "Metadata: true")
    assert reply.status == 503
    assert reply.reason == "audit-unavailable"


def test_a_fault_refuses(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """INVARIANT fail-closed: an answer that raises is a refusal, and nothing is passed on in its place."""
    monkeypatch.setattr("egress.gate.endpoints.endpoints.ask_azure", lambda *_: 1 / 0)
    assert ask_through(site.proxy, TOKEN, "Metadata: true").status == 500
    row, _ = site.proxy.ledger.only()
    assert (row.verdict, row.reason) == ("deny", "internal-error")


@carried("mode", (Mode.TLS1,))
def test_a_placeholder_becomes_the_token_where_a_rule_says_so(site: Site, origin: Origins, mode: Mode) -> None:
    """And only there: at a host without such a rule the request is refused."""
    token = json.loads(ask_through(site.proxy, TOKEN, "Metadata: true").body)["access_token"]
    asked = f"GET /arm/x HTTP/1.1\r\nHost: %s:{site.port}\r\nAuthorization: Bearer {token}\r\n\r\n"
    with site.serving(mode):
        with site.proxy.inside(HOST, site.port, "http/1.1") as wire:
            assert wire.send((asked % HOST).encode()).reply().status == 200
        with site.proxy.inside(UNBOUND, site.port, "http/1.1") as wire:
            assert wire.send((asked % UNBOUND).encode()).reply().reason == "placeholder-misdirected"
    (sent,) = [request for record in origin.connections for request in record.requests]
    assert sent.values(b"authorization") == [f"Bearer {VALUES['ARM']}".encode()]
