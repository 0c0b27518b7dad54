"""An origin for benchmarks in a process of its own: TLS, HTTP/1.1 and HTTP/2, always the same 600 bytes.

python bench/_origin.py CERTIFICATE KEY PORT
"""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
import sys
from typing import TYPE_CHECKING

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

BODY = b"x" * 600
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 600\r\n\r\n" + BODY
FIELDS = [(":status", "200"), ("content-type", "application/json"), ("content-length", "600")]


class Origin(asyncio.Protocol):
    """Answers every request that bears what the proxy injects."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Speak what was negotiated."""
        self._transport = transport
        self._held = b""
        self._http2: h2.connection.H2Connection | None = None
        if transport.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
            config = h2.config.H2Configuration(client_side=False, header_encoding="utf-8")
            self._http2 = h2.connection.H2Connection(config)
            self._http2.initiate_connection()

    def data_received(self, data: bytes) -> None:
        """Answer each head that is whole."""
        if self._http2 is not None:
            self._transport.write(_answers(self._http2, data))  # type: ignore[attr-defined]
            return
        *heads, self._held = (self._held + data).split(b"\r\n\r\n")
        for head in heads:
            _check(b"Bearer" in head)
            self._transport.write(ANSWER)  # type: ignore[attr-defined]


def _answers(connection: h2.connection.H2Connection, data: bytes) -> bytes:
    for event in connection.receive_data(data):
        if isinstance(event, h2.events.RequestReceived):
            _check("Bearer" in dict(event.headers)["authorization"])
            connection.send_headers(event.stream_id, FIELDS)
            connection.send_data(event.stream_id, BODY, end_stream=True)
    return connection.data_to_send()


def _check(injected: object) -> None:
    if not injected:
        raise SystemExit("a request came without what the proxy injects")


async def serve(certificate: str, key: str, port: str) -> None:
    """Serve until killed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", int(port), ssl=context)
    await server.serve_forever()


def make_certificates(folder: Path, host: str) -> tuple[Path, Path, Path]:
    """A CA, and a certificate and key for the origin."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench CA")])

    def builder(name: x509.Name, public: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        made = x509.CertificateBuilder().subject_name(name).issuer_name(ca_name).public_key(public)
        made = made.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
        return made.not_valid_after(now + dt.timedelta(days=2))

    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    ca = builder(ca_name, ca_key.public_key())
    ca = ca.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = builder(x509.Name([]), key.public_key()).add_extension(names, critical=True)
    paths = folder / "origin-ca.pem", folder / "origin.pem", folder / "origin.key"
    for path, made in zip(paths, (ca, leaf), strict=False):
        path.write_bytes(made.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    paths[2].write_bytes(key.private_bytes(pem, form, serialization.NoEncryption()))
    return paths


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
