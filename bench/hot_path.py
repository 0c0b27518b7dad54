"""What one inspected keep-alive request costs besides its reads and writes: `python bench/hot_path.py`.

Each line is one step of the way, in microseconds of CPU: the best of rounds in which all steps take turns, so that a
machine whose speed drifts drifts for all of them. The first sum is what every lane pays for a judged request; the
second adds what the http lane does to carry it. `--json` prints the figures for a comparison of two checkouts.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from egress.audit import DecisionEvent, OutcomeEvent
from egress.audit.row import decision_row, outcome_row
from egress.config import PolicySource, load_policy
from egress.credentials import CredentialStore
from egress.gate.exchange import Client, Exchange
from egress.gate.gate import Asked, Gate
from egress.gate.generation import Generation
from egress.gate.grant import GrantBook
from egress.gate.ids import new_decision_id
from egress.gate.naming import Route, name_request
from egress.gate.outbound import client_fields, upstream_fields
from egress.gate.permit import Permit
from egress.gate.record import Recorder
from egress.gate.resolver import Resolver
from egress.policy import Host, Request, Scope
from egress.wire.head import RequestHead, ResponseHead, parse_request_head, parse_response_head

if TYPE_CHECKING:
    from collections.abc import Callable

REQUEST = (
    b"POST /v1/messages?beta=true HTTP/1.1\r\n"
    b"Host: api.example.com\r\n"
    b"User-Agent: example-sdk/1.2.3 python/3.13 (linux; x86_64)\r\n"
    b"Accept: application/json\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\n"
    b"Connection: keep-alive\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: 4711\r\n"
    b"Authorization: Bearer placeholder-placeholder-placeholder\r\n"
    b"X-Request-Id: 0b1f6c2e-7f0a-4a53-9d3e-3c1f6b0a9e55\r\n"
    b"X-Client-Info: lang=python; runtime=cpython; os=linux\r\n"
    b"\r\n"
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\n"
    b"Date: Fri, 20 Nov 2026 12:00:00 GMT\r\n"
    b"Content-Type: application/json\r\n"
    b"Content-Length: 600\r\n"
    b"Connection: keep-alive\r\n"
    b"Cache-Control: no-store\r\n"
    b"Vary: Accept-Encoding\r\n"
    b"Server: nginx\r\n"
    b"X-Request-Id: 0b1f6c2e-7f0a-4a53-9d3e-3c1f6b0a9e55\r\n"
    b"\r\n"
)
POLICY = """version: 1
secrets:
  key: {env: BENCH_KEY, hosts: [api.example.com]}
rules:
  - deny: [169.254.169.254, metadata.google.internal]
  - deny: api.example.com
    methods: [DELETE]
  - name: model API
    allow: api.example.com
    methods: [POST]
    paths: [/v1/messages, /v1/models/**]
    inject: {Authorization: "Bearer ${key}"}
  - allow: .example.org
"""
ADDRESS = ip_address("93.184.216.34")
ROUNDS = 60
TIMES = 200


class Nowhere:
    """An audit that makes rows of what it is offered, as the real one does, and keeps none."""

    def offer(self, event: DecisionEvent | OutcomeEvent) -> bool:
        """Take everything."""
        if isinstance(event, DecisionEvent):
            decision_row(event)
        else:
            outcome_row(event)
        return True


def generation() -> Generation:
    """A policy with a rule that looks at method and path, and injects a secret."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.yaml"
        path.write_text(POLICY)
        loaded = load_policy((PolicySource(Scope.SANDBOX, path),))
    return Generation(1, loaded.policy, CredentialStore(loaded.secrets, env={"BENCH_KEY": "k" * 60}))


class Steps:
    """The values that one step hands to the next, and the steps."""

    def __init__(self) -> None:
        self.generation = generation()
        self.policy = self.generation.policy
        self.client = Client("agent", "127.0.0.1:40000", "http")
        self.route = Route(Host("api.example.com"), 443, tls=True)
        self.recorder = Recorder(Nowhere())
        self.gate = Gate(self.generation, Resolver(), self.recorder)
        self.head = _is(parse_request_head(REQUEST), RequestHead)
        self.request = _is(name_request(self.head, "agent", self.route), Request)
        self.decision = self.policy.decide_request(self.request)
        self.rendered: Any = self.render()
        self.id = new_decision_id()
        self.permit = Permit(self.decision, self.rendered, (ADDRESS,), str(ADDRESS))
        self.exchange = self.make_exchange()
        self.answer = _is(parse_response_head(RESPONSE), ResponseHead)
        if not self.decision.allowed or not self.rendered.headers:
            raise SystemExit("the policy of this benchmark does not allow its request")

    def render(self) -> object:
        """The rule's headers with the secret in them."""
        return self.generation.credentials.render(self.decision.inject, self.request, verified_tls=True)

    def make_exchange(self) -> Exchange:
        """What the gate gives for an admitted request."""
        return Exchange(
            id=self.id,
            client=self.client,
            request=self.request,
            decision=self.decision,
            rendered=self.rendered,
            generation=self.generation,
            on_finish=lambda _, outcome: outcome_row(outcome),  # type: ignore[arg-type, return-value]
            cut=lambda _: None,
            addresses=(ADDRESS,),
            address="93.184.216.34",
        )

    def decision_event(self) -> object:
        """The decision's event and row."""
        asked = (self.client, self.request, "api.example.com")
        return decision_row(self.recorder.event(self.id, asked, self.decision, self.policy.digest, self.permit))

    def outcome(self) -> None:
        """The exchange, its outcome's event and row."""
        exchange = self.make_exchange()
        exchange.response_started(200)
        exchange.finish()

    def admit(self) -> None:
        """The whole of the gate, on a kept connection."""
        book = GrantBook()
        asked = Asked(self.client, self.request, book, lambda _: None, "api.example.com", ADDRESS)
        admitted = _is(_run(self.gate.admit(asked)), Exchange)
        self.gate.ready(admitted, ADDRESS, verified_tls=True)
        book.drop(admitted.id)
        admitted.response_started(200)
        admitted.finish()

    def judged(self) -> dict[str, Callable[[], object]]:
        """What the first sum adds up."""
        return {
            "parse the request's head, 10 fields": lambda: parse_request_head(REQUEST),
            "name the request": lambda: name_request(self.head, "agent", self.route),
            "decide by request": lambda: self.policy.decide_request(self.request),
            "decide by address": lambda: self.policy.decide_address(self.request, self.decision, (ADDRESS,)),
            "render the secret": self.render,
            "a decision's id": new_decision_id,
            "a decision's event and row": self.decision_event,
            "an exchange, its outcome and row": self.outcome,
            "the fields for the upstream": lambda: upstream_fields(self.exchange, self.head.fields),
            "parse the answer's head, 8 fields": lambda: parse_response_head(RESPONSE),
        }

    def carried(self) -> dict[str, Callable[[], object]]:
        """What else the http lane pays, and the gate as a whole (which holds many of the steps above)."""
        steps: dict[str, Callable[[], object]] = {
            "the fields for the client": lambda: client_fields(self.answer.fields),
            "the gate: admit, ready, finish": self.admit,
        }
        try:
            from egress.proxy import heads  # noqa: PLC0415 - absent from checkouts that it is compared with
        except ImportError:
            return steps
        framing, version = self.answer.framing, self.head.version
        steps["the whole head for the upstream"] = lambda: heads.request_head(self.head, self.exchange)
        steps["the whole head for the client"] = lambda: heads.response_head(
            self.answer, self.exchange, framing, version, keep=True
        )
        return steps


def _is[T](value: object, kind: type[T]) -> T:
    if not isinstance(value, kind):
        raise SystemExit(f"{kind.__name__} expected: {value}")
    return value


def _run(coroutine: Any) -> object:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise SystemExit("the gate waited")


def measure(steps: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Microseconds of this thread's CPU time for each step."""
    best = dict.fromkeys(steps, float("inf"))
    for _ in range(ROUNDS):
        for name, step in steps.items():
            start = time.thread_time_ns()
            for _ in range(TIMES):
                step()
            best[name] = min(best[name], (time.thread_time_ns() - start) / TIMES / 1000)
    return best


async def main() -> None:
    """Print the table."""
    steps = Steps()
    judged, carried = steps.judged(), steps.carried()
    best = measure(judged | carried)
    out = sys.stdout
    if "--json" in sys.argv:
        json.dump(best, out)
        return
    for name in judged:
        out.write(f"{name:<40} {best[name]:7.2f} us\n")
    out.write(f"{'sum':<40} {sum(best[name] for name in judged):7.2f} us\n\n")
    for name in carried:
        out.write(f"{name:<40} {best[name]:7.2f} us\n")


if __name__ == "__main__":
    asyncio.run(main())
