"""Fuzz targets for what people write: targets, path patterns, lists of hosts and policy files.

What must hold of any text: it is read or refused, never anything else; and what is read allows nothing that the text,
read by itself (`reference`), does not name.
"""

from __future__ import annotations

import atexit
import re
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fuzz.mutation import mutate
from fuzz.policy_texts import HOSTS, PIECES, POLICIES, TARGETS, WORDS
from fuzz.reference import names, path_matches
from ruamel.yaml import YAML

from egress.config import PolicySource, load_policy
from egress.config.host_lists import parse_host_list
from egress.errors import ConfigError
from egress.policy import (
    Certainty,
    Host,
    HostTarget,
    NetworkTarget,
    Protocol,
    Request,
    Scope,
    Target,
    TargetError,
    Verdict,
    canonical_path,
    parse_host,
    parse_target,
    target_covers,
)
from egress.policy.paths import PatternError, compile_path

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from random import Random

_PORTS = (443, 80, 8443, 1)
_QUOTED = re.compile(r"`.*`|U\+[0-9A-F]*|[0-9]+|0x..")


def hosts_near(targets: Iterable[Target]) -> list[Host]:
    """Destinations that targets name, that they nearly name, and some of no target."""
    found = set(HOSTS)
    for target in targets:
        match target.what:
            case HostTarget(name):
                found |= {name, f"x.{name}", f"y{name}", name.partition(".")[2] or name, f"{name}.test"}
            case NetworkTarget(network):
                first, last = int(network.network_address), int(network.broadcast_address)
                kind = type(network.network_address)
                found |= {
                    str(kind(at)) for at in (first, last, first - 1, last + 1) if 0 <= at < 1 << network.max_prefixlen
                }
            case _:
                pass
    hosts = map(parse_host, sorted(found))
    return [host for host in hosts if isinstance(host, Host)]


def _check_target(text: str, target: Target, verdict: Verdict) -> None:
    for host in hosts_near([target]):
        for port in _PORTS:
            mine = target_covers(target, host, port) or (
                verdict is not Verdict.ALLOW
                and text.startswith("**")
                and host.address is not None
                and target.port in {None, port}
            )
            theirs = names(text, host.text, port, allows=verdict is Verdict.ALLOW)
            assert mine == theirs, f"{verdict} {host} {port}: read as {mine}, written as {theirs}"


@dataclass(frozen=True, slots=True)
class Targets:
    """What stands after `allow`, `deny` and `ask`."""

    name: str = "targets"
    seeds: tuple[bytes, ...] = tuple(text.encode() for text in TARGETS)

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant."""
        return mutate(chance, pool, PIECES)

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        del chance
        text = data.decode("utf-8", "replace")
        kind = ""
        for verdict in Verdict:
            parsed = parse_target(text, verdict=verdict)
            if isinstance(parsed, TargetError):
                kind = f"refused: {_without(parsed.message, text)}"
                continue
            _check_target(text, parsed, verdict)
            what = type(parsed.what).__name__
            kind = f"target: {what} {parsed.port is not None} {text.isascii()} {text[:1] in '*.[' and text[:1]}"
        return kind


@dataclass(frozen=True, slots=True)
class Paths:
    """Path patterns, and paths as requests send them: a line each."""

    name: str = "path-patterns"
    seeds: tuple[bytes, ...] = (
        b"/a/b\n/a/b",
        b"/**\n/a/",
        b"/a/**\n/a",
        b"/a/*/c\n/a/b/c",
        b"/**/x/**\n/a/x/y",
        b"/*\n/%41",
        b"/a%20b\n/a b",
        b"/\n",
        "/b\xfc\n/b%C3%BC".encode(),
    )

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant."""
        return mutate(chance, pool, PIECES)

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        del chance
        text, _, path = data.decode("utf-8", "replace").partition("\n")
        compiled = compile_path(text)
        canonical = canonical_path(path)
        if isinstance(compiled, PatternError):
            return f"refused: {_without(compiled.message, text)}"
        if not isinstance(canonical, str):
            return f"path: {canonical.detail[:40]}"
        segments = ("**" if part is ... else part or ("*" if part is None else "") for part in compiled.segments)
        decoded = "/" + "/".join(segments)
        matches = compiled.matches(canonical)
        assert matches == path_matches(decoded, canonical), f"matches: {matches}"
        if "%" not in text and text.isascii():
            assert decoded == text, "a pattern is another than was written"
        return f"pattern: {matches} {min(decoded.count('*'), 3)} {min(len(compiled.segments), 4)} {decoded == text}"


@dataclass(frozen=True, slots=True)
class Lists:
    """Files of one target a line."""

    name: str = "host-lists"
    seeds: tuple[bytes, ...] = ("\n".join(TARGETS).encode(), b"a.example.com # x\r\n\n  b.example.com\t\n#c\n", b"")

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant."""
        return mutate(chance, pool, PIECES)

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        text = data.decode("utf-8", "replace")
        verdict = chance.choice(tuple(Verdict))
        read = parse_host_list(text, "list.txt", verdict)
        lines = text.split("\n")
        for number, target in chance.sample(read.targets, min(len(read.targets), 8)):
            written = lines[number - 1].partition("#")[0].strip(" \t\r")
            _check_target(written, target, verdict)
        filled = [line for line in lines if line.partition("#")[0].strip(" \t\r")]
        assert len(read.targets) + len(read.problems) == len(filled) or len(read.problems) > 50, "a line is lost"
        assert all(str(problem).isprintable() for problem in read.problems)
        kinds = {type(target.what).__name__ for _, target in read.targets}
        said = {problem.message.rpartition("`")[2][:30] for problem in read.problems[:1]}
        return f"list: {sorted(kinds)} {sorted(said)} {len(read.warnings)}"


@dataclass(frozen=True, slots=True)
class Policies:
    """Whole policy files."""

    name: str = "policies"
    seeds: tuple[bytes, ...] = POLICIES

    def generate(self, chance: Random, pool: Sequence[bytes]) -> bytes:
        """A mutant."""
        return mutate(chance, pool, PIECES if chance.random() < 0.3 else WORDS)

    def check(self, data: bytes, chance: Random) -> str:
        """Hold one input to everything."""
        del chance
        path = _folder() / "policy.yaml"
        path.write_bytes(data)
        try:
            loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
        except ConfigError as error:
            return _refused(error)
        written = _rules_in(data.decode())
        rules = [rule for scope in loaded.policy.scopes for rule in scope.rules]
        if written is None or loaded.includes:
            return f"policy: {len(rules)} unread"
        told = loaded.policy.scopes[0]
        if told.default is not Verdict.ALLOW and told.mode.value == "enforce":
            for host in hosts_near(target for rule in rules for target in rule.targets):
                request = Request("fuzz", Protocol.HTTPS, host, 443)
                if loaded.policy.decide_name(request).certainty is not Certainty.NO:
                    texts = [text for verb, text in written if verb == "allow"]
                    assert any(names(text, host.text, 443, allows=True) for text in texts), f"{host} is not written"
        verdicts = sorted({rule.verdict.value for rule in rules})
        return f"policy: {verdicts} {min(len(rules), 3)} {len(loaded.warnings) > 0} {b'<<' in data}"


@cache
def _folder() -> Path:
    folder = tempfile.mkdtemp(prefix="egress-fuzz-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _refused(error: ConfigError) -> str:
    assert error.problems, "refused without a reason"
    assert all(str(problem).isprintable() for problem in error.problems), "a terminal could act on it"
    return f"refused: {_QUOTED.sub('', error.problems[0].message)[:50]} {min(len(error.problems), 2)}"


def _without(message: str, text: str) -> str:
    """A message without the text that it is about."""
    return _QUOTED.sub("", message.replace(text, ""))[:60]


def _rules_in(text: str) -> list[tuple[str, str]] | None:
    """The verbs and targets of a policy's text, as another reader has them; None where it refuses the text."""
    yaml = YAML(typ="safe", pure=True)
    try:
        data: Any = yaml.load(text)
        found = []
        for rule in data.get("rules") or []:
            for verb in ("allow", "deny", "ask"):
                named = rule.get(verb)
                found += [
                    (verb, str(one)) for one in (named if isinstance(named, list) else [named]) if one is not None
                ]
    except Exception:  # noqa: BLE001 -- whatever it has against the text
        return None
    return found
