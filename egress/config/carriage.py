"""What a rule says of how connections are carried and requests read, as far as no single value shows it.

That is: protocols, TLS and HTTP/2, conditions on what is never seen, and limits of what is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from egress.config.policy_model import HostFile
from egress.policy import NetworkTarget, Protocol, RuleLimits, TlsMode, Verdict

if TYPE_CHECKING:
    from egress.config.document import Document
    from egress.config.policy_model import RuleModel
    from egress.config.wording import Place
    from egress.errors import Problem

# What only a look inside can apply.
_INSIDE = (
    *("methods", "paths", "query", "headers", "mcp", "graphql"),
    *("inject", "swap", "strip_own", "remove", "rewrite", "sign", "scrub", "http2"),
)


@dataclass(frozen=True, slots=True)
class Carriage:
    """Checks rules of one file; what it finds is added to `problems` and `warnings`. `tls` is the file's own."""

    document: Document
    tls: TlsMode | None
    problems: list[Problem]
    warnings: list[Problem]

    def check(self, model: RuleModel, verdict: Verdict, place: Place) -> None:
        """Everything that there is to say of one rule."""
        self._check_protocols(model, verdict, place)
        self._check_tls(model, verdict, place)
        self._check_http2(model, verdict, place)
        self._check_case(model, place)
        self._check_bodies(model, place)
        self._check_limits(model, verdict, place)

    def _check_protocols(self, model: RuleModel, verdict: Verdict, place: Place) -> None:
        protocols = frozenset(model.protocol or ())
        if Protocol.DNS in protocols:
            self._check_questions(model, verdict, place)
        if Protocol.TCP not in protocols:
            return
        named = getattr(model, verdict.value)
        has_ports = model.ports is not None or (
            not isinstance(named, HostFile) and all(target.port is not None for target in named)
        )
        if verdict is Verdict.ALLOW and not has_ports:
            self._problem((*place, "protocol"), "a `tcp` allow must name its ports", "add `ports: [5432]`")
        if protocols == {Protocol.TCP}:
            for key in (*_INSIDE, "tls"):
                if getattr(model, key) is not None:
                    message = f"raw TCP is carried unread, so `{key}` can never apply"
                    self._problem((*place, key), message, "remove it, or name `https` in `protocol`")

    def _check_questions(self, model: RuleModel, verdict: Verdict, place: Place) -> None:
        """DNS: a question has a name, and nothing else that a rule could ask about or change."""
        for key in _INSIDE:
            if getattr(model, key) is not None:
                message = f"a DNS question is for a name, so `{key}` can never apply to it"
                self._problem((*place, key), message, "remove it, or write a rule for `dns` of its own")
        if model.protocol != [Protocol.DNS]:
            return
        for key in ("ports", "tls", "limits"):
            if getattr(model, key) is not None:
                message = f"a DNS question is for a name, so `{key}` says nothing about it"
                self._problem((*place, key), message, "remove it")
        named = getattr(model, verdict.value)
        for index, target in enumerate([] if isinstance(named, HostFile) else named):
            if isinstance(target.what, NetworkTarget) and verdict is Verdict.ALLOW:
                message = "a DNS question is for a name, and this is an address or a range"
                hint = "name hosts, and in `addresses` what they may resolve to"
                self._problem((*place, verdict.value, index), message, hint)

    def _check_tls(self, model: RuleModel, verdict: Verdict, place: Place) -> None:
        inside = [key for key in _INSIDE if getattr(model, key) is not None]
        if model.tls is not None and verdict is not Verdict.ALLOW:
            message = f"`tls` says how an allowed connection is carried, and this rule says `{verdict}`"
            self._problem((*place, "tls"), message, "remove it")
        elif model.tls is TlsMode.TUNNEL and inside:
            keys = ", ".join(f"`{key}`" for key in inside)
            message = f"a tunnel is carried unread, so {keys} can never apply"
            self._problem((*place, "tls"), message, "write `tls: inspect`, or remove them")
        elif model.tls is None and self.tls is TlsMode.TUNNEL and inside:
            self._inside_default_tunnel(verdict, inside[0], place)

    def _inside_default_tunnel(self, verdict: Verdict, key: str, place: Place) -> None:
        if verdict is Verdict.ALLOW:
            message = f"the file's `tls: tunnel` carries TLS unread, so `{key}` can never apply to it"
            self._problem((*place, key), message, "add `tls: inspect` to the rule")
        else:
            message = f"the file's `tls: tunnel` carries TLS unread, so this holds whatever the `{key}`"
            self._warning((*place, key), message, "a denial that might apply to a tunnel does")

    def _check_http2(self, model: RuleModel, verdict: Verdict, place: Place) -> None:
        at = (*place, "http2")
        if model.http2 is None:
            return
        if verdict is not Verdict.ALLOW:
            message = f"`http2` says how an allowed connection is carried, and this rule says `{verdict}`"
            self._problem(at, message, "remove it, or move it to the rule that allows")
        elif model.protocol not in (None, [Protocol.TCP]) and not {Protocol.HTTPS, Protocol.GRPC} & set(
            model.protocol or ()
        ):
            message = "HTTP/2 is agreed on in TLS, and `protocol` names neither `https` nor `grpc`"
            self._problem(at, message, "name `https` in `protocol`, or remove it")

    def _check_case(self, model: RuleModel, place: Place) -> None:
        if model.ignore_case and model.paths is None:
            message = "`ignore_case` says how `paths` are compared, and this rule has none"
            self._problem((*place, "ignore_case"), message, "add `paths`, or remove it")

    def _check_bodies(self, model: RuleModel, place: Place) -> None:
        if model.mcp is not None and model.graphql is not None:
            message = "a body is one of MCP or one of GraphQL, and no request could meet both"
            self._problem((*place, "graphql"), message, "write a rule for each")
        for key in ("mcp", "graphql"):
            if getattr(model, key) is None or model.methods is None:
                continue
            carries = {"POST", "GET"} if key == "graphql" else {"POST"}
            if carries.isdisjoint(model.methods):
                message = f"`{key}` asks for a body, and none of `methods` has one that it could read"
                self._problem((*place, key), message, "name `POST` in `methods`, or remove it")

    def _check_limits(self, model: RuleModel, verdict: Verdict, place: Place) -> None:
        limits, at = model.limits, (*place, "limits")
        if limits is None:
            return
        if verdict is not Verdict.ALLOW:
            message = f"`limits` holds for what a rule lets pass, and this rule says `{verdict}`"
            self._problem(at, message, "remove it, or move it to the rule that allows")
        if not limits.model_fields_set or limits_of(model) == RuleLimits():
            self._problem(at, "this limits nothing", "write `limits: {requests: 10/s}`, or remove it")
        elif limits.burst is not None and limits.requests is None:
            message = "`burst` says how many of `requests` may come at once, and there is no `requests`"
            self._problem((*at, "burst"), message, "add `requests: 10/s`, or write `concurrent`")

    def _problem(self, place: Place, message: str, hint: str) -> None:
        self.problems.append(self.document.problem(place, message, hint))

    def _warning(self, place: Place, message: str, hint: str) -> None:
        self.warnings.append(self.document.problem(place, message, hint))


def limits_of(model: RuleModel) -> RuleLimits | None:
    """The rule's limits as the policy core has them."""
    said = model.limits
    if said is None:
        return None
    return RuleLimits(said.requests, said.burst, said.concurrent, said.upload, said.download)
