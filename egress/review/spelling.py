"""Spells the policy core's values as a policy file writes them: targets, ports, ranges, whole rules.

INVARIANT total: every field of a rule is spelt, also one that this module does not know by name; a condition that is
not shown is one that a reviewer takes to be absent. Secrets appear as the names in their templates, never as values.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, is_dataclass
from datetime import UTC, date
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, Any, Final

from egress.config import bytes_text, rate_text, signature_text, template_text
from egress.policy import (
    AnyTarget,
    HostTarget,
    Injection,
    NetworkTarget,
    PortRange,
    Protocol,
    Rewrite,
    Rule,
    SigV4,
    Swap,
    SwapPlace,
    Target,
    TlsMode,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from egress.policy import (
        GraphqlCondition,
        McpCondition,
        Network,
        RuleLimits,
        RuleRef,
        ScopeRules,
        SignatureText,
        Signing,
    )

type JsonObject = dict[str, object]

# Spelt as the rule's verb, its name and its origin.
_APART: Final = frozenset({"verdict", "targets", "name", "file", "line"})
_KEYS: Final = {"protocols": "protocol"}


def target_text(target: Target) -> str:
    """A target as `allow`, `deny` and `ask` take it."""
    match target.what:
        case AnyTarget():
            text = "**"
        case HostTarget(name, exact, below):
            text = (("." if exact else "*.") if below else "") + name
        case NetworkTarget(network):
            text = network_text(network)
            # A port after an IPv6 address needs the brackets that tell the colons apart.
            text = f"[{text}]" if target.port is not None and ":" in text else text
    return text if target.port is None else f"{text}:{target.port}"


def network_text(network: Network) -> str:
    """A range in CIDR notation; one address alone without its prefix length."""
    return str(network.network_address if network.prefixlen == network.max_prefixlen else network)


def ports_text(ports: PortRange) -> int | str:
    """One port as a number, a range as `8000-8010`."""
    return ports.first if ports.first == ports.last else f"{ports.first}-{ports.last}"


def place_text(rule: RuleRef | Rule) -> str:
    """`file:line` of a rule."""
    return rule.file if rule.line is None else f"{rule.file}:{rule.line}"


def rule_text(rule: RuleRef) -> str:
    """A rule's name, place and scope, for people."""
    name = f"{rule.name}, " if rule.name else ""
    return f"{name}{place_text(rule)}, scope {rule.scope.value}"


def rule_values(rule: Rule) -> dict[str, object]:
    """Everything that a rule says, under the file's own keys, and nothing that it does not say.

    `file` and `line`, its origin, come first.
    """
    values: dict[str, object] = {"file": rule.file, "line": rule.line}
    if rule.name is not None:
        values["name"] = rule.name
    values[rule.verdict.value] = [target_text(target) for target in rule.targets]
    return values | stated(rule, _APART)


def scope_values(scope: ScopeRules) -> dict[str, object]:
    """What a scope states besides its rules."""
    return {"scope": scope.scope.value} | stated(scope, frozenset({"scope", "rules"}))


def stated(value: Rule | ScopeRules, apart: frozenset[str]) -> dict[str, object]:
    """The fields that differ from "not stated", spelt."""
    found: dict[str, object] = {}
    for field in fields(value):
        said = getattr(value, field.name)
        if field.name in apart or (field.default is not MISSING and said == field.default):
            continue
        spell = _SPELT.get(field.name, plain)
        found[_KEYS.get(field.name, field.name)] = spell(said)
    return found


def plain(value: Any) -> object:  # noqa: C901, PLR0911 -- one return a kind of value
    """Any value of the core as text, numbers, lists and mappings. Total."""
    match value:
        case TlsMode():
            return value.word
        case Enum():
            return value.value
        case None | bool() | int() | float() | str():
            return value
        case date():
            return value.isoformat()
        case IPv4Network() | IPv6Network():
            return network_text(value)
        case PortRange():
            return ports_text(value)
        case Target():
            return target_text(value)
        case set() | frozenset():
            return sorted((plain(item) for item in value), key=str)
        case list() | tuple():
            return _named_pairs(value) or [plain(item) for item in value]
        case dict():
            return {str(key): plain(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    return str(value)


def _named_pairs(value: list[Any] | tuple[Any, ...]) -> dict[str, object] | None:
    """Pairs of a name and a value as the mapping that a file writes, if no name stands twice."""
    if not all(isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str) for item in value):  # noqa: PLR2004
        return None
    found = {name: plain(item) for name, item in value}
    return found if len(found) == len(value) else None


def _protocols(value: frozenset[Protocol] | None) -> object:
    return None if value is None else [protocol.value for protocol in Protocol if protocol in value]


def _inject(value: tuple[Injection, ...]) -> object:
    return {injection.header: _header(injection) for injection in value}


def _header(injection: Injection) -> object:
    text = template_text(injection.parts)
    return text if injection.user is None else {"basic": {"user": template_text(injection.user), "password": text}}


def swap_values(value: tuple[Swap, ...]) -> list[object]:
    """As a policy file writes them, without what is not stated."""
    return [_swap(swap) for swap in value]


def _swap(swap: Swap) -> object:
    said: dict[str, object] = {"secret": swap.secret}
    if swap.headers:
        said["headers"] = list(swap.headers)
    if swap.places:
        said["in"] = [place.value for place in SwapPlace if place in swap.places]
    if swap.required:
        said["require"] = True
    return said


def _named_values(value: tuple[tuple[str, str | None], ...]) -> object:
    """`name`, or `name=pattern`, as `query` and `headers` take them."""
    return [name if pattern is None else f"{name}={pattern}" for name, pattern in value]


def _moment(value: datetime) -> object:
    """RFC 3339 in UTC."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _rewrite(value: Rewrite) -> object:
    found: dict[str, object] = {}
    if value.scheme is not None:
        found["scheme"] = value.scheme.value
    if value.host is not None:
        found["host"] = value.host.text
    if value.port is not None:
        found["port"] = value.port
    if value.path is not None:
        old, new = value.path.old or "/", value.path.new or "/"
        found["path_prefix"] = new if old == "/" else {"from": old, "to": new}
    return found


def signing_values(signing: Signing | None) -> dict[str, object] | None:
    """A signature as a policy file writes it, without what it does not state."""
    if signing is None:
        return None
    if isinstance(signing, SigV4):
        stated_ones = {"sigv4": signing.secret, "region": signing.region, "service": signing.service}
        return {key: value for key, value in stated_ones.items() if value is not None}
    found: dict[str, object] = {"secret": signing.secret, "message": signature_text(signing.message)}
    found["header"] = signing.header
    for each in fields(signing):
        said = getattr(signing, each.name)
        if each.name not in found and said != each.default:
            found[each.name] = _SIGNATURE_TEXTS.get(each.name, plain)(said)
    return {"hmac": found}


def signing_text(signing: Signing) -> str:
    """By which secret and scheme, for people: `aws (sigv4, eu-west-1/s3)`."""
    if isinstance(signing, SigV4):
        region, service = signing.region or "the client's region", signing.service or "the client's service"
        return f"{signing.secret} (sigv4, {region}/{service})"
    return f"{signing.secret} (hmac {signing.algorithm.value}, {signing.header})"


def _headers_texts(value: tuple[tuple[str, SignatureText], ...]) -> object:
    return {name: signature_text(text) for name, text in value}


def limits_values(limits: RuleLimits | None) -> dict[str, object] | None:
    """Limits as a policy file writes them, without those that are not stated."""
    if limits is None:
        return None
    spelt = {
        "requests": limits.requests and rate_text(limits.requests),
        "burst": limits.burst,
        "concurrent": limits.concurrent,
        "upload": limits.upload and bytes_text(limits.upload),
        "download": limits.download and bytes_text(limits.download),
    }
    return {name: text for name, text in spelt.items() if text is not None}


def _body(value: McpCondition | GraphqlCondition | None) -> object:
    """A condition on the body as the mapping that a file writes: what it does not state is left out."""
    if value is None:
        return None
    said = {field.name: getattr(value, field.name) for field in fields(value)}
    return {
        name: dict(each) if name == "arguments" else list(each) for name, each in said.items() if each not in (None, ())
    }


_SIGNATURE_TEXTS: Final[dict[str, Callable[[Any], object]]] = {"value": signature_text, "also": _headers_texts}


def _servers(servers: tuple[tuple[str, int], ...]) -> list[str]:
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in servers]


_SPELT: Final[dict[str, Callable[[Any], object]]] = {
    "protocols": _protocols,
    "inject": _inject,
    "swap": swap_values,
    "query": _named_values,
    "headers": _named_values,
    "until": _moment,
    "rewrite": _rewrite,
    "limits": limits_values,
    "resolvers": _servers,
    "sign": signing_values,
    "mcp": _body,
    "graphql": _body,
}
