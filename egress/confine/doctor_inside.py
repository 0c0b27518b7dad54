"""What `egress doctor --inside` looks at, from within a sandbox: where clients are sent, and whether that serves them.

Nothing here is trusted by the proxy: it tells whoever builds a sandbox why a well-behaved client in it does not work,
and, in `doctor_sandbox`, what any other program in it could do.
"""

from __future__ import annotations

import base64
import http.client
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, unquote, urlsplit

from egress.confine.doctor import Check, Finding, ok, problem, skipped, warning
from egress.confine.doctor_roads import by_dns, by_quic, by_tcp
from egress.confine.doctor_sandbox import (
    DNS,
    METADATA,
    PROBES,
    PROBES_6,
    container_socket,
    privileges,
    resolver,
    road,
    state_folder,
    under_exec,
)
from egress.confine.environment import BUNDLE_VARIABLES, CA_VARIABLES, PROXY_VARIABLES
from egress.gate.ids import moment_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from egress.confine.doctor_roads import Address

_UNKNOWN: Final = "egress-doctor.invalid"
_SKEW_SECONDS: Final = 60
_ANSWER_SECONDS: Final = 5
_WANTED: Final = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy")
_SET: Final = 'eval "$(egress env)" sets them, on the proxy\'s host'
_SKIPPED: Final = "no variable names the proxy"


@dataclass(frozen=True, slots=True)
class Inside:
    """Where to look. `probes`, `probes6`, `metadata`: addresses to try; `root`: the file system's."""

    env: Mapping[str, str]
    offline: bool = False
    probes: tuple[Address, ...] = PROBES
    probes6: tuple[Address, ...] = PROBES_6
    metadata: tuple[Address, ...] = METADATA
    root: Path = Path("/")
    clock: Callable[[], float] = field(default=time.time)

    def checks(self) -> list[Check]:
        """All of them, those of clients first."""
        questions = tuple((host, DNS) for host, _ in self.probes)
        outside: dict[str, Callable[[], Finding]] = {
            "road-tcp": partial(road, by_tcp, "TCP to {}", self.probes),
            "road-udp": partial(road, by_quic, "HTTP/3 over UDP to {}", self.probes),
            "road-ipv6": partial(road, by_tcp, "TCP over IPv6 to {}", self.probes6),
            "road-dns": partial(road, by_dns, "a DNS question to {}", questions),
            "metadata-address": partial(road, by_tcp, "the metadata address {}", self.metadata),
            "resolver": partial(resolver, self.root),
        }
        named: dict[str, Callable[[], Finding]] = {
            "proxy-variables": self.proxy_variables,
            "no-proxy": self.no_proxy,
            "proxy-answers": self.proxy_answers,
            "clock": self.clock_skew,
            "ca-files": self.ca_files,
            **{
                name: (lambda: skipped("nothing was sent: --offline")) if self.offline else outside[name]
                for name in outside
            },
            "container-socket": partial(container_socket, self.root),
            "privileges": partial(privileges, self.root),
            "under-exec": partial(under_exec, self.root),
            "proxy-files": partial(state_folder, self.root, self.env.get("EGRESS_STATE_DIR", "")),
        }
        return [Check(name, look) for name, look in named.items()]

    # the proxy, as clients are told of it

    def proxy_variables(self) -> Finding:
        """Whether clients are sent to one proxy."""
        stated = {name: self.env[name] for name in PROXY_VARIABLES if self.env.get(name)}
        missing = [name for name in _WANTED if name not in stated]
        if not stated:
            return problem("no variable names a proxy: clients go out directly, or nowhere", _SET)
        places = {_place(url) for url in stated.values()}
        if len(places) > 1:
            return problem(f"they name several proxies: {', '.join(sorted(places))}", _SET)
        if missing:
            return warning(f"{', '.join(missing)}: not set, and clients differ in which they read", _SET)
        return ok(f"clients are sent to {places.pop()}")

    def no_proxy(self) -> Finding:
        """Whether some hosts are to be reached without the proxy."""
        stated = [self.env[name] for name in ("NO_PROXY", "no_proxy") if self.env.get(name)]
        hosts = sorted({host.strip() for value in stated for host in value.split(",") if host.strip()})
        fix = "unset NO_PROXY and no_proxy: what is allowed belongs into the policy"
        if "*" in hosts:
            return problem("`*` is excepted: clients never ask the proxy", fix)
        if hosts:
            return warning(f"reached without the proxy, or not at all: {', '.join(hosts[:8])}", fix)
        return ok("no host is excepted")

    def proxy_answers(self) -> Finding:
        """Whether what the variables name is this proxy, and knows this client."""
        url = self._proxy()
        if url is None:
            return skipped(_SKIPPED)
        place = f"{url.hostname}:{url.port}"
        try:
            status, told = self._asked(url)
        except (OSError, http.client.HTTPException) as error:
            fix = "does it run (`egress status`, on its host), and listen on an address that the sandbox reaches?"
            return problem(f"{place} does not answer: {error}", fix)
        if not told:
            return problem(f"{place} answers with {status}, and is no egress proxy", _SET)
        if "reason=sandbox-unknown" in told:
            return problem(f"{place} does not know this client", "docs/reasons/sandbox-unknown.md says who is known")
        return ok(f"{place} answers, and knows this client")

    def clock_skew(self) -> Finding:
        """Whether this clock and the proxy's agree: a certificate is valid from one moment to another."""
        url = self._proxy()
        if url is None:
            return skipped(_SKIPPED)
        try:
            theirs = moment_of(self._asked(url)[1].rpartition("id=")[2])
        except (OSError, http.client.HTTPException):
            theirs = None
        if theirs is None:
            return skipped("the proxy told no time")
        skew = self.clock() - theirs
        if abs(skew) > _SKEW_SECONDS:
            which = "ahead of" if skew > 0 else "behind"
            told = f"this clock is {abs(skew):.0f} s {which} the proxy's: certificates look invalid by one of them"
            return problem(told, "have both set by NTP")
        return ok("this clock and the proxy's agree")

    def ca_files(self) -> Finding:
        """Whether the files that clients take their roots from are there."""
        names = (*BUNDLE_VARIABLES, *CA_VARIABLES)
        stated = {name: self.env[name] for name in names if self.env.get(name)}
        if not stated:
            return warning("no variable names roots: clients refuse what the proxy opens", _SET)
        wrong = {path: why for path in dict.fromkeys(stated.values()) if (why := _no_certificates(Path(path)))}
        if wrong:
            told = "; ".join(f"{path}: {why}" for path, why in wrong.items())
            return problem(told, "mount the proxy's bundle there, readable by the sandbox's user")
        if missing := [name for name in names if name not in stated]:
            return warning(f"{', '.join(missing)}: not set, and their clients refuse what the proxy opens", _SET)
        return ok("every variable names certificates that can be read")

    # the proxy

    def _proxy(self) -> SplitResult | None:
        named = next((self.env[name] for name in PROXY_VARIABLES if self.env.get(name)), None)
        split = None if named is None else _split(named)
        return split if split is not None and split.hostname else None

    def _asked(self, url: SplitResult) -> tuple[int, str]:
        """Ask for a name that cannot exist (RFC 6761, section 6.4), so that nothing leaves the proxy.

        Gives the status and what it says of its decision.
        """
        connection = http.client.HTTPConnection(url.hostname or "", url.port or 80, timeout=_ANSWER_SECONDS)
        fields = {"Host": _UNKNOWN, "User-Agent": "egress-doctor"}
        if url.username is not None:
            user = f"{unquote(url.username)}:{unquote(url.password or '')}"
            fields["Proxy-Authorization"] = f"Basic {base64.b64encode(user.encode()).decode()}"
        try:
            connection.request("GET", f"http://{_UNKNOWN}/", headers=fields)
            response = connection.getresponse()
            return response.status, response.getheader("X-Egress-Decision") or ""
        finally:
            connection.close()


def _split(url: str) -> SplitResult:
    return urlsplit(url if "//" in url else f"//{url}")


def _place(url: str) -> str:
    """Host and port: what else a URL has may be a token."""
    try:
        split = _split(url)
        port = split.port
    except ValueError:
        return "what is no URL"
    return f"{split.hostname}:{port}"


def _no_certificates(path: Path) -> str:
    try:
        text = path.read_bytes()
    except OSError as error:
        return (error.strerror or "cannot be read").lower()
    return "" if b"-----BEGIN CERTIFICATE-----" in text else "holds no certificate"
