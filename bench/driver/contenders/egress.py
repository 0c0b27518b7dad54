"""Ours, as a user starts it: `egress run`, one worker, audit on, a policy file. One contender for each lane."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import egress
from bench.driver.contenders import CREDENTIAL, Contender, Lane, Site
from bench.driver.machine import ALLOWED, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

# The load holds 10,000 connections from one address; by default no client may.
LIMITS: Final = "limits: {connections: 30000, connections_per_client: 30000}\n"
TUNNEL: Final = """version: 1
tls: tunnel
rules:
  - name: the origin
    allow: "{host}:{tls}"
    addresses: [127.0.0.0/8]
"""
INSPECT: Final = """version: 1
secrets:
  token: {{env: BENCH_TOKEN, hosts: ["{host}:{tls}"]}}
rules:
  - name: a path that is denied
    deny: "{host}:{tls}"
    paths: [/denied]
  - name: the origin
    allow: "{host}:{tls}"
    inject: {{Authorization: "Bearer ${{token}}"}}
    addresses: [127.0.0.0/8]
  - name: the origin without TLS
    allow: "{host}:{plain}"
    addresses: [127.0.0.0/8]
"""


def start(
    site: Site, name: str, policy: str, lanes: frozenset[Lane], *, flags: Sequence[str] = (), more: str = ""
) -> Contender:
    """`egress run` with that policy, more rules at the end of it, and more flags."""
    folder, port = site.place(name), free_port()
    text = policy.format(host=ALLOWED, plain=site.origin.plain_port, tls=site.origin.tls_port)
    (folder / "policy.yaml").write_text(text + more)
    (folder / "egress.yaml").write_text(LIMITS)
    command = [
        *(str(Path(sys.executable).parent / "egress"), "run", "--policy", str(folder / "policy.yaml")),
        *("--config", str(folder / "egress.yaml"), "--state-dir", str(folder / "state")),
        *("--listen", f"127.0.0.1:{port}", "--upstream-ca", str(site.origin.ca_file)),
        *("--resolve", f"{ALLOWED}:127.0.0.1", *flags),
    ]
    program = site.start(name, command, port, {"BENCH_TOKEN": CREDENTIAL})
    return Contender(name, egress.__version__, lanes, program, folder / "state" / "ca" / "ca.pem", ours=True)


def tunnel(site: Site) -> Contender:
    """Lane `tunnel`."""
    return start(site, "egress, tunnel lane", TUNNEL, frozenset({Lane.TUNNEL}))


def http(site: Site) -> Contender:
    """Lane `http`."""
    return start(site, "egress, http lane", INSPECT, frozenset({Lane.INSPECTED, Lane.PLAIN}))


def mitm(site: Site) -> Contender:
    """Lane `mitm`, for everything."""
    flags = ("--lane", "mitm", "--mitm", "warm")
    return start(site, "egress, mitm lane", INSPECT, frozenset({Lane.INSPECTED, Lane.PLAIN}), flags=flags)
