"""Exports a policy as the egress policy of Azure Container Apps sandboxes. Its shape: see `azure_import`.

1. order       rules go out in their order, one for each name and path; the first that matches decides there too
2. whole paths a path here ends where it ends, and is a prefix there: a `Deny` of what is below goes before it
3. headers     `inject` and `remove` become headers of a `Transform`; a secret goes only where the rule is
               within what it is bound to: hosts, methods and paths
4. inspection  always `Full`, the mode in which denials hold and what is not HTTP is refused
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from egress.config import StoreSource
from egress.config.bindings import Bound, bound
from egress.config.secret_sources import AzureIdentity, AzureSource
from egress.policy import SecretRef, TlsMode, Verdict
from egress.review.convert.azure_paths import to_azure
from egress.review.convert.loss import Converted, Effect
from egress.review.convert.outgoing import has_any, names, outgoing, patterns, unsaid
from egress.review.convert.overlap import overlap
from egress.review.rule_fields import conditions
from egress.review.yaml_text import text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from egress.config import LoadedPolicy, SecretDefinition
    from egress.config.secret_sources import SecretSource
    from egress.policy import Injection, Rule, Target
    from egress.review.convert.azure_paths import AzurePath
    from egress.review.convert.outgoing import Outgoing
    from egress.review.yaml_text import Plain

_SAID = frozenset({"methods", "paths", "inject", "remove"})
_KNOWN = frozenset({"ports", "methods", "paths", "protocols"})


def to_azure_policy(loaded: LoadedPolicy, *, keep_wider: bool = False) -> Converted:
    """The policy in Azure's form, and what of it could not be said."""
    out = outgoing(loaded, keep_wider=keep_wider, says_default=True)
    writer = _Writer(loaded, out)
    for rule in out.rules:
        if rule.verdict is Verdict.ALLOW:
            writer.allow(rule)
        else:
            writer.refuse(rule)
    writer.note_what_is_open()
    policy: dict[str, Plain] = {
        "defaultAction": "Allow" if out.allows_the_rest else "Deny",
        "trafficInspection": "Full",
        "rules": writer.rules,
    }
    return Converted(text(policy), tuple(out.losses.found))


@dataclass(slots=True)
class _Writer:
    loaded: LoadedPolicy
    out: Outgoing
    rules: list[Plain] = field(default_factory=list)
    names: set[str] = field(default_factory=set)

    def allow(self, rule: Rule) -> None:
        """One rule for each name and path of an `allow`, and the guards that keep a path whole."""
        losses = self.out.losses
        hosts = self.out.names_of(rule)
        if not hosts or not self.out.may_go(rule, unsaid(rule, also=_SAID)):
            return
        if rule.tls is TlsMode.TUNNEL:
            losses.of(rule, Effect.NARROWER, "`tls: tunnel` is for single rules only here; there all traffic is opened")
        paths, lost = to_azure(rule.paths)
        for pattern in lost:
            losses.of(rule, Effect.LEFT_OUT, f"the path {pattern} cannot be said there")
        if any(path.guard for path in paths) and self._is_followed(rule):
            losses.of(rule, Effect.NARROWER, "what is below its paths is refused, also where a later rule allows it")
        for target in hosts:
            self._note_wildcard(rule, target)
            headers = self._headers(rule, target)
            for path in paths:
                self._allow_path(rule, target, path, headers)

    def refuse(self, rule: Rule) -> None:
        """A `deny` or `ask`; what of its conditions cannot be said is refused whole."""
        losses, out = self.out.losses, self.out
        out.judge_addresses(rule)
        if rule.verdict is Verdict.ASK:
            losses.of(rule, Effect.NARROWER, "`ask` refuses there, and nobody can approve")
        every = has_any(rule)
        if not every and not names(rule):
            if out.is_needed(rule):
                out.lose(rule, "addresses and ranges cannot be named there")
            return
        unknown = conditions(rule) - _KNOWN
        paths, lost = to_azure(None if unknown else rule.paths)
        methods = None if unknown else rule.methods
        if (unknown or lost or _names_ports(rule)) and not out.is_needed(rule):
            return
        if unknown or lost or _names_ports(rule):
            losses.of(rule, Effect.NARROWER, "its conditions cannot be said there, so it refuses more")
        if lost:
            paths, _ = to_azure(None)
        self._note_prefixes(rule, paths)
        hosts: list[str | None] = [None]
        if not every:
            hosts = [host for target in names(rule) for host in patterns(target)]
        for host in hosts:
            for path in paths:
                self._add(rule, host, path.path, methods, {"type": "Deny"})

    def note_what_is_open(self) -> None:
        """What every rule there leaves open."""
        if any(_is_allow(rule) for rule in self.rules):
            message = (
                "no ports and protocols there: an allowed host is allowed on each port that the service lets through"
            )
            self.out.losses.add(Effect.OPEN, message)
        if any("valueRef" in str(rule) for rule in self.rules):
            message = "a header with a secret is set in cleartext requests too, here over verified TLS only"
            self.out.losses.add(Effect.OPEN, message)

    def _allow_path(self, rule: Rule, target: Target, path: AzurePath, headers: list[Plain]) -> None:
        hosts: list[str | None] = [*patterns(target)]
        for host in hosts or [None]:
            if path.guard is not None:
                self._add(rule, host, path.guard, rule.methods, {"type": "Deny"})
            action: dict[str, Plain] = {"type": "Transform", "headers": headers} if headers else {"type": "Allow"}
            self._add(rule, host, path.path, rule.methods, action)

    def _add(
        self, rule: Rule, host: str | None, path: str | None, methods: frozenset[str] | None, action: dict[str, Plain]
    ) -> None:
        match: dict[str, Plain] = {} if host is None else {"host": host}
        if path is not None:
            match["path"] = path
        if methods is not None:
            match["methods"] = sorted(methods)
        self.rules.append({"name": self._name(rule), "match": match, "action": action})

    def _name(self, rule: Rule) -> str:
        stem = rule.name or f"line {rule.line}"
        name, count = stem, 1
        while name in self.names:
            count += 1
            name = f"{stem} {count}"
        self.names.add(name)
        return name

    def _headers(self, rule: Rule, target: Target) -> list[Plain]:
        removed: list[Plain] = [{"operation": "Remove", "name": name} for name in rule.remove]
        return [*removed, *(self._header(rule, target, injection) for injection in rule.inject)]

    def _header(self, rule: Rule, target: Target, injection: Injection) -> Plain:
        value = _value(injection, self.loaded.secrets)
        unbound = [name for name in injection.secrets if not self._is_bound(name, rule, target)]
        if value is None or unbound:
            why = (
                f"the secret `{unbound[0]}` is not bound to all that the rule allows of it"
                if unbound
                else "a header takes one secret there"
            )
            message = f"{injection.header} is removed for {' and '.join(patterns(target))}: {why}"
            self.out.losses.of(rule, Effect.NARROWER, message)
            return {"operation": "Remove", "name": injection.header}
        for name in injection.secrets:
            self._note_store(name)
        return {"operation": "Set", "name": injection.header, **value}

    def _is_bound(self, name: str, rule: Rule, target: Target) -> bool:
        # INVARIANT secret-confinement: there the rule alone says which requests carry the secret.
        definition = self.loaded.secrets.get(name)
        return (
            definition is not None
            and bound(target, None, definition.hosts) is Bound.ALWAYS
            and _is_within(rule.methods, definition.methods)
            and _is_within(rule.paths, definition.paths)
        )

    def _note_store(self, name: str) -> None:
        if isinstance(self.loaded.secrets[name].source, StoreSource):
            message = f"what the store binds the secret `{name}` to besides is not read here, and holds nowhere there"
            self.out.losses.add(Effect.OPEN, message)

    def _note_prefixes(self, rule: Rule, paths: Iterable[AzurePath]) -> None:
        if any(path.guard for path in paths):
            message = "a path is a prefix there, so what is below its paths is refused as well"
            self.out.losses.of(rule, Effect.NARROWER, message)

    def _note_wildcard(self, rule: Rule, target: Target) -> None:
        found = patterns(target)
        if len(found) > 1:
            self.out.losses.of(rule, Effect.NOTE, f".{found[0]} became {' and '.join(found)}")

    def _is_followed(self, rule: Rule) -> bool:
        after = self.out.rules[next(i for i, found in enumerate(self.out.rules) if found is rule) + 1 :]
        return self.out.allows_the_rest or any(
            later.verdict is Verdict.ALLOW and overlap(rule, later) for later in after
        )


def _value(injection: Injection, secrets: Mapping[str, SecretDefinition]) -> dict[str, Plain] | None:
    """A header's value there; None where one reference cannot say it."""
    parts = injection.parts
    names = injection.secrets
    if injection.user is not None:
        return None
    if not names:
        return {"value": "".join(str(part) for part in parts)}
    if len(names) > 1 or any(isinstance(part, str) and "{" in part for part in parts):
        return None
    form = "".join("{value}" if isinstance(part, SecretRef) else part for part in parts)
    stated: dict[str, Plain] = {} if form == "{value}" else {"format": form}
    definition = secrets.get(names[0])
    resource = None if definition is None else _managed_resource(definition.source)
    if resource is not None:
        return {"valueRef": {"managedIdentityRef": {"resource": resource, **stated}}}
    return {"valueRef": {"secretRef": {"secretId": names[0], **stated}}}


def _managed_resource(source: SecretSource) -> str | None:
    """What a token of the machine's one managed identity is for: there an identity has no other name."""
    if not isinstance(source, AzureSource) or source.identity != AzureIdentity():
        return None
    return source.resource


def _is_within(stated: Collection[str] | None, binding: Collection[str] | None) -> bool:
    """Whether all that a rule states is in a secret's binding, by its words. None: any."""
    return binding is None or (stated is not None and set(stated) <= set(binding))


def _names_ports(rule: Rule) -> bool:
    return (
        rule.ports is not None or rule.protocols is not None or any(target.port is not None for target in rule.targets)
    )


def _is_allow(rule: Plain) -> bool:
    return "'type': 'Deny'" not in str(rule)
