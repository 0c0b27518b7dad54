"""A real proxy process between a scripted origin and a raw client, in a namespace where ports 80 and 443 are free."""

from __future__ import annotations

import contextlib
import itertools
import sqlite3
import ssl
import time
from typing import TYPE_CHECKING, Self

from conformance.cases import ADDRESS, HOST, Way
from conformance.client import Client
from conformance.origin import Origin
from harness.authority import TestAuthority
from harness.namespace import Namespace
from harness.proxy import COMMAND, CONFIG, ProxyProcess, Start

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType

    from harness.proxy import Row

GET_ONLY = "getonly.test"
KEYED = "keyed.test"
KEY = "egress-canary-conformance"
TUNNELLED = "tunnel.test"
DENIED = "evil.test"
NAMES = (HOST, GET_ONLY, KEYED)
TUNNEL_ADDRESS, DENIED_ADDRESS = "93.184.216.35", "93.184.216.66"
POLICY = f"""\
version: 1
default: deny
secrets:
  key: {{env: EGRESS_TEST_KEY, hosts: [{KEYED}]}}
rules:
  - allow: ["{HOST}:443", "{HOST}:80"]
  - {{allow: ["{GET_ONLY}:443", "{GET_ONLY}:80"], methods: [GET]}}
  - {{allow: "{TUNNELLED}:443", tls: tunnel}}
  - {{allow: "{KEYED}:443", inject: {{X-Api-Key: "${{key}}"}}}}
"""
PROXY = "93.184.216.99"
PATIENCE = 5.0


class Stage:
    """`lane` is the lane that carries every request; without one, what each rule needs.

    `tunnelled` keeps what a tunnel carries; to `denied` no rule leads.
    """

    def __init__(
        self, folder: Path, lane: str | None, config: str = CONFIG, command: tuple[str, ...] = (str(COMMAND),)
    ) -> None:
        self.lane = lane
        self._count = itertools.count(1)
        folder.mkdir()
        folder.chmod(0o755)
        authority = TestAuthority(folder / "authority")
        self.namespace = Namespace("127.0.0.53")
        self._cleanup = contextlib.ExitStack()
        self._cleanup.callback(self.namespace.close)
        try:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*authority.issue(*NAMES))
            context.set_alpn_protocols(["http/1.1"])
            self.origin = Origin(self.namespace, ADDRESS, context)
            self._cleanup.callback(self.origin.close)
            self.tunnelled, self.denied = (Origin(self.namespace, at) for at in (TUNNEL_ADDRESS, DENIED_ADDRESS))
            self._cleanup.callback(self.tunnelled.close)
            self._cleanup.callback(self.denied.close)
            places = {**dict.fromkeys(NAMES, ADDRESS), TUNNELLED: TUNNEL_ADDRESS, DENIED: DENIED_ADDRESS}
            pins = [word for name, at in places.items() for word in ("--resolve", f"{name}:{at}")]
            start = Start(
                POLICY,
                f"{PROXY}:0",
                authority.ca_file,
                env={"EGRESS_TEST_KEY": KEY},
                extra=(*pins, *(("--lane", lane) if lane else ())),
                command=command,
                config=config,
            )
            self.proxy = ProxyProcess(self.namespace, folder / "proxy", start)
            self._cleanup.callback(self._end)
            self._trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            assert self.proxy.address
            self._trusting.load_verify_locations(self.proxy.ca_file)
            self._trusting.set_alpn_protocols(["http/1.1"])
        except BaseException:
            self._cleanup.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def _end(self) -> None:
        if self.proxy.alive:
            self.proxy.kill()

    def close(self) -> None:
        """Stop the proxy, hold it to a clean end and a log without a crash; then the rest."""
        try:
            self.proxy.close()
            assert not self.denied.connections, "a host that no rule allows was dialled"
        finally:
            self._cleanup.close()

    def connect(self) -> Client:
        """A connection on which nothing was said, from an address that no other has, so that its rows are known."""
        number = next(self._count)
        source = f"10.77.{number >> 8 & 255}.{number & 255}"
        return Client(self.namespace.connect(self.proxy.address, source=source))

    def secure(self, client: Client, name: str) -> None:
        """TLS inside a tunnel, as a client that trusts the proxy's CA."""
        client.secure(self._trusting, name)

    @contextlib.contextmanager
    def client(self, way: Way, host: str = HOST) -> Iterator[Client]:
        """A connection that is ready for a request to `host`."""
        with self.connect() as client:
            if way is Way.TLS:
                client.send(f"CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n".encode())
                answer = client.answer("CONNECT")
                assert answer is not None
                assert answer.status == 200
                self.secure(client, host)
            yield client

    def rows(self, address: str, count: int = 1) -> list[Row]:
        """The audit rows of a client that has hung up, as soon as there are so many and each has its outcome."""
        deadline = time.monotonic() + PATIENCE
        while True:
            found = self._rows(address)
            if len(found) >= count and all(row["duration_us"] is not None for row in found):
                return found
            assert time.monotonic() < deadline, f"the rows of {address} are not complete: {found}"
            time.sleep(0.005)

    def allowed(self) -> int:
        """How many decisions the audit has that allow."""
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)) as database:
            (count,) = database.execute("SELECT count(*) FROM decisions WHERE verdict = 'allow'").fetchone()
        return int(count)

    @property
    def _database(self) -> Path:
        return self.proxy.state / "audit.db"

    def _rows(self, address: str) -> list[Row]:
        with contextlib.closing(sqlite3.connect(f"file:{self._database}?mode=ro", uri=True, timeout=5)) as database:
            database.row_factory = sqlite3.Row
            query = "SELECT * FROM requests WHERE client LIKE ? ORDER BY seq"
            return [dict(row) for row in database.execute(query, (f"{address}:%",))]


class Stages:
    """One stage a lane, made when first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Stage] = {}

    def __getitem__(self, lane: str) -> Stage:
        if lane not in self._made:
            self._made[lane] = Stage(self._folder / lane, lane)
        return self._made[lane]

    @property
    def made(self) -> Mapping[str, Stage]:
        """Those that there are."""
        return self._made

    def close(self) -> None:
        """Close all; the first that did not end well fails."""
        with contextlib.ExitStack() as stack:
            for stage in self._made.values():
                stack.callback(stage.close)
