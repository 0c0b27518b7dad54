"""Exports a policy as the network settings of the sandbox runtime and of Claude Code. Their shape: `settings_import`.

1. lists     there are two lists of hosts, and what is denied wins wherever it stands
2. allow     an `allow` with conditions, or one that changes headers, is left out
3. deny      a `deny` with conditions becomes one of the whole host, where a later `allow` needs it
4. order     an `allow` before the `deny` of the same host holds here and not there
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.policy import Verdict
from egress.review.convert.loss import Converted, Effect
from egress.review.convert.outgoing import has_any, names, outgoing, patterns, unsaid
from egress.review.convert.overlap import overlap
from egress.review.rule_fields import conditions

if TYPE_CHECKING:
    from egress.config import LoadedPolicy
    from egress.policy import Rule
    from egress.review.convert.outgoing import Outgoing


def to_sandbox_runtime(loaded: LoadedPolicy, *, keep_wider: bool = False) -> Converted:
    """The settings of the sandbox runtime for a policy, and what of it could not be said."""
    lists = _lists(loaded, keep_wider=keep_wider)
    settings = {"network": {"allowedDomains": lists.allowed, "deniedDomains": lists.denied}}
    return Converted(_json(settings), tuple(lists.out.losses.found))


def to_claude_code(loaded: LoadedPolicy, *, keep_wider: bool = False) -> Converted:
    """The settings of Claude Code for a policy, and what of it could not be said."""
    lists = _lists(loaded, keep_wider=keep_wider)
    message = "what is not listed is asked of the user there, unless these are managed settings"
    lists.out.losses.add(Effect.OPEN, message)
    settings = {
        "sandbox": {
            "enabled": True,
            "network": {
                "allowManagedDomainsOnly": True,
                "allowedDomains": lists.allowed,
                "deniedDomains": lists.denied,
            },
        },
        "permissions": {
            # A pattern with a star is not known to every version, and an unknown permission must not look like one.
            "allow": [f"WebFetch(domain:{host})" for host in lists.allowed if "*" not in host],
            "deny": [f"WebFetch(domain:{host})" for host in lists.denied],
        },
    }
    return Converted(_json(settings), tuple(lists.out.losses.found))


@dataclass(slots=True)
class _Lists:
    out: Outgoing
    allowed: list[str] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)

    def allow(self, rule: Rule) -> None:
        hosts = [target for target in self.out.names_of(rule) if not has_any(rule)]
        if not hosts or not self.out.may_go(rule, unsaid(rule)):
            return
        for host in [host for target in hosts for host in patterns(target)]:
            if "." not in host and host != "localhost":
                self.out.losses.of(rule, Effect.LEFT_OUT, f"{host}: a domain has a dot there")
            elif host not in self.allowed:
                self.allowed.append(host)
        for target in hosts:
            if len(found := patterns(target)) > 1:
                self.out.losses.of(rule, Effect.NOTE, f".{found[0]} became {' and '.join(found)}")

    def refuse(self, rule: Rule) -> None:
        out = self.out
        out.judge_addresses(rule)
        if has_any(rule):
            out.lose(rule, "`**` cannot be said there")
            return
        named = [host for target in names(rule) for host in patterns(target)]
        hosts = [host for host in named if "." in host]
        if len(hosts) < len(named):
            out.lose(rule, "a domain has a dot there")
        conditional = bool(conditions(rule)) or any(target.port is not None for target in rule.targets)
        if not hosts or (conditional and not out.is_needed(rule)):
            return
        if conditional:
            out.losses.of(rule, Effect.NARROWER, "its conditions cannot be said there, so its hosts are refused whole")
        if rule.verdict is Verdict.ASK:
            out.losses.of(rule, Effect.NARROWER, "`ask` refuses there, and nobody can approve")
        self.denied += [host for host in hosts if host not in self.denied]
        self._note_order(rule)

    def _note_order(self, rule: Rule) -> None:
        for before in self.out.rules:
            if before is rule:
                return
            if before.verdict is Verdict.ALLOW and overlap(before, rule):
                message = f"it wins there over the `allow` on line {before.line}, which comes before it here"
                self.out.losses.of(rule, Effect.NARROWER, message)


def _lists(loaded: LoadedPolicy, *, keep_wider: bool) -> _Lists:
    out = outgoing(loaded, keep_wider=keep_wider)
    lists = _Lists(out)
    for rule in out.rules:
        if rule.verdict is Verdict.ALLOW:
            lists.allow(rule)
        else:
            lists.refuse(rule)
    if lists.allowed:
        out.losses.add(Effect.OPEN, "an allowed domain is reached there on every port and by any protocol")
    return lists


def _json(value: object) -> str:
    return f"{json.dumps(value, indent=2)}\n"
