"""What must pass: the controls without which a firewall that denies everything would look perfect."""

from __future__ import annotations

from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
from harness.frames import Http2
from harness.origins import answer_raw
from harness.world import ALLOWED4

from corpus_runner.evidence import judge
from corpus_runner.policies import ENVIRONMENT, HOST
from corpus_runner.scripts import script
from corpus_runner.wire import again, ask, get, observe

if TYPE_CHECKING:
    from harness.attacker import Attacker
    from harness.origins import Stream
    from harness.world import World

    from corpus_runner.cases import Case

TWO_HOSTS = "version: 1\ndefault: deny\nrules:\n  - allow: [allowed.test, cdn.allowed.test]\n    protocol: https\n"
INTERNATIONAL = 'version: 1\ndefault: deny\nrules:\n  - allow: "bücher.allowed.test"\n'


@script("POSITIVECO-007")
def grpc(world: World, case: Case) -> None:
    """HTTP/2 on both sides, and the trailers of the answer arrive."""

    def serve(stream: Stream) -> None:
        server = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        server.initiate_connection()
        stream.send(server.data_to_send())
        while data := stream.receive():
            for event in server.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    server.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    server.send_data(event.stream_id, b"\0\0\0\0\2hi")
                    server.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            stream.send(server.data_to_send())

    answers = []

    def act(client: Attacker) -> None:
        assert client.connect("allowed.test:443")
        assert client.handshake("allowed.test", ["h2"])
        http2 = Http2(client)
        head = [
            (":method", "POST"),
            (":scheme", "https"),
            (":authority", "allowed.test"),
            (":path", "/pkg.Service/Call"),
        ]
        http2.request(1, [*head, ("content-type", "application/grpc"), ("te", "trailers")], b"\0\0\0\0\2yo")
        answers.append(http2.wait(1))

    with world.origins.behaving(serve, alpn=("h2", "http/1.1")):
        evidence = observe(world, world.proxy(HOST, ENVIRONMENT), act, "allow")
    assert answers[0].status == 200
    assert bytes(answers[0].body) == b"\0\0\0\0\2hi"
    assert ("grpc-status", "0") in answers[0].trailers
    judge(case, evidence, ["audit_row(allow)"])


@script("POSITIVECO-008")
def redirect_chain(world: World, case: Case) -> None:
    """HEAD, GET and a redirect to another host that has a rule: a pull of image layers."""

    def serve(stream: Stream) -> None:
        while head := stream.request():
            if head.values(b"host") == [b"allowed.test"]:
                stream.send(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: https://cdn.allowed.test/layer\r\n")
                stream.send(b"Content-Length: 0\r\n\r\n")
            else:
                body = b"" if head.line.startswith(b"HEAD") else b"layer"
                stream.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" + body)

    proxy = world.proxy(TWO_HOSTS)
    env = world.client_env(proxy, world.folder)
    before = len(proxy.rows())
    with world.origins.behaving(serve):
        assert "200" in world.namespace.run(["curl", "-sSIL", "https://allowed.test/v2/x"], env=env).stdout
        assert world.namespace.run(["curl", "-sSL", "https://allowed.test/v2/x"], env=env).stdout == "layer"
    rows = proxy.wait_rows("", lambda rows: len(rows) >= before + 4)[before:]
    assert [row["verdict"] for row in rows] == ["allow"] * 4
    assert case.expected == "allow"


@script("POSITIVECO-009", "POSITIVECO-014")
def plain(world: World, case: Case) -> None:
    """Cleartext to an allowed host, with and without the port in the URL and in Host."""
    port = ":80" if case.id == "POSITIVECO-014" else ""
    act = lambda client: get(client, f"http://allowed.test{port}/x", "allowed.test")  # noqa: E731 -- one expression
    judge(case, observe(world, world.proxy(HOST, ENVIRONMENT), act, "allow"))


@script("POSITIVECO-011")
def no_bodies(world: World, case: Case) -> None:
    """HEAD with a length, 204 and 304, one after another on one connection, and a GET after them."""

    def serve(stream: Stream) -> None:
        while head := stream.request():
            answer = {
                b"/head": b"200 OK\r\nContent-Length: 1000",
                b"/204": b"204 No Content",
                b"/304": b'304 Not Modified\r\nETag: "x"',
            }.get(head.line.split()[1], b"200 OK\r\nContent-Length: 4")
            stream.send(b"HTTP/1.1 " + answer + b"\r\n\r\n" + (b"body" if head.line.split()[1] == b"/get" else b""))

    statuses: list[int] = []

    def act(client: Attacker) -> None:
        assert client.connect("allowed.test:443")
        assert client.handshake("allowed.test")
        client.send(b"HEAD /head HTTP/1.1\r\nHost: allowed.test\r\n\r\n")
        client.drain(0.4)
        for path in ("/204", "/304", "/get"):
            again(client, path)
        statuses.extend(client.answers.statuses)

    with world.origins.behaving(serve):
        evidence = observe(world, world.proxy(HOST, ENVIRONMENT), act, "allow")
    assert statuses == [200, 204, 304, 200]
    assert evidence.client_bytes.endswith(b"body")
    assert evidence.verdicts == ["allow"] * 4
    judge(case, evidence, ["reaches(allowed)"])


@script("POSITIVECO-013")
def international_name(world: World, case: Case) -> None:
    """A rule in letters matches the name as it goes over the wire."""
    name = "xn--bcher-kva.allowed.test"
    with world.names.answering(name, [f"A {ALLOWED4}"]):
        judge(case, observe(world, world.proxy(INTERNATIONAL), lambda client: ask(client, host=name), "allow"))


@script("POSITIVECO-015")
def default_port_in_host(world: World, case: Case) -> None:
    """Host with the port that is the default anyway."""

    def act(client: Attacker) -> None:
        assert client.connect("allowed.test:443")
        assert client.handshake("allowed.test")
        again(client, host="allowed.test:443")

    judge(case, observe(world, world.proxy(HOST, ENVIRONMENT), act, "allow"))


@script("POSITIVECO-017")
def lookalike(world: World, case: Case) -> None:
    """An answer that only looks like it holds a secret arrives as it was sent."""
    body = b"Authorization: Bearer sk-0000000000000000000000 AKIAIOSFODNN7EXAMPLE"
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    with world.origins.behaving(answer_raw(answer)):
        evidence = observe(world, world.proxy(HOST, ENVIRONMENT), ask, "allow")
    assert evidence.client_bytes.endswith(body)
    judge(case, evidence)
