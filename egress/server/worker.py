"""A worker: accepts connections on the listening sockets that it inherited, and carries the lanes of the front."""

from __future__ import annotations

from typing import TYPE_CHECKING

import uvloop

from egress.config import DenyPage
from egress.proxy.entrance import Kind
from egress.proxy.front import Front
from egress.proxy.limits import FrontLimits
from egress.server.handed import HandedOver
from egress.server.judging import Judging
from egress.server.listening import ports_of

if TYPE_CHECKING:
    import socket

    from egress.certs import Authority
    from egress.config import ServerConfig
    from egress.proxy.client_tls import ClientTls
    from egress.proxy.dns.server import DnsServer
    from egress.proxy.upstream_tls import UpstreamTls
    from egress.server.children import Start
    from egress.server.listening import Entrances


class Worker:
    """What all workers share since before they were forked. `ports`: the proxy's own, beside those that they serve."""

    def __init__(
        self,
        config: ServerConfig,
        authority: Authority,
        tls: tuple[ClientTls, UpstreamTls],
        entrances: Entrances,
        handed: socket.socket,
        *,
        ports: frozenset[int] = frozenset(),
    ) -> None:
        self._config = config
        self._authority = authority
        self._tls = tls
        self._entrances = entrances
        self._handed = handed
        self._questions = False
        self._dns: DnsServer | None = None
        self._ports = ports

    def main(self, start: Start, *, questions: bool = False) -> int:
        """Be a worker until told to end, or until the supervisor is gone; the exit status.

        `questions`: it is the one that answers DNS. One does, so that what is counted of a sandbox is counted once.
        """
        self._questions = questions
        return uvloop.new_event_loop().run_until_complete(self.serve(start))

    async def serve(self, start: Start) -> int:
        """Serve on the running loop."""
        judging = Judging(self._config, start, self._stop_accepting, self._authority)
        judging.gate.own.ports.update(self._ports)
        judging.gate.own.ports.update(port for sock, _ in self._entrances for port in ports_of(sock))
        self._front = Front(
            judging.gate,
            *self._tls,
            front_limits(self._config),
            hand_over=HandedOver(self._handed),
            forced=self._config.lane,
            slots=judging.shares.connections,
            client_slots=judging.shares.of_client,
            deny_page=self._config.deny_page or DenyPage.CONNECT,
        )
        if self._questions and self._config.dns.listen:
            # As slow to load as the whole policy, and needed in one process at most.
            from egress.proxy.dns.answering import Answering  # noqa: PLC0415
            from egress.proxy.dns.server import DnsServer  # noqa: PLC0415

            self._dns = DnsServer(judging.gate, Answering(judging.gate, self._config.dns, judging.questions))
        for sock, entrance in self._entrances:
            if entrance.kind is Kind.DNS:
                if self._dns is not None:
                    self._dns.serve(sock, entrance)
                continue
            if entrance.kind is Kind.ENDPOINTS and judging.gate.endpoints is not None:
                judging.gate.endpoints.at(*ports_of(sock))
            self._front.serve(sock, entrance)
        judging.ready()
        await judging.until_drained()
        return await judging.finish(self._close)

    async def _close(self) -> None:
        if self._dns is not None:
            await self._dns.close()
        await self._front.close()

    def _stop_accepting(self) -> None:
        self._front.stop_accepting()
        if self._dns is not None:
            self._dns.stop()
        for sock, _ in self._entrances:
            sock.close()


def front_limits(config: ServerConfig) -> FrontLimits:
    """The front's limits as the configuration has them."""
    limits = config.limits
    return FrontLimits(
        head_seconds=limits.head_seconds,
        tls_seconds=limits.tls_seconds,
        idle_seconds=limits.idle_seconds,
        tunnel_seconds=limits.tunnel_seconds,
        tunnel_bytes=limits.tunnel_bytes,
        upstream_kept=limits.upstream_kept,
        upstream_idle_seconds=limits.upstream_idle_seconds,
        upstream_lifetime_seconds=limits.upstream_lifetime_seconds,
    )
