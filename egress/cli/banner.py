"""What `egress run` says once it listens: where, whom to trust, what to paste into a shell, and two requests to try."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from egress.policy import Certainty, Host, HostTarget, Mode, Protocol, Request, TlsMode, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from egress.policy import Policy
    from egress.server.run import Started

# A name that no policy should allow; one that does gets no line about it.
_DENIED = "denied.example"
# Where a bridge to a unix socket would listen.
BRIDGE = "127.0.0.1:3128"


def banner(started: Started, state_dir: Path) -> Iterator[str]:
    """The lines, the first of which is `listening on http://HOST:PORT`, or `listening on unix:PATH`."""
    yield from (f"listening on {told if _is_unix(told) else f'http://{told}'}" for told in started.listening)
    yield f"CA file      {started.ca}"
    yield f"audit        {started.audit}"
    if started.upstream:
        yield f"way out      {started.upstream}"
    if started.endpoints:
        yield f"identity     http://{started.endpoints}"
    yield from (f"forward      {listener} to {destination}" for listener, destination in started.forwards)
    yield from (f"transparent  {told}" for told in started.transparent)
    if started.dns:
        yield f"dns          {' '.join(started.dns)} (UDP and TCP)"
    if started.admin:
        yield f"admin        {started.admin if _is_unix(started.admin) else f'http://{started.admin}'}"
    if started.warning:
        yield ""
        yield f"WARNING: {started.warning}"
    yield ""
    where = next((told for told in started.listening if not _is_unix(told)), None)
    folder = shlex.quote(str(state_dir.absolute()))
    if where is None:
        yield "few clients can name a unix socket as their proxy; a bridge on loopback serves the others:"
        yield f"  {bridge(started.listening[0])}"
    yield "in another shell:"
    yield f'  eval "$({_program()} env --listen {where or BRIDGE} --state-dir {folder})"'
    if started.sandboxes is not None:
        yield ""
        yield f"sandboxes    {len(started.sandboxes)}; a client that is none of them is refused (egress sandbox list)"
    policies = [started.policy, *(started.sandboxes or {}).values()]
    found = (scope.scope.value for policy in policies for scope in policy.scopes if scope.mode is Mode.REPORT)
    reporting = list(dict.fromkeys(found))
    if reporting:
        yield ""
        yield f"REPORT MODE: what scope {' and scope '.join(reporting)} would refuse PASSES, recorded as would-deny"
    # Who would try it is no sandbox.
    tries = [] if started.sandboxes is not None else list(_tries(started, f"curl --proxy http://{where or BRIDGE}"))
    if tries:
        yield ""
        yield "try:"
        yield from tries


def bridge(told: str) -> str:
    """The command that serves a unix socket on loopback, for clients that cannot use it themselves."""
    host, _, port = BRIDGE.partition(":")
    return f"socat TCP-LISTEN:{port},bind={host},fork,reuseaddr UNIX-CONNECT:{shlex.quote(told.removeprefix('unix:'))}"


def _is_unix(told: str) -> bool:
    return told.startswith("unix:")


def _tries(started: Started, curl: str) -> Iterator[str]:
    allowed = _allowed(started.policy)
    if allowed is not None:
        name, tls = allowed
        trust = "" if tls is TlsMode.TUNNEL else f" --cacert {shlex.quote(str(started.ca.absolute()))}"
        yield f"  {curl}{trust} https://{name}/      # passes"
    if _certainty(started.policy, _DENIED) is Certainty.NO:
        yield f"  {curl} https://{_DENIED}/      # is denied"


def _allowed(policy: Policy) -> tuple[str, TlsMode] | None:
    """The first host that a rule names, and that a GET of its front page over https may reach."""
    rules = (rule for scope in policy.scopes for rule in scope.rules if rule.verdict is Verdict.ALLOW)
    for target in (target.what for rule in rules for target in rule.targets):
        if isinstance(target, HostTarget) and target.exact and _passes(policy, target.name):
            return target.name, policy.decide_name(_request(target.name)).tls
    return None


def _passes(policy: Policy, name: str) -> bool:
    if _certainty(policy, name) is Certainty.NO:
        return False
    tunnelled = policy.decide_name(_request(name)).tls is TlsMode.TUNNEL
    return tunnelled or policy.decide_request(_request(name, "GET")).allowed


def _certainty(policy: Policy, name: str) -> Certainty:
    return policy.decide_name(_request(name)).certainty


def _request(name: str, method: str | None = None) -> Request:
    return Request("default", Protocol.HTTPS, Host(name), 443, method, None if method is None else "/")


def _program() -> str:
    """How the person called us, in a form that works from any folder."""
    called = Path(sys.argv[0])
    if shutil.which(called.name) == str(called):
        return called.name
    return shlex.quote(str(called.absolute()))
