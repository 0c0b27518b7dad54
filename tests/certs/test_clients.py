"""Real clients and strict verifiers accept what we sign, and only for the host it was signed for."""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization

from egress.certs import Authority, write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from egress.certs import Leaf

LONG = "a" * 60 + "." + "b" * 60 + ".example.com"
HOSTS = ["localhost", "api.example.com", "under_score.example.com", "127.0.0.1", "::1", LONG]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A fresh CA."""
    return Authority.load_or_create(tmp_path / "ca")


@pytest.fixture
def bundle(tmp_path: Path, authority: Authority) -> Path:
    """The bundle that clients get, with the public roots in it."""
    path = tmp_path / "bundle.pem"
    write_bundle(path, authority.certificate_pem)
    return path


def chain_file(leaf: Leaf, path: Path) -> Path:
    """Certificate, chain and key in one PEM file, as Python's ssl loads it."""
    key = leaf.key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(leaf.certificate_pem + key)
    return path


@contextlib.contextmanager
def serving(context: ssl.SSLContext) -> Iterator[int]:
    """A TLS server on a free port that answers each connection with `200 fine`."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(10)
                with context.wrap_socket(connection, server_side=True) as stream:
                    stream.recv(65536)
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine")

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()


@pytest.fixture
def port(authority: Authority, tmp_path: Path) -> Iterator[int]:
    """A server with our leaf for `localhost`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain_file(authority.leaf("localhost"), tmp_path / "server.pem"))
    with serving(context) as number:
        yield number


@pytest.mark.parametrize("host", HOSTS)
def test_openssl_strict_accepts_ca_and_leaf(authority: Authority, tmp_path: Path, host: str) -> None:
    """`openssl verify -x509_strict` for a TLS server of that very name or address."""
    leaf = tmp_path / "leaf.pem"
    leaf.write_bytes(authority.leaf(host).certificate_pem)
    check = ["-verify_ip", host] if ":" in host or host[0].isdigit() else ["-verify_hostname", host]
    command = ["openssl", "verify", "-x509_strict", "-check_ss_sig", "-purpose", "sslserver", *check]
    done = subprocess.run(
        [*command, "-CAfile", authority.certificate_path, leaf], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, f"{leaf}: OK\n"), done.stderr


def handshake(authority: Authority, leaf: Leaf, tmp_path: Path, host: str) -> str | None:
    """The name of the verification error that Python's strict verifier has, or None; over memory, no socket."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(chain_file(leaf, tmp_path / "server.pem"))
    client_context = ssl.create_default_context(cadata=authority.certificate_pem.decode())
    client_context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                return error.verify_message
    return None


@pytest.mark.parametrize("host", HOSTS)
def test_python_strict_accepts_the_leaf_for_its_host_alone(authority: Authority, tmp_path: Path, host: str) -> None:
    """VERIFY_X509_STRICT, Python 3.13's default, finds no fault; another host's name is one."""
    assert handshake(authority, authority.leaf(host), tmp_path, host) is None
    other = handshake(authority, authority.leaf(host), tmp_path, "other.example.com")
    assert other is not None
    assert "mismatch" in other


def test_another_ca_of_ours_does_not_vouch_for_the_leaf(authority: Authority, tmp_path: Path) -> None:
    """Trust is in the key, not in the name Egress."""
    other = Authority.load_or_create(tmp_path / "other")
    assert handshake(authority, other.leaf("example.com"), tmp_path, "example.com") is not None


NODE = """
const https = require('https');
https.get('https://localhost:%d/', r => r.on('data', d => process.stdout.write(d)))
  .on('error', e => { console.log(e.code); process.exit(1); });
"""
PYTHON = {
    "requests": "import requests; print(requests.get('https://localhost:%d/').text)",
    "httpx": "import httpx; print(httpx.get('https://localhost:%d/').text)",
    "urllib": "import urllib.request as u; print(u.urlopen('https://localhost:%d/').read().decode())",
}


def run(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a client with these variables and no others of the kind."""
    env = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", **variables}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_curl_accepts_with_the_ca_and_with_the_bundle_and_refuses_without(
    authority: Authority, bundle: Path, port: int
) -> None:
    """--cacert and CURL_CA_BUNDLE; without either curl's error is the one for an unknown CA (60)."""
    url = f"https://localhost:{port}/"
    assert run(["curl", "-sS", "--cacert", str(authority.certificate_path), url]).stdout == "fine"
    assert run(["curl", "-sS", url], CURL_CA_BUNDLE=str(bundle)).stdout == "fine"
    assert run(["curl", "-sS", url]).returncode == 60


def test_node_accepts_with_the_extra_ca_and_refuses_without(authority: Authority, port: int) -> None:
    """NODE_EXTRA_CA_CERTS adds our CA to node's own roots."""
    command = ["node", "-e", NODE % port]
    assert run(command, NODE_EXTRA_CA_CERTS=str(authority.certificate_path)).stdout == "fine"
    assert run(command).returncode == 1


@pytest.mark.parametrize(
    ("library", "variable"),
    [("requests", "REQUESTS_CA_BUNDLE"), ("httpx", "SSL_CERT_FILE"), ("urllib", "SSL_CERT_FILE")],
)
def test_python_clients_accept_with_their_variable_and_refuse_without(
    bundle: Path, port: int, library: str, variable: str
) -> None:
    """Each library reads the variable that the guide names for it."""
    command = [sys.executable, "-c", PYTHON[library] % port]
    assert run(command, **{variable: str(bundle)}).stdout == "fine\n"
    refused = run(command)
    assert refused.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in refused.stderr


def test_git_accepts_with_its_variable_and_refuses_without(bundle: Path, port: int) -> None:
    """GIT_SSL_CAINFO: to git the answer is a repository without refs."""
    command = ["git", "ls-remote", f"https://localhost:{port}/x.git"]
    accepted = run(command, GIT_SSL_CAINFO=str(bundle), GIT_TERMINAL_PROMPT="0")
    assert (accepted.returncode, accepted.stderr) == (0, "")
    refused = run(command, GIT_TERMINAL_PROMPT="0")
    assert "certificate" in refused.stderr


def test_npm_accepts_with_its_variable_and_refuses_without(bundle: Path, port: int, tmp_path: Path) -> None:
    """npm_config_cafile replaces npm's roots: the answer is no JSON, but npm got to read it."""
    command = ["npm", "view", "x", "--registry", f"https://localhost:{port}/", "--fetch-retries", "0"]
    accepted = run(command, npm_config_cafile=str(bundle), npm_config_cache=str(tmp_path / "one"))
    assert "SELF_SIGNED" not in accepted.stderr
    assert "UNABLE_TO" not in accepted.stderr
    assert "JSON" in accepted.stderr
    refused = run(command, npm_config_cache=str(tmp_path / "two"))
    assert "UNABLE_TO" in refused.stderr or "SELF_SIGNED" in refused.stderr
