"""What a refused CONNECT is told: of the three things that may come inside, the one that was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import PolicySource, load_policy
from egress.gate.connecting import decide_connect
from egress.policy import Host, Protocol, Request, Scope

if TYPE_CHECKING:
    from pathlib import Path

HOST = Host("api.example.com")
ALLOW = "rules: [{allow: api.example.com}]"
# the file of the scope above, that of the scope below, why it is refused, and by whose rule
REFUSED = [
    (ALLOW, "default: deny", "host-not-allowed", None),
    (f"default: deny\n{ALLOW}", "default: deny", "host-not-allowed", None),
    (ALLOW, "default: deny\nrules: [{allow: other.example}]", "host-not-allowed", None),
    (ALLOW, "default: deny\nrules: [{allow: api.example.com, ports: [8443]}]", "port-not-allowed", "below.yaml"),
    (ALLOW, "rules: [{ask: api.example.com}]", "approval-required", "below.yaml"),
    ("default: deny", "default: deny", "host-not-allowed", None),
    ("rules: [{deny: api.example.com}]", "default: deny", "rule-deny", "above.yaml"),
    ("rules: [{allow: 'api.example.com:5432', protocol: tcp}]", "mode: enforce", "port-not-allowed", "above.yaml"),
]


@pytest.mark.parametrize(("above", "below", "reason", "file"), REFUSED)
def test_a_refused_connect_is_told_by_what_keeps_it(
    above: str, below: str, reason: str, file: str | None, tmp_path: Path
) -> None:
    """Where one scope allows HTTPS and another does not, that one's word is it, and not that of raw TCP."""
    sources = []
    for scope, name, text in ((Scope.ORG, "above.yaml", above), (Scope.SANDBOX, "below.yaml", below)):
        (tmp_path / name).write_text(f"version: 1\n{text}\n")
        sources.append(PolicySource(scope, tmp_path / name))
    decided = decide_connect(load_policy(sources).policy, Request("default", Protocol.HTTPS, HOST, 443))
    refused = decided.denied
    assert refused is not None
    rule = None if refused.decision is None else refused.decision.rule
    assert (refused.reason, None if rule is None else rule.file.rpartition("/")[2]) == (reason, file)
