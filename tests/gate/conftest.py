"""A gate under a policy's text, with an audit in memory and whatever resolver a test wants."""

from __future__ import annotations

import sys
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from rig.ledger import Ledger
from workbench import Bench

from egress.config import PolicySource, load_policy
from egress.credentials import CredentialStore
from egress.gate.gate import Gate, GateLimits
from egress.gate.generation import Generation
from egress.gate.record import Recorder
from egress.gate.resolver import Resolver
from egress.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def bench(tmp_path: Path) -> Callable[..., Bench]:
    """Make a gate: the policy's text, pins as `name: address`, the environment of its secrets."""
    count = 0

    def generation(policy: str, env: dict[str, str]) -> Generation:
        nonlocal count
        count += 1
        path = tmp_path / f"policy{count}.yaml"
        path.write_text(f"version: 1\n{policy}")
        loaded = load_policy((PolicySource(Scope.SANDBOX, path),))
        return Generation(count, loaded.policy, CredentialStore(loaded.secrets, env=env))

    def make(policy: str, pins: dict[str, str] | None = None, env: dict[str, str] | None = None) -> Bench:
        ledger = Ledger()
        answers = {name: tuple(map(ip_address, text.split())) for name, text in (pins or {}).items()}
        gate = Gate(
            generation=generation(policy, env or {}),
            resolver=Resolver(pins=answers, servers=("127.0.0.1",), lifetime_seconds=0.2),
            recorder=Recorder(ledger, wait_seconds=0.05),
            limits=GateLimits(connect_seconds=1.0, judge_seconds=1.0),
        )
        return Bench(gate, ledger, lambda text: generation(text, env or {}))

    return make
