"""Imports the egress policy of Azure Container Apps sandboxes, from YAML or JSON.

The shape follows these documents: "Egress policies and network controls for Azure Container Apps sandboxes (early
access)", with the sample policies of the repository "Azure Container Apps Sandboxes" that `aca sandbox egress apply`
takes; and, for hosts, paths, header operations and references, the reference of the classes `RaiEgressRuleMatch`,
`RaiEgressHeaderOperation` and `RaiEgressManagedIdentityRef` of the Azure SDK, the same policy in another service:

    defaultAction: Deny | Allow
    trafficInspection: Full | Partial | None | Legacy
    hostRules: [{pattern: "*.example.com", action: Allow | Deny}]
    rules:
      - name: ...
        match: {host: ..., path: ..., methods: [...]}
        action: {type: Allow | Deny | Transform | Rewrite, headers: [...], scheme: ..., host: ..., path: ...}

1. rules     in order; the first that matches decides, as here
2. hostRules after the rules, as the document says; a sample says before them. So their denials stand on both sides.
3. Rewrite   to another scheme or host is a `rewrite`, which goes only where a rule allows the new place too; one that
             changes paths becomes a `deny` in its place, for the request must not reach the host it was sent to
4. unknown   a key of a rule that is not known here makes an Allow a `deny` and a Deny one of the whole host
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from egress.policy import Refusal, parse_host
from egress.review.convert.azure_headers import Headers, UnsaidError
from egress.review.convert.azure_paths import from_azure
from egress.review.convert.incoming import allowed_host, denied_host
from egress.review.convert.loss import Converted, Effect, Losses
from egress.review.convert.policy_text import ImportedPolicy, ImportedRule
from egress.review.convert.source import read_source

if TYPE_CHECKING:
    from egress.review.convert.source import Source
    from egress.review.yaml_text import Plain

_TLS: Final = {"Full": "inspect", "Legacy": "inspect", "Partial": "auto", "None": "inspect"}
_NEVER: Final = frozenset({"CONNECT", "TRACE"})


def from_azure_policy(text: str, file: str) -> Converted:
    """The policy file for an egress policy, alone or under `egressPolicy` of a sandbox. Raises ConfigError."""
    source = read_source(text, file)
    for key in ("properties", "egressPolicy"):
        source = source.mapping(key) or source
    losses = Losses(file)
    for key in source.unknown("defaultAction", "trafficInspection", "hostRules", "rules"):
        losses.add(Effect.NOTE, f"`{key}` is not part of an egress policy and is passed over", source.line(key))
    reader = _Reader(ImportedPolicy("Imported from an egress policy of Azure Container Apps sandboxes."), losses)
    default = source.word("defaultAction", "Allow", "Deny")
    reader.policy.default = "allow" if default == "Allow" else "deny"
    reader.inspection(source)
    reader.host_denials_first(source)
    for rule in source.mappings("rules"):
        reader.rule(rule)
    for rule in source.mappings("hostRules"):
        reader.host_rule(rule)
    if any("allow" in rule.values for rule in reader.policy.rules):
        losses.add(Effect.NOTE, "no ports are named there; an `allow` here means 443 and 80")
    return Converted(reader.policy.text(), tuple(losses.found))


@dataclass(slots=True)
class _Reader:
    policy: ImportedPolicy
    losses: Losses
    names: set[str] = field(default_factory=set)

    def inspection(self, source: Source) -> None:
        """`tls` for the mode; in `inspect` and `auto`, what is not HTTP is refused."""
        mode = source.word("trafficInspection", "Full", "Partial", "None", "Legacy")
        if mode is None:
            return
        self.policy.tls = _TLS[mode]
        line = source.line("trafficInspection")
        if mode == "None":
            self.losses.add(Effect.NARROWER, "`None` applies no rules there; here they hold", line)
        elif mode != "Full":
            self.losses.add(Effect.NARROWER, f"`{mode}` lets pass what is not HTTP; here it is refused", line)

    def host_denials_first(self, source: Source) -> None:
        """The denials of `hostRules` that no allow of theirs stands before, if there are `rules` as well."""
        if not source.mappings("rules"):
            return
        for rule in source.mappings("hostRules"):
            if rule.word("action", "Allow", "Deny") != "Deny":
                return
            self.host_rule(rule)

    def host_rule(self, source: Source) -> None:
        """One of `hostRules`."""
        host = source.text("pattern") or ""
        if source.word("action", "Allow", "Deny") == "Allow" and not source.unknown("pattern", "action"):
            target = allowed_host(host, source.line(), self.losses)
            if target is not None:
                self._add({"allow": target}, source)
        else:
            self._add({"deny": denied_host(host, source.line(), self.losses)}, source)

    def rule(self, source: Source) -> None:
        """One of `rules`."""
        action = source.mapping("action")
        if action is None:
            raise source.wrong("a rule needs an `action`")
        kind = action.word("type", "Allow", "Deny", "Transform", "Rewrite")
        if kind is None:
            raise action.wrong("an action needs a `type`")
        if kind == "Deny":
            self._deny(source)
            return
        try:
            self._allow(source, action, kind)
        except UnsaidError as unsaid:
            message = f"{unsaid} cannot be said here, so the rule became a `deny`"
            self.losses.add(Effect.LEFT_OUT, message, source.line())
            self._deny(source)

    def _allow(self, source: Source, action: Source, kind: str) -> None:
        rewrite = _rewrite(action) if kind == "Rewrite" else {}
        match = source.mapping("match")
        unknown = [*source.unknown("name", "description", "ruleType", "match", "action")]
        unknown += [] if match is None else match.unknown("host", "path", "methods")
        unknown += action.unknown("type", *(("scheme", "host") if rewrite else ("headers",)))
        if unknown:
            raise UnsaidError(f"`{unknown[0]}`")
        line = source.line("match") if match is not None else source.line()
        host = "*" if match is None else match.text("host") or "*"
        target = allowed_host(host, line, self.losses)
        if target is None:
            return
        values: dict[str, Plain] = {"allow": target}
        if match is not None:
            values |= self._allowed_conditions(match)
        headers = Headers(self.policy, self.losses, [target])
        entries = action.mappings("headers") if kind == "Transform" else []
        if entries and target == "**":
            raise UnsaidError("a header for every host")
        for header in entries:
            headers.read(header)
        values |= {"inject": headers.inject} if headers.inject else {}
        removed = [name for name in headers.remove if name not in headers.inject]
        values |= {"remove": removed} if removed else {}
        if rewrite:
            values |= {"rewrite": rewrite}
            message = (
                "what is rewritten goes only where a rule allows the new place, so one for it may have to be added"
            )
            self.losses.add(Effect.NARROWER, message, action.line())
        self._add(values, source)

    def _allowed_conditions(self, match: Source) -> dict[str, Plain]:
        values: dict[str, Plain] = {}
        methods = [method.upper() for method, _ in match.texts("methods")]
        kept = [method for method in dict.fromkeys(methods) if method not in _NEVER]
        if len(kept) < len(set(methods)):
            self.losses.add(
                Effect.LEFT_OUT, "TRACE and CONNECT are never allowed by a rule here", match.line("methods")
            )
            if not kept:
                raise UnsaidError("a rule for these methods alone")
        if kept:
            values["methods"] = kept
        path = match.text("path")
        patterns = () if path is None else from_azure(path)
        if patterns is None:
            raise UnsaidError("its path")
        if patterns:
            values["paths"] = list(patterns)
        return values

    def _deny(self, source: Source) -> None:
        match = source.mapping("match")
        host = "*" if match is None else match.text("host") or "*"
        values: dict[str, Plain] = {"deny": denied_host(host, source.line(), self.losses)}
        if match is not None:
            values |= self._denied_conditions(match)
        self._add(values, source)

    def _denied_conditions(self, match: Source) -> dict[str, Plain]:
        methods = list(dict.fromkeys(method.upper() for method, _ in match.texts("methods")))
        path = match.text("path")
        patterns = () if path is None else from_azure(path)
        if patterns is None or _NEVER & set(methods) or match.unknown("host", "path", "methods"):
            message = "a condition of this denial cannot be said here, so the whole host is denied"
            self.losses.add(Effect.NARROWER, message, match.line())
            return {}
        values: dict[str, Plain] = {"methods": [*methods]} if methods else {}
        return values | ({"paths": [*patterns]} if patterns else {})

    def _add(self, values: dict[str, Plain], source: Source) -> None:
        name = source.text("name") if "name" in source.data else None
        if name and name.isprintable() and name not in self.names and 0 < len(name.strip()) <= 100:  # noqa: PLR2004
            self.names.add(name)
            values = {"name": name, **values}
        self.policy.rules.append(ImportedRule(values))


def _rewrite(action: Source) -> dict[str, Plain]:
    """Where a Rewrite sends requests. Raises UnsaidError for what no `rewrite` can say."""
    scheme, host = action.text("scheme"), action.text("host")
    if action.unknown("type", "scheme", "host") or not (scheme or host) or scheme not in {None, "http", "https"}:
        raise UnsaidError("this `Rewrite`")
    if host is not None and isinstance(parse_host(host), Refusal):
        raise UnsaidError("the host of this `Rewrite`")
    said: dict[str, Plain] = {"scheme": scheme} if scheme else {}
    return said | ({"host": host} if host else {})
