"""TLS towards upstreams: the real certificate is verified for the judged host, or nothing is said.

1. One context for all upstreams: roots are read once, and sessions may resume.
2. The certificate names the host in its subject alternative names: a name, a wildcard that is a whole first label, or
   for an address the address itself. A common name counts for nothing.
3. TLS 1.2 or later, no renegotiation, ALPN `http/1.1`, no key log.
4. What is told of a failure is our sentence, or OpenSSL's of a certificate; never what the server sent.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from egress.errors import StateError
from egress.policy import Reason, Refusal
from egress.proxy.tls_socket import TlsSocket

if TYPE_CHECKING:
    import socket
    from pathlib import Path

# X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH. Python has sentences of its own for these two; every
# lane says OpenSSL's.
_MISMATCHES = {62: "hostname mismatch", 64: "IP address mismatch"}
_FAILED = Refusal(Reason.UPSTREAM_TLS, "the TLS handshake with the server failed")
_CLOSED = Refusal(Reason.UPSTREAM_UNREACHABLE, "connection closed")


class UpstreamTls:
    """Makes the client side of handshakes with upstreams. `roots`: a PEM file, the only roots that are trusted.

    Raises `StateError` if the file cannot be used.
    """

    def __init__(self, roots: Path) -> None:
        # Not `create_default_context`, which honours SSLKEYLOGFILE.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.verify_mode = ssl.CERT_REQUIRED
        context.check_hostname = True
        context.hostname_checks_common_name = False
        context.set_alpn_protocols(["http/1.1"])
        try:
            context.load_verify_locations(roots)
        except OSError as error:
            raise StateError(
                f"cannot read the trusted roots in `{roots}`: {error.strerror or type(error).__name__}",
                hint="it is written at start: restart, and see that nothing else writes there",
            ) from error
        context.sslsocket_class = TlsSocket
        self._context = context

    def wrap(self, sock: socket.socket, host: str, session: ssl.SSLSession | None) -> ssl.SSLSocket:
        """The client side of a connection to `host`, before its handshake. `sock` gives its descriptor away.

        `host` is a canonical name, or an address without brackets; a name is sent as SNI.

        `session` is the `session` of a finished connection that this object wrapped for the SAME host: a handshake
        that resumes verifies no certificate, it goes on with whom the session was made. A TLS 1.2 session is worth
        keeping right after the handshake. A TLS 1.3 one is not before the server's ticket was read, which comes with
        its first answer: keep it then, if `session.has_ticket`. The server may always decline it.

        Raises OSError, and ValueError for what is no host; `sock` is still to be closed then.
        """
        return self._context.wrap_socket(
            sock,
            server_hostname=host,
            session=session,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )


def failure_of(error: OSError) -> Refusal:
    """What is recorded and told of a handshake with an upstream that ended in `error`; the same in every lane."""
    if isinstance(error, ssl.SSLCertVerificationError):
        said = _MISMATCHES.get(error.verify_code, error.verify_message)
        return Refusal(Reason.UPSTREAM_TLS, f"Certificate verify failed: {said}")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        return _FAILED
    return _CLOSED
