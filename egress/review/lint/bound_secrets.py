"""Secrets that go further than they need: to every host below a wildcard, or by a rule that names plain HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from egress.policy import AnyTarget, HostTarget, Protocol, Scheme, Verdict
from egress.review.lint.findings import Code, Finding, of_rule
from egress.review.lint.wording import some

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from egress.config import SecretDefinition
    from egress.policy import Rule, ScopeRules, Target

_PLAIN: Final = frozenset({Protocol.HTTP, Protocol.WS})
_PLAIN_PORT: Final = 80


def find_secrets(
    scopes: Sequence[ScopeRules], secrets: Mapping[str, SecretDefinition], files: Sequence[str]
) -> Iterator[Finding]:
    """What there is to say of secrets. `files` are the policy's, for a secret that no rule sends to a wildcard."""
    wild = {name: hosts for name, secret in secrets.items() if (hosts := _wild(secret.hosts))}
    told: set[str] = set()
    for scope in scopes:
        for rule in scope.rules:
            names = _injected(rule)
            for name in names:
                if name in wild and _wild(rule.targets) and not _goes_elsewhere(rule):
                    told.add(name)
                    yield _to_wildcard(rule, name, wild[name])
            if names and _names_plain_http(rule):
                yield _over_plain_http(rule, names[0])
    for name in wild.keys() - told:
        message = f"the secret `{name}` may be sent to every host that {some(wild[name])} names"
        hint = "bind it to the hosts that need it"
        yield Finding(Code.SECRET_TO_WILDCARD, files[0] if files else "", None, message, hint, f"secrets.{name}")


def _injected(rule: Rule) -> list[str]:
    if rule.verdict is not Verdict.ALLOW:
        return []
    injected = (secret for injection in rule.inject for secret in injection.secrets)
    signed = () if rule.sign is None else (rule.sign.secret,)
    return list(dict.fromkeys((*injected, *(swap.secret for swap in rule.swap), *signed)))


def _goes_elsewhere(rule: Rule) -> bool:
    return rule.rewrite is not None and rule.rewrite.host is not None


def _to_wildcard(rule: Rule, name: str, hosts: Sequence[Target]) -> Finding:
    message = f"the secret `{name}` goes to every host that {some(_wild(rule.targets))} names"
    hint = f"name the hosts that need it, here and in its `hosts` ({some(hosts)})"
    return of_rule(Code.SECRET_TO_WILDCARD, rule, message, hint)


def _over_plain_http(rule: Rule, name: str) -> Finding:
    message = f"this rule names plain HTTP, over which the secret `{name}` is never sent"
    hint = "write `protocol: https`, or keep plain HTTP in a rule of its own"
    return of_rule(Code.SECRET_OVER_PLAIN_HTTP, rule, message, hint)


def _wild(targets: Sequence[Target]) -> list[Target]:
    return [
        target
        for target in targets
        if isinstance(target.what, AnyTarget) or (isinstance(target.what, HostTarget) and target.what.below)
    ]


def _names_plain_http(rule: Rule) -> bool:
    """Whether the rule says so itself: by default an allow serves port 80 too, and there goes without the secret."""
    if rule.rewrite is not None and rule.rewrite.scheme is Scheme.HTTPS:
        return False
    if rule.protocols is not None:
        return bool(rule.protocols & _PLAIN)
    if any(span.first <= _PLAIN_PORT <= span.last for span in rule.ports or ()):
        return True
    return any(target.port == _PLAIN_PORT for target in rule.targets)
