"""TLS contexts: our leaf towards the client, verification of the real certificate towards the upstream.

A context for each leaf and one for all upstreams, so that sessions resume and roots are read once. Both are TLS 1.2
or later; neither logs keys.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from functools import lru_cache
from ipaddress import ip_address
from typing import TYPE_CHECKING

from OpenSSL import SSL

from egress.mitm.sessions import Sessions

if TYPE_CHECKING:
    from pathlib import Path

    from OpenSSL.SSL import _NoOverlappingProtocols

    from egress.certs import Authority, Leaf

_CONTEXTS_AT_MOST = 1024
_OFFERED = (b"h2", b"http/1.1")

# X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT
_HOST_FLAGS = 0x4 | 0x20


class TlsContexts:
    """Makes the OpenSSL connections of both sides."""

    def __init__(self, authority: Authority, roots: Path, kind: type[SSL.Connection] = SSL.Connection) -> None:
        self._kind = kind
        self._authority = authority
        self._clients: OrderedDict[str, tuple[Leaf, SSL.Context]] = OrderedDict()
        self._upstream = _upstream_context(roots)
        self.sessions = Sessions()

    async def towards_client(self, host: str) -> SSL.Connection:
        """A server-side connection that presents our leaf for `host`. A leaf that must be signed holds up no other."""
        known = self._clients.get(host)
        if known is None or known[0] is not self._authority.leaf(host):
            known = await asyncio.to_thread(self._make, host)
            self._clients[host] = known
            while len(self._clients) > _CONTEXTS_AT_MOST:
                self._clients.popitem(last=False)
        connection = self._kind(known[1])
        connection.set_accept_state()
        return connection

    def _make(self, host: str) -> tuple[Leaf, SSL.Context]:
        leaf = self._authority.leaf(host)
        return leaf, _client_context(leaf)

    def towards_upstream(self, host: str, alpn: tuple[bytes, ...]) -> SSL.Connection:
        """A client-side connection that names `host` and accepts only a verified certificate for it."""
        connection = self._kind(self._upstream)
        # pyOpenSSL has no public call for hostname verification; without these two lines any valid name would pass.
        parameters = SSL._lib.SSL_get0_param(connection._ssl)  # type: ignore[attr-defined] # noqa: SLF001
        SSL._lib.X509_VERIFY_PARAM_set_hostflags(parameters, _HOST_FLAGS)  # type: ignore[attr-defined] # noqa: SLF001
        packed = _packed(host)
        if packed is None:
            name = host.encode("ascii")
            connection.set_tlsext_host_name(name)
            accepted = SSL._lib.X509_VERIFY_PARAM_set1_host(parameters, name, len(name))  # type: ignore[attr-defined] # noqa: SLF001
        else:
            accepted = SSL._lib.X509_VERIFY_PARAM_set1_ip(parameters, packed, len(packed))  # type: ignore[attr-defined] # noqa: SLF001
        if accepted != 1:
            raise ValueError("OpenSSL did not take the name to verify")
        if alpn:
            connection.set_alpn_protos(list(alpn))
        connection.set_connect_state()
        return connection

    def is_verifying(self, connection: SSL.Connection) -> bool:
        """Whether a finished handshake was made with our verifying context."""
        return connection.get_context() is self._upstream and connection.get_verify_mode() == SSL.VERIFY_PEER


@lru_cache(maxsize=1024)
def _packed(host: str) -> bytes | None:
    """An address as certificates have it; None for a name."""
    try:
        return ip_address(host).packed
    except ValueError:
        return None


def _client_context(leaf: Leaf) -> SSL.Context:
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.use_certificate(leaf.certificate)
    context.use_privatekey(leaf.key)
    for issuer in leaf.chain:
        context.add_extra_chain_cert(issuer)
    context.set_session_id(b"egress")
    context.set_alpn_select_callback(_select_alpn)
    return context


def _upstream_context(roots: Path) -> SSL.Context:
    context = SSL.Context(SSL.TLS_CLIENT_METHOD)
    context.set_min_proto_version(SSL.TLS1_2_VERSION)
    context.set_options(SSL.OP_NO_RENEGOTIATION | SSL.OP_NO_COMPRESSION)
    context.set_verify(SSL.VERIFY_PEER)
    context.load_verify_locations(str(roots))
    return context


def _select_alpn(_connection: SSL.Connection, offered: list[bytes]) -> bytes | _NoOverlappingProtocols:
    return next((protocol for protocol in offered if protocol in _OFFERED), SSL.NO_OVERLAPPING_PROTOCOLS)
