"""`durability: strict`: nothing passes before its decision is on the disk, and nothing waits for ever for that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from egress.audit import AuditWriter
from egress.config import AuditConfig, Durability, Limits, ServerConfig, UpstreamConfig
from egress.errors import StartError
from egress.gate.build import build_gate
from egress.gate.denial import Denial
from egress.gate.exchange import Exchange
from egress.gate.record import Recorder
from egress.policy import Host, Protocol, Reason, Request

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from workbench import Bench

ASKED = Request("default", Protocol.HTTPS, Host("a.test"), 443, "GET", "/")


@pytest.fixture
def strict(bench: Callable[..., Bench]) -> Callable[[Callable[[float], Awaitable[bool]]], Bench]:
    """A gate whose recorder commits as told."""

    def make(commit: Callable[[float], Awaitable[bool]]) -> Bench:
        made = bench("rules: [{allow: a.test}]", {"a.test": "93.184.216.34"})
        made.gate.recorder = Recorder(made.ledger, wait_seconds=0.05, commit=commit)
        return made

    return make


def test_nothing_is_granted_before_the_decision_is_on_the_disk(strict: Callable[..., Bench]) -> None:
    """The request waits for the commit, and has no grant meanwhile."""
    committed = asyncio.Event()

    async def commit(_: float) -> bool:
        await committed.wait()
        return True

    async def play() -> None:
        made = strict(commit)
        asking = asyncio.ensure_future(made.admit(ASKED))
        await asyncio.sleep(0.02)
        assert len(made.ledger.decisions) == 1
        assert not asking.done()
        assert not made.gate.open
        assert made.book.spend("a.test", 443, tls=True) is None
        committed.set()
        assert isinstance(await asking, Exchange)

    asyncio.run(play())


def test_what_is_not_on_the_disk_in_time_is_denied_and_the_row_says_so(strict: Callable[..., Bench]) -> None:
    """The decision in the row was to allow, so its outcome tells that nothing passed."""

    async def commit(_: float) -> bool:
        return False

    async def play() -> None:
        made = strict(commit)
        denial = await made.admit(ASKED)
        assert isinstance(denial, Denial)
        assert denial.reason is Reason.AUDIT_UNAVAILABLE
        assert not made.gate.open
        assert made.book.spend("a.test", 443, tls=True) is None
        (decision,), (outcome,) = made.ledger.decisions, made.ledger.outcomes
        assert outcome.id == decision.id == denial.decision_id
        assert str(outcome.error).startswith("audit-unavailable: ")

    asyncio.run(play())


def test_a_commit_that_raises_denies(strict: Callable[..., Bench]) -> None:
    """As every step of the gate does."""

    async def commit(_: float) -> bool:
        raise RuntimeError

    async def play() -> None:
        made = strict(commit)
        denial = await made.admit(ASKED)
        assert isinstance(denial, Denial)
        assert denial.reason is Reason.INTERNAL_ERROR
        assert not made.gate.open

    asyncio.run(play())


def test_denials_wait_for_no_commit(strict: Callable[..., Bench]) -> None:
    """Nothing of theirs leaves."""

    async def commit(_: float) -> bool:
        raise AssertionError

    async def play() -> None:
        made = strict(commit)
        denial = await made.admit(Request("default", Protocol.HTTPS, Host("b.test"), 443, "GET", "/"))
        assert isinstance(denial, Denial)
        assert denial.reason is Reason.HOST_NOT_ALLOWED

    asyncio.run(play())


def _config(folder: Path, durability: Durability) -> ServerConfig:
    return ServerConfig(
        listen=("127.0.0.1", 0),
        state_dir=folder,
        audit=AuditConfig(folder / "audit.db", durability=durability),
        ca_dir=folder / "ca",
        upstream=UpstreamConfig(),
        resolve={},
        policies=(),
        limits=Limits(),
        secrets={},
    )


@pytest.mark.parametrize("durability", Durability)
def test_the_configuration_says_whether_requests_wait(
    bench: Callable[..., Bench], tmp_path: Path, durability: Durability
) -> None:
    """An audit that cannot say when a row is on the disk is refused, not used as it is."""
    made = bench("rules: []")
    config = _config(tmp_path, durability)
    writer = AuditWriter(tmp_path / "audit.db")
    gate = build_gate(config, writer, made.gate.generation, commit=writer.commit)
    assert (gate.recorder.commit is not None) is (durability is Durability.STRICT)
    if durability is Durability.STRICT:
        with pytest.raises(StartError):
            build_gate(config, made.ledger, made.gate.generation)
