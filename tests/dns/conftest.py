"""A resolver for sandboxes under a policy's text, with an upstream name server that notes each question."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "gate"))

from nameserver import NameServer
from resolving import Bench

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RECORDS = {
    ("api.example.com", "A"): (300, ["93.184.216.34"]),
    ("api.example.com", "AAAA"): (300, ["2606:2800:21f:cb07:6820:80da:af6b:8b2c"]),
    ("api.example.com", "TXT"): (300, ['"not for everybody"']),
    ("api.example.com", "HTTPS"): (300, ["1 . ipv4hint=93.184.216.34"]),
    ("txt.example.com", "A"): (20, ["93.184.216.35"]),
    ("txt.example.com", "TXT"): (20, ['"v=1"', '"two" "parts"']),
    ("txt.example.com", "MX"): (20, ["10 mail.example.com."]),
    ("big.example.com", "TXT"): (20, ['"' + "x" * 250 + f'{number}"' for number in range(20)]),
    ("huge.example.com", "TXT"): (20, ['"' + "x" * 250 + f'{number:03}"' for number in range(120)]),
    ("rebound.example.com", "A"): (1, ["10.0.0.1", "93.184.216.36", "169.254.169.254"]),
    ("inside.example.com", "A"): (1, ["10.0.0.1"]),
    ("four.example.com", "A"): (1, ["93.184.216.37"]),
    **{(f"host{number}.wild.example", "A"): (60, ["93.184.216.38"]) for number in range(40)},
}


@pytest.fixture
def upstream() -> Iterator[NameServer]:
    """The name server that the proxy asks."""
    with NameServer(dict(RECORDS), aliases={"alias.example.com": "txt.example.com"}) as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, upstream: NameServer) -> Callable[..., Bench]:
    """Make a resolver: the policy's rules, and what is to be different of its configuration."""

    def make(policy: str, **changed: object) -> Bench:
        return Bench(tmp_path, upstream, policy, changed)

    return make
