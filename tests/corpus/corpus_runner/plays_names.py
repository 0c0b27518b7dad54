"""Rebinding and what else a resolver can be made to answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.world import ALLOWED4, EVIL4, PROXY4, PUBLIC4

from corpus_runner.evidence import judge
from corpus_runner.policies import ANY_NAME, ENVIRONMENT
from corpus_runner.scripts import script
from corpus_runner.wire import ask, get, observe

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.nameserver import Answers
    from harness.world import World

    from corpus_runner.cases import Case

DENIED = ("audit_row(deny)", "no_upstream_conn(evil)", "no_upstream_bytes")


def _with_answers(world: World, case: Case, name: str, answers: Answers) -> None:
    with world.names.answering(name, answers):
        proxy = world.proxy(ANY_NAME, ENVIRONMENT)
        judge(case, observe(world, proxy, lambda client: ask(client, host=name)), DENIED)
        judge(case, observe(world, proxy, lambda client: get(client, f"http://{name}/", name)), DENIED)


@script("DNSREBIND-001")
def second_answer_is_private(world: World, case: Case) -> None:
    """The name is asked once a request, and what was judged is what is dialled."""
    name = "one.rebind.test"
    with world.names.answering(name, lambda count: [f"A {EVIL4 if count else ALLOWED4}"]):
        questions = len(world.names.questions)
        evidence = observe(world, world.proxy(ANY_NAME, ENVIRONMENT), lambda client: ask(client, host=name), "allow")
        asked = [kind for asked, kind in world.names.questions[questions:] if asked == name]
    judge(case, evidence, ["reaches(allowed)", "no_upstream_conn(evil)", "audit_row(allow)"])
    assert sorted(asked) in (["A"], ["A", "AAAA"])


@script("DNSREBIND-003")
def other_family_is_loopback(world: World, case: Case) -> None:
    """When the public address refuses, the private one is no way out."""
    name = "three.rebind.test"
    with world.names.answering(name, [f"A {PUBLIC4}", "AAAA ::1"]):
        proxy = world.proxy(CLOSED_PORT)

        def act(client: Attacker) -> None:
            client.connect(f"{name}:4433") and client.handshake(name) and client.response()
            client.send(f"GET / HTTP/1.1\r\nHost: {name}:4433\r\n\r\n".encode())
            client.response()

        evidence = observe(world, proxy, act)
    assert not evidence.connections
    assert {packet.target for packet in evidence.packets if packet.kind == "tcp" and packet.port == 4433} <= {PUBLIC4}
    assert all(row["verdict"] == "deny" or row["error"] for row in evidence.rows)
    judge(case, evidence, ["audit_row(*)", "no_upstream_bytes"])


CLOSED_PORT = 'version: 1\ndefault: deny\nrules:\n  - allow: "**"\n    ports: [4433]\n'


@script("DNSREBIND-004")
def alias_of_metadata(world: World, case: Case) -> None:
    """Where a chain of aliases ends is what counts."""
    with world.names.answering("metadata.google.internal", ["A 169.254.169.254"]):
        _with_answers(world, case, "four.rebind.test", ["CNAME metadata.google.internal."])


@script("DNSREBIND-006")
def rebound_while_kept_alive(world: World, case: Case) -> None:
    """A later request of the same client that needs a new connection is judged by the new answer."""
    name = "six.rebind.test"
    with world.names.answering(name, lambda count: [f"A {ALLOWED4}" if count == 0 else "A 127.0.0.1"]):
        proxy = world.proxy(ANY_NAME, ENVIRONMENT)

        def act(client: Attacker) -> None:
            url = f"http://{name}/"
            assert b"ok allowed" in get(client, url, name, b"Connection: keep-alive\r\n")
            for seen in world.origins.connections[-1:]:
                seen.closed.wait(0)
            world.origins.drop()
            get(client, url, name)

        evidence = observe(world, proxy, act, "allow")
    judge(case, evidence, ["no_upstream_conn(evil)"])
    assert sum(len(seen.requests) for seen in evidence.at("allowed")) == 1


@script("DNSREBIND-007")
def another_way_out_in_the_environment(world: World, case: Case) -> None:
    """The proxy's own environment names no way for its connections: it dials what it judged."""
    env = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy"), f"http://{EVIL4}:8080")
    proxy = world.proxy(ANY_NAME, {**ENVIRONMENT, **env})
    evidence = observe(world, proxy, lambda client: ask(client, host="allowed.test"), "allow")
    judge(case, evidence, ["reaches(allowed)", "no_upstream_conn(evil)", "audit_row(allow)"])


@script("DNSREBIND-008")
def a_name_for_the_proxy(world: World, case: Case) -> None:
    """A name that stands for the proxy itself is not dialled, at the proxy's port."""
    policy = 'version: 1\ndefault: deny\nrules:\n  - allow: "**"\n    ports: [1-65535]\n'
    name = "eight.rebind.test"
    with world.names.answering(name, [f"A {PROXY4}"]):
        proxy = world.proxy(policy)
        port = proxy.address[1]
        evidence = observe(world, proxy, lambda client: get(client, f"http://{name}:{port}/", f"{name}:{port}"))
    judge(case, evidence, DENIED)
    own = [packet for packet in evidence.packets if packet.port == port and packet.source != evidence.client]
    assert not own
    assert [row["reason"] for row in evidence.rows] == ["address-is-proxy"]


@script("DNSREBIND-009")
def shared_address_space(world: World, case: Case) -> None:
    """Carrier-grade NAT is not the public Internet."""
    _with_answers(world, case, "nine.rebind.test", ["A 100.64.0.5"])


@script("DNSREBIND-012")
def no_search_list(world: World, case: Case) -> None:
    """A name is asked as it is: the machine's search list does not apply."""
    proxy = world.proxy(ANY_NAME, ENVIRONMENT)
    with world.names.answering("intranet.corp.internal", [f"A {EVIL4}"]):
        evidence = observe(world, proxy, lambda client: get(client, "http://intranet/", "intranet"))
    judge(case, evidence, DENIED)
    assert not [name for name, _ in evidence.questions if name.endswith("corp.internal")]
