"""Everything that a test of the wire needs, in one namespace: recorders, name server, packet tap, proxies by policy."""

from __future__ import annotations

import itertools
import time
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from harness.addon import AddonProcess
from harness.attacker import Attacker
from harness.authority import TestAuthority
from harness.nameserver import NameServer
from harness.namespace import Namespace
from harness.origins import Origins
from harness.outpost import Outpost
from harness.proxy import ProxyProcess, Start
from harness.wiretap import WireTap

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from harness.nameserver import Answers
    from harness.origins import Mark

# Global unicast addresses, so that the real classifier calls them public; none is reached from the namespace.
ALLOWED4, ALLOWED6 = "93.184.216.34", "2606:2800:220:1:248:1893:25c8:34"
EVIL4, EVIL6 = "93.184.216.66", "2606:2800:220:1:248:1893:25c8:66"
PROXY4 = "93.184.216.99"
PUBLIC4 = "93.184.216.77"
STREAM4 = "93.184.216.35"
NAMESERVER = "127.0.0.53"
# The same name server for those who are not in the namespace, but reach it by a link.
NAMESERVER4 = "93.184.216.53"
ALLOWED = frozenset({ALLOWED4, ALLOWED6, STREAM4})

ZONE: dict[str, Answers] = {
    "allowed.test": [f"A {ALLOWED4}"],
    "*.allowed.test": [f"A {ALLOWED4}"],
    "stream.test": [f"A {STREAM4}"],
    "evil.test": [f"A {EVIL4}", f"AAAA {EVIL6}"],
    "*.evil.test": [f"A {EVIL4}", f"AAAA {EVIL6}"],
    "*.test": [f"A {EVIL4}"],
    "corp.internal": [f"A {EVIL4}"],
    "*.corp.internal": [f"A {EVIL4}"],
}


class World:
    """A session's namespace and what stands in it. `everywhere`: every address answers, else only the named ones."""

    def __init__(self, folder: Path, *, everywhere: bool = True) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
        self.authority = TestAuthority(folder / "authority")
        self.namespace = Namespace(NAMESERVER)
        self._proxies: dict[object, ProxyProcess] = {}
        self._outposts: dict[object, Outpost] = {}
        self._started: list[ProxyProcess] = []
        self._count = itertools.count(1)
        self._lane = ""
        try:
            self.names = NameServer(self.namespace, (NAMESERVER, NAMESERVER4), ZONE)
            addresses = ("0.0.0.0", "::") if everywhere else (STREAM4, EVIL4, EVIL6)
            self.origins = Origins(self.namespace, self.authority, allowed=ALLOWED, addresses=addresses)
            self.tap = WireTap(self.namespace)
        except BaseException:
            self.namespace.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def fresh_client(self) -> str:
        """A client address that no other case uses, so that its audit rows are known."""
        number = next(self._count)
        return f"10.77.{number >> 8 & 255}.{number & 255}"

    def fresh_folder(self) -> Path:
        """An empty folder."""
        folder = self.folder / f"folder-{next(self._count)}"
        folder.mkdir()
        return folder

    @contextmanager
    def carried_by(self, lane: str) -> Iterator[None]:
        """Within the block, proxies carry what they can by this lane; "": by what each rule needs."""
        before, self._lane = self._lane, lane
        try:
            yield
        finally:
            self._lane = before

    def start(
        self, policy: str, *, listen: str = f"{PROXY4}:0", inside: Namespace | None = None, **changes: object
    ) -> ProxyProcess:
        """Start a proxy, here or in another namespace; the caller closes it. `changes` are fields of `Start`."""
        start = replace(Start(policy, listen, self.authority.ca_file), **changes)  # type: ignore[arg-type]
        if self._lane and "--lane" not in start.extra:
            # The first answer of a process that is loading yet is later than an attacker waits.
            warm = ("--mitm", "warm") if self._lane == "mitm" else ()
            start = replace(start, extra=(*start.extra, "--lane", self._lane, *warm))
        folder = self.folder / f"proxy-{next(self._count)}"
        made = ProxyProcess(inside or self.namespace, folder, start)
        self._started.append(made)
        return made

    def start_addon(self, policy: str, *options: str, **changes: object) -> AddonProcess:
        """Start stock mitmdump with the addon as a script and these `--set` options; the caller closes it."""
        start = Start(policy, f"{PROXY4}:{20000 + next(self._count)}", self.authority.ca_file, extra=options)
        folder = self.folder / f"mitmdump-{next(self._count)}"
        made = AddonProcess(self.namespace, folder, replace(start, **changes))  # type: ignore[arg-type]
        self._started.append(made)
        return made

    def proxy(self, policy: str, env: Mapping[str, str] | None = None) -> ProxyProcess:
        """The session's proxy for a policy text; started at its first use, closed (and held to account) at the end."""
        key = (policy, tuple(sorted((env or {}).items())), self._lane)
        if key not in self._proxies or not self._proxies[key].alive:
            self._proxies[key] = self.start(policy, env=env or {})
        return self._proxies[key]

    def outpost(self, policy: str, env: Mapping[str, str] | None = None) -> Outpost:
        """The session's sandbox behind a gateway with this policy; made at its first use, closed at the end."""
        key = (policy, tuple(sorted((env or {}).items())), self._lane)
        if key not in self._outposts:
            self._outposts[key] = Outpost(self, len(self._outposts), policy, env or {})
        return self._outposts[key]

    def attacker(self, proxy: ProxyProcess, source: str = "") -> Attacker:
        """A raw client of `proxy`."""
        return Attacker(self.namespace, proxy.address, source)

    def marks(self) -> tuple[Mark, int, int]:
        """How much the recorders hold now: connections, questions, packets."""
        return self.origins.mark(), len(self.names.questions), len(self.tap.packets)

    def settle(self, mark: Mark, patience: float = 0.03) -> None:
        """Let what is on the way arrive: a moment, or until no origin connection since `mark` grows."""
        before = -1
        while before != (now := sum(len(seen.received) + 1 for seen in self.origins.since(mark))):
            before = now
            time.sleep(patience)

    def client_env(self, proxy: ProxyProcess, home: Path) -> dict[str, str]:
        """The environment that points the common clients at `proxy`, as `egress env` would."""
        bundle = str(proxy.ca_file)
        names = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "GIT_SSL_CAINFO")
        proxies = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY")
        return {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **dict.fromkeys(names, bundle),
            **dict.fromkeys(proxies, proxy.url),
        }

    def close(self) -> None:
        """Stop everything; a proxy that did not end well fails here."""
        failures: list[str] = []
        for proxy in self._proxies.values():
            try:
                proxy.close()
            except AssertionError as failure:
                failures.append(str(failure))
        for outpost in self._outposts.values():
            try:
                outpost.close()
            except AssertionError as failure:
                failures.append(str(failure))
        for proxy in self._started:
            if proxy.alive:  # left by a test that failed
                proxy.kill()
        for part in (self.origins, self.names, self.tap, self.namespace):
            part.close()
        assert not failures, "\n".join(failures)
