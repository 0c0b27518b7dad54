"""A secret's binding: the hosts, methods and paths that its value may go to, and how two bindings narrow each other.

1. narrow    a request is covered by `narrowed(one, other)` if, and only if, both cover it: a policy can take away from
             what the owner of a secret allowed, never add
2. unknown   a binding that names methods or paths covers no request whose method or path is not known, or can be read
             in more than one way
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic_core import PydanticCustomError

from egress.config.bindings import DEFAULT_PORT, is_bound
from egress.config.fields import bound_host, method, path_pattern, wrong
from egress.config.sandbox_fields import MARK
from egress.config.wording import quoted
from egress.errors import ConfigError, Problem
from egress.policy import (
    AnyTarget,
    HostTarget,
    NetworkTarget,
    PathPattern,
    Refusal,
    Target,
    canonical_path,
    compile_path,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from egress.policy import Network, Request

_AT_MOST: Final = 100


@dataclass(frozen=True, slots=True)
class Binding:
    """Where a secret's value may go. No hosts: nowhere. `methods` None: any.

    Of each group of `paths` at least one pattern must match; no group: any path. One definition makes one group.
    """

    hosts: tuple[Target, ...]
    methods: frozenset[str] | None = None
    paths: tuple[tuple[PathPattern, ...], ...] = ()

    def covers(self, request: Request) -> bool:
        """Whether the value may go to this request's host, port, method and path."""
        return (
            is_bound(self.hosts, request.host, request.port)
            and (self.methods is None or request.method in self.methods)
            and (not self.paths or self._covers_path(request.path))
        )

    def _covers_path(self, raw: str | None) -> bool:
        path = None if raw is None else canonical_path(raw)
        if path is None or isinstance(path, Refusal):
            return False
        return all(any(pattern.matches(path) for pattern in group) for group in self.paths)


def narrowed(one: Binding, other: Binding) -> Binding:
    """The binding that covers what both cover, and nothing else."""
    if one.methods is None or other.methods is None:
        methods = other.methods if one.methods is None else one.methods
    else:
        methods = one.methods & other.methods
    return Binding(common_targets(one.hosts, other.hosts), methods, tuple(dict.fromkeys((*one.paths, *other.paths))))


def common_targets(some: Iterable[Target], others: Sequence[Target]) -> tuple[Target, ...]:
    """The targets that name what is named by one of `some` and by one of `others`."""
    found = (_common(one, other) for one in some for other in others)
    return tuple(dict.fromkeys(target for target in found if target is not None))


def _common(one: Target, other: Target) -> Target | None:
    port = _port(one)
    if port != _port(other):
        return None
    match one.what, other.what:
        case HostTarget() as mine, HostTarget() as theirs:
            what = _common_names(mine, theirs)
            return None if what is None else Target(what, port)
        case NetworkTarget(mine_network), NetworkTarget(their_network):
            network = _common_network(mine_network, their_network)
            return None if network is None else Target(NetworkTarget(network), port)
        case _:
            return None


def _port(target: Target) -> int:
    return DEFAULT_PORT if target.port is None else target.port


def _common_names(one: HostTarget, other: HostTarget) -> HostTarget | None:
    if one.name == other.name:
        exact, below = one.exact and other.exact, one.below and other.below
        return HostTarget(one.name, exact, below) if exact or below else None
    inner, outer = (one, other) if len(one.name) > len(other.name) else (other, one)
    # What `inner` names stands below `outer`'s name, or the two have nothing in common.
    return inner if outer.below and inner.name.endswith("." + outer.name) else None


def _common_network(one: Network, other: Network) -> Network | None:
    if one.version != other.version or not one.overlaps(other):
        return None
    return one if one.prefixlen >= other.prefixlen else other


def read_binding(hosts: Iterable[str], methods: Iterable[str] = (), paths: Iterable[str] = ()) -> Binding:
    """The binding that these words spell, as `--host`, `--method` and `--path` take them. Raises ConfigError."""
    problems: list[Problem] = []
    found = tuple(_each("--host", hosts, bound_host, problems))
    named = frozenset(_each("--method", methods, method, problems))
    patterns = tuple(_each("--path", paths, _pattern, problems))
    if not found and not problems:
        hint = "write `--host api.example.com`, the host that it may be sent to"
        problems.append(Problem("--host", None, "", "a secret is bound to one host at least", hint))
    if problems:
        raise ConfigError(problems)
    return Binding(tuple(dict.fromkeys(found)), named or None, (tuple(dict.fromkeys(patterns)),) if patterns else ())


def wide_hosts(binding: Binding) -> tuple[str, ...]:
    """The hosts of a binding that stand for more than one: whoever has one of those gets the value."""
    return tuple(
        target_text(target)
        for target in binding.hosts
        if (isinstance(target.what, HostTarget) and target.what.below)
        or (isinstance(target.what, NetworkTarget) and target.what.network.num_addresses > 1)
    )


def binding_text(binding: Binding) -> str:
    """The one spelling of a binding, for `binding_of`: the same for the same hosts, methods and paths in any order."""
    if len(binding.paths) > 1:
        raise ValueError("a binding that was narrowed has no spelling")
    words = {
        "hosts": sorted(target_text(target) for target in binding.hosts),
        "methods": sorted(binding.methods or ()),
        "paths": sorted(pattern.text for group in binding.paths for pattern in group),
    }
    return json.dumps(words, ensure_ascii=True, separators=(",", ":"), sort_keys=True)


def binding_of(text: str) -> Binding:
    """The binding that `binding_text` spelt. Raises ValueError, of which ConfigError's text is no part."""
    words = json.loads(text)
    try:
        return read_binding(words["hosts"], words["methods"], words["paths"])
    except (KeyError, TypeError, ConfigError):
        raise ValueError("no binding") from None


def target_text(target: Target) -> str:
    """A target as `--host` and a policy take it."""
    match target.what:
        case HostTarget(name, exact, below):
            text = (("." if exact else "*.") if below else "") + name
        case NetworkTarget(network):
            alone = network.prefixlen == network.max_prefixlen
            text = str(network.network_address if alone else network)
            text = f"[{text}]" if target.port is not None and network.version == 6 else text  # noqa: PLR2004 -- IPv6
        case AnyTarget():
            text = "**"
    return text if target.port is None else f"{text}:{target.port}"


def _each[Value](
    option: str, words: Iterable[str], read: Callable[[object], Value], problems: list[Problem]
) -> Iterable[Value]:
    for number, word in enumerate(words):
        try:
            if number >= _AT_MOST:
                raise wrong(f"more than {_AT_MOST} of them", "make a secret for each use")
            yield read(word)
        except PydanticCustomError as error:
            context = error.context or {}
            problems.append(Problem(option, None, "", str(context["message"]), str(context["hint"])))
            if number >= _AT_MOST:
                return


def _pattern(value: object) -> PathPattern:
    written = path_pattern(value)
    compiled = compile_path(written)
    if MARK in written or not isinstance(compiled, PathPattern):
        raise wrong(f"{quoted(written)} is a template", "write the paths out that the value may be sent to")
    return compiled
