"""What a file's values become: plain ones, which can be sent to other processes as they are."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import Enum
from typing import TYPE_CHECKING

from egress.config import PolicySource, ServerOverrides, load_policy, load_server_config
from egress.policy import Scope

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = """\
version: 1
rules:
  - name: "quoted"
    allow: ["a.test", 'b.test']
    ports: [443, 8000-8010]
    paths: ["/x"]
    query: ["a", "b=c"]
    headers: ["Accept=text/*"]
    limits: {requests: "10/min", burst: 20, concurrent: 4, upload: 1GB/day}
    rewrite: {host: "c.test", port: 8443}
    annotate: {"team": "x"}
    mcp: {tools: ["a"], arguments: {"repo": "b"}}
    addresses: ["10.0.0.0/8"]
  - deny: [10.0.0.1, "c.test:80"]
"""
SERVER = """\
listen: 127.0.0.1:3128
workers: 2
limits: {drain_seconds: 3, connections: 100, connect_seconds: 1.5}
audit: {queue: 1000, flush_interval: 1}
sandboxes: {"one": {source: 10.0.0.1, labels: {"team": "data"}}}
"""
PLAIN = (str, int, float, bool, bytes, type(None))


def strangers(value: object, place: str = "") -> Iterator[str]:
    """Give the places of values that are of no plain type."""
    if is_dataclass(value):
        for field in fields(value):
            yield from strangers(getattr(value, field.name), f"{place}.{field.name}")
    elif isinstance(value, (tuple, list, frozenset, set)):
        for item in value:
            yield from strangers(item, f"{place}[]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from strangers(key, f"{place} key")
            yield from strangers(item, f"{place}[{key}]")
    elif isinstance(value, PLAIN) and type(value) not in PLAIN and not isinstance(value, Enum):
        yield f"{place}: {type(value).__name__}"


def test_a_policys_values_are_plain(tmp_path: Path) -> None:
    """Also those that were quoted, and numbers, which remember while they are read how they were written."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
    assert loaded.rules == 2
    assert list(strangers(loaded.policy.scopes)) == []


def test_the_servers_values_are_plain(tmp_path: Path) -> None:
    """They go to each process as well."""
    path = tmp_path / "egress.yaml"
    path.write_text(SERVER)
    assert list(strangers(load_server_config(path, ServerOverrides(), {"HOME": str(tmp_path)}))) == []
