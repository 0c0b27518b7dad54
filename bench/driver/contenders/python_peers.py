"""The peers written in Python: stock mitmdump with a short addon, and proxy.py with a short plugin."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Final

from bench.driver.contenders import CREDENTIAL, NO_HOSTS_FILE, Absent, Contender, Lane, Site, output
from bench.driver.installing import CACHE
from bench.driver.machine import ALLOWED, free_port

ADDON: Final = f"""
from mitmproxy import http

def deny(flow):
    flow.response = http.Response.make(403, b"denied")

def http_connect(flow):
    if flow.request.host != "{ALLOWED}":
        deny(flow)

def request(flow):
    if flow.request.pretty_host != "{ALLOWED}" or flow.request.path == "/denied":
        deny(flow)
    elif flow.request.scheme == "https":
        flow.request.headers["Authorization"] = "Bearer {CREDENTIAL}"
"""
PLUGIN: Final = f"""
from proxy.http.exception import HttpRequestRejected
from proxy.http.proxy import HttpProxyBasePlugin

class Policy(HttpProxyBasePlugin):
    def before_upstream_connection(self, request):
        if request.host != b"{ALLOWED}":
            raise HttpRequestRejected(status_code=403, reason=b"denied")
        return request

    def handle_client_request(self, request):
        if self.flags.ca_cert_file and request.method != b"CONNECT":
            if request.path == b"/denied":
                raise HttpRequestRejected(status_code=403, reason=b"denied")
            request.add_header(b"Authorization", b"Bearer {CREDENTIAL}")
        return request
"""


def mitmdump(site: Site) -> Contender:
    """TLS opened, and plain HTTP."""
    program = Path(sys.executable).parent / "mitmdump"
    if not program.exists():
        raise Absent("mitmproxy is not installed beside this Python")
    if not site.private:
        raise Absent(NO_HOSTS_FILE)
    folder, port = site.place("mitmdump"), free_port()
    (folder / "addon.py").write_text(ADDON)
    command = [
        *(str(program), "-s", str(folder / "addon.py"), "--listen-host", "127.0.0.1", "--listen-port", str(port)),
        *("--set", f"confdir={folder}", "--set", f"ssl_verify_upstream_trusted_ca={site.origin.ca_file}"),
    ]
    started = site.start("mitmdump", command, port)
    version = output(str(program), "--version").rpartition(" ")[2]
    lanes = frozenset({Lane.INSPECTED, Lane.PLAIN})
    return Contender("mitmdump, addon", version, lanes, started, folder / "mitmproxy-ca-cert.pem")


def _proxy_py(site: Site, name: str, lanes: frozenset[Lane], flags: list[str]) -> Contender:
    program = CACHE / "python" / "bin" / "proxy"
    if not program.exists():
        raise Absent("the Python package proxy.py could not be fetched")
    if not site.private:
        raise Absent(NO_HOSTS_FILE)
    folder, port = site.place(name), free_port()
    (folder / "policy.py").write_text(PLUGIN)
    command = [
        *(str(program), "--hostname", "127.0.0.1", "--port", str(port), "--plugins", "policy.Policy"),
        *("--num-acceptors", "1", "--num-workers", "1", "--timeout", "600", *flags),
    ]
    started = site.start(name, command, port, {"PYTHONPATH": str(folder)})
    return Contender(name, output(str(program), "--version"), lanes, started, site.authority.certificate_file)


def proxy_py(site: Site) -> Contender:
    """Tunnels and plain HTTP."""
    return _proxy_py(site, "proxy.py", frozenset({Lane.TUNNEL, Lane.PLAIN}), [])


def proxy_py_inspecting(site: Site) -> Contender:
    """TLS opened."""
    name = "proxy.py, interception"
    if shutil.which("openssl") is None:
        raise Absent("it makes certificates by the program openssl, which is not installed")
    certificates = site.place(name) / "certificates"
    certificates.mkdir()
    flags = [
        *("--ca-cert-file", str(site.authority.certificate_file), "--ca-key-file", str(site.authority.key_file)),
        *("--ca-signing-key-file", str(site.authority.key_file), "--ca-cert-dir", str(certificates)),
        *("--ca-file", str(site.origin.ca_file)),
    ]
    return _proxy_py(site, name, frozenset({Lane.INSPECTED}), flags)
