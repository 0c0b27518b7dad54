"""Turns checked rules into the policy core's, and finds what no single value shows.

That is: conditions that cannot hold together, headers that could never be sent, permissions wider than they look.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from egress.config.bindings import Bound, bound
from egress.config.carriage import Carriage, limits_of
from egress.config.credential_model import injection
from egress.config.host_lists import read_host_list
from egress.config.policy_model import HostFile
from egress.config.swaps import swap_problems
from egress.config.wording import did_you_mean, printable, quoted
from egress.errors import Problem
from egress.policy import (
    OVER_TLS,
    AnyTarget,
    HostTarget,
    NetworkTarget,
    Protocol,
    Rewrite,
    Rule,
    Scheme,
    Target,
    TlsMode,
    Unreadable,
    Verdict,
    signed_headers,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from egress.config.document import Document
    from egress.config.policy_model import RuleModel
    from egress.config.secrets_model import SecretDefinition
    from egress.config.wording import Place

VERBS = ("allow", "deny", "ask")


@dataclass(slots=True)
class RuleReader:
    """Reads the rules of one file. Collects problems, warnings and the content of list files as it goes.

    `secrets` holds every secret that can be named; a value of None is one whose definition is itself in error.
    """

    document: Document
    folder: Path
    secrets: Mapping[str, SecretDefinition | None]
    tls: TlsMode | None
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    contents: list[tuple[str, ...]] = field(default_factory=list)
    _names: dict[str, int] = field(default_factory=dict)

    def read(self, model: RuleModel, place: Place) -> Rule | None:
        """One rule, or None if it names no destination that could be used."""
        verdict = self._verdict(model, place)
        if verdict is None:
            return None
        self._check_name(model, place)
        targets = self._targets(model, verdict, place)
        self._check_targets(verdict, targets, place)
        Carriage(self.document, self.tls, self.problems, self.warnings).check(model, verdict, place)
        self._check_rewrite(model, place)
        self._check_headers(model, verdict, targets, place)
        self._check_sign(model, verdict, targets, place)
        self._check_swaps(model, verdict, targets, place)
        self._check_scrub(model, place)
        self._check_addresses(model, verdict, targets, place)
        return Rule(
            verdict=verdict,
            targets=tuple(targets),
            file=self.document.file,
            line=self.document.line(place),
            name=model.name,
            ports=None if model.ports is None else tuple(model.ports),
            methods=None if model.methods is None else frozenset(model.methods),
            paths=None if model.paths is None else tuple(model.paths),
            protocols=None if model.protocol is None else frozenset(model.protocol),
            tls=model.tls,
            inject=tuple(injection(header, injected) for header, injected in (model.inject or {}).items()),
            swap=tuple(each.swap() for each in model.swap or ()),
            strip_own=bool(model.strip_own),
            remove=tuple(model.remove or ()),
            addresses=tuple(model.addresses or ()),
            http2=bool(model.http2),
            ignore_case=bool(model.ignore_case),
            query=None if model.query is None else tuple(model.query),
            headers=None if model.headers is None else tuple(model.headers),
            until=model.until,
            annotate=tuple((model.annotate or {}).items()),
            rewrite=None if model.rewrite is None else model.rewrite.value(),
            limits=limits_of(model),
            scrub=model.scrub,
            mcp=None if model.mcp is None else model.mcp.condition(),
            graphql=None if model.graphql is None else model.graphql.condition(),
            sandboxes=None if model.sandboxes is None else tuple(model.sandboxes),
            sign=None if model.sign is None else model.sign.value(),
        )

    def _verdict(self, model: RuleModel, place: Place) -> Verdict | None:
        verbs = [verb for verb in VERBS if getattr(model, verb) is not None]
        if len(verbs) == 1:
            return Verdict(verbs[0])
        if verbs:
            both = " and ".join(f"`{verb}`" for verb in verbs)
            self._problem(place, f"a rule has one verb, and this one has {both}", "write a rule for each")
        else:
            self._problem(place, "a rule needs `allow`, `deny` or `ask`", "write `allow: api.example.com`")
        return None

    def _check_name(self, model: RuleModel, place: Place) -> None:
        if model.name is None:
            return
        line = self.document.line((*place, "name"))
        first = self._names.setdefault(model.name, line)
        if first != line:
            message = f"the rule on line {first} has the same name"
            self._warning(
                (*place, "name"), message, "give each rule a name of its own, so that the audit tells them apart"
            )

    def _targets(self, model: RuleModel, verdict: Verdict, place: Place) -> list[Target]:
        named = getattr(model, verdict.value)
        at = (*place, verdict.value)
        if isinstance(named, HostFile):
            return self._listed_targets(named.file, verdict, at, has_ports=model.ports is not None)
        for index, target in enumerate(named):
            if model.ports is not None and target.port is not None:
                self._problem((*at, index), "the port stands here and in `ports`", "keep one of them")
        return list(named)

    def _listed_targets(self, text: str, verdict: Verdict, place: Place, *, has_ports: bool) -> list[Target]:
        at = (*place, "file")
        if not text or not text.isprintable():
            self._problem(at, f"{quoted(text)} is not a path", "write a file's path")
            return []
        path = self.folder / text
        read = read_host_list(path, verdict)
        for problem in read.problems:
            if problem.line is None:
                hint = f"{problem.hint}; it is taken from the policy's folder"
                self._problem(at, f"{problem.file}: {problem.message}", hint)
            else:
                self.problems.append(problem)
        self.warnings.extend(read.warnings)
        self.files.append(path)
        self.contents.append(read.content)
        message = f"the port stands here and in `ports` of the rule on line {self.document.line(place)} of"
        for line, target in read.targets:
            if has_ports and target.port is not None:
                name = printable(str(path))
                self.problems.append(Problem(name, line, "", f"{message} {self.document.file}", "keep one"))
        return [target for _, target in read.targets]

    def _check_targets(self, verdict: Verdict, targets: Iterable[Target], place: Place) -> None:
        if verdict is not Verdict.ALLOW:
            return
        for index, target in enumerate(targets):
            at = (*place, "allow", index)
            if isinstance(target.what, AnyTarget):
                self._warning(
                    at, "`**` allows every host there is", "name the hosts, or keep `**` for `deny` and `ask`"
                )

    def _check_rewrite(self, model: RuleModel, place: Place) -> None:
        if model.rewrite is None:
            return
        at = (*place, "rewrite")
        rewrite = model.rewrite.value()
        if rewrite == Rewrite():
            self._problem(at, "this states nothing, so nothing is rewritten", "name `host`, or remove it")
        if rewrite.path is not None and rewrite.path.old == rewrite.path.new:
            self._problem((*at, "path_prefix"), "this leaves every path as it is", "write another prefix, or remove it")
        if rewrite.scheme is Scheme.HTTP and model.protocol == [Protocol.GRPC]:
            message = "gRPC needs HTTP/2, which is spoken inside TLS only"
            self._problem((*at, "scheme"), message, "write `scheme: https`")

    def _check_scrub(self, model: RuleModel, place: Place) -> None:
        if model.scrub is not Unreadable.PASS or model.allow is None:
            return
        injected = any(injection(header, value).secrets for header, value in (model.inject or {}).items())
        if not injected and not model.swap and model.sign is None:
            message = "`scrub: pass` is about answers to requests with secrets, and this rule injects none"
            self._problem((*place, "scrub"), message, "remove it, or move it to the rule that injects")

    def _check_headers(self, model: RuleModel, verdict: Verdict, targets: list[Target], place: Place) -> None:
        for key in ("inject", "swap", "strip_own", "remove", "rewrite", "sign", "scrub"):
            if getattr(model, key) is not None and verdict is not Verdict.ALLOW:
                message = f"`{key}` changes a request that goes on, and this rule says `{verdict}`"
                self._problem((*place, key), message, "remove it, or move it to the rule that allows")
        seen: dict[str, str] = {}
        for header, injected in (model.inject or {}).items():
            at = (*place, "inject", header)
            if header.lower() in seen:
                message = f"the same header as {quoted(seen[header.lower()])}, in another spelling"
                self._problem(at, message, "keep one of them")
            seen[header.lower()] = header
            for secret in dict.fromkeys(injection(header, injected).secrets):
                self._check_secret(secret, model, verdict, targets, at)
        for header in model.remove or ():
            if header.lower() in seen:
                message = f"{quoted(header)} is injected, which replaces what the client sent"
                self._problem((*place, "remove"), message, "remove it from `remove`")

    def _check_sign(self, model: RuleModel, verdict: Verdict, targets: list[Target], place: Place) -> None:
        if model.sign is not None and model.swap is not None:
            message = "a signature covers what the client sent, and `swap` changes it"
            self._problem((*place, "swap"), message, "sign or swap, each in a rule of its own")
        signing = None if model.sign is None else model.sign.value()
        if signing is None:
            return
        at = (*place, "sign", model.sign.scheme if model.sign is not None else "")
        self._check_secret(signing.secret, model, verdict, targets, at)
        taken = {header.lower() for header in signed_headers(signing)}
        for key in ("inject", "remove"):
            for header in getattr(model, key) or ():
                if header.lower() in taken:
                    message = f"{quoted(header)} is set by the signature of `sign`"
                    self._problem((*place, key), message, "remove it here")

    def _check_swaps(self, model: RuleModel, verdict: Verdict, targets: list[Target], place: Place) -> None:
        for index, (key, message, hint) in swap_problems(model, self.secrets):
            self._problem((*place, "swap", index, *key), message, hint)
        for index, each in enumerate(model.swap or ()):
            self._check_secret(each.secret, model, verdict, targets, (*place, "swap", index, "secret"))

    def _check_secret(
        self, secret: str, model: RuleModel, verdict: Verdict, targets: list[Target], place: Place
    ) -> None:
        if secret not in self.secrets:
            hint = did_you_mean(secret, self.secrets) or "define it under `secrets`"
            self._problem(place, f"no secret is named {quoted(secret)}", hint)
            return
        definition = self.secrets[secret]
        if definition is None or verdict is not Verdict.ALLOW:
            return
        if (
            model.methods is not None
            and definition.methods is not None
            and definition.methods.isdisjoint(model.methods)
        ):
            message = f"the secret {quoted(secret)} is bound to none of this rule's methods"
            self._problem(place, message, "add them to the secret's `methods`, or name another secret")
        rewrite = Rewrite() if model.rewrite is None else model.rewrite.value()
        if rewrite.scheme is Scheme.HTTP:
            message = f"the secret {quoted(secret)} goes over verified TLS only, and `rewrite` leads to `http`"
            self._problem(place, message, "write `scheme: https`")
        elif rewrite.scheme is None and model.protocol is not None and not OVER_TLS & set(model.protocol):
            message = f"the secret {quoted(secret)} goes over verified TLS only, and `protocol` names none"
            self._problem(place, message, "name `https` in `protocol`")
        if not definition.hosts:
            # It is in our own store: where it is bound to is known once it is asked for.
            return
        # A secret is bound to where it goes, not to what the client calls that.
        answers = [bound(target, model.ports, definition.hosts) for target in _reached(targets, rewrite)]
        if answers and all(answer is Bound.NEVER for answer in answers):
            message = f"the secret {quoted(secret)} is bound to none of this rule's hosts"
            self._problem(place, message, "add the hosts to the secret's `hosts`, or name another secret")
        elif any(answer is not Bound.ALWAYS for answer in answers):
            message = f"the secret {quoted(secret)} is not bound to all of this rule's hosts"
            self._warning(
                place,
                message,
                "requests to the others go without it; write a rule of their own for them",
            )

    def _check_addresses(self, model: RuleModel, verdict: Verdict, targets: list[Target], place: Place) -> None:
        if model.addresses is None:
            return
        at = (*place, "addresses")
        if verdict is Verdict.DENY:
            message = "`addresses` says what an allowed name may resolve to, and this rule says `deny`"
            self._problem(at, message, "write the ranges as targets: `deny: [10.0.0.0/8]`")
        elif targets and all(isinstance(target.what, NetworkTarget) for target in targets):
            self._warning(at, "every target here is an address already, so `addresses` adds nothing", "remove it")

    def _problem(self, place: Place, message: str, hint: str) -> None:
        self.problems.append(self.document.problem(place, message, hint))

    def _warning(self, place: Place, message: str, hint: str) -> None:
        self.warnings.append(self.document.problem(place, message, hint))


def _reached(targets: list[Target], rewrite: Rewrite) -> list[Target]:
    """What a rule's targets become under its rewrite."""
    port = rewrite.port
    if port is None and rewrite.scheme is not None:
        port = 443 if rewrite.scheme is Scheme.HTTPS else 80
    if rewrite.host is None:
        return targets if port is None else [replace(target, port=port) for target in targets]
    what: HostTarget | NetworkTarget = HostTarget(rewrite.host.text, exact=True, below=False)
    if rewrite.host.address is not None:
        what = NetworkTarget(ip_network(rewrite.host.address))
    return [Target(what, target.port if port is None else port) for target in targets]
