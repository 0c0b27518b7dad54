"""The HTTP proxy of @anthropic-ai/sandbox-runtime, on its own: tunnels and plain HTTP, and TLS opened."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from bench.driver.contenders import CREDENTIAL, NO_HOSTS_FILE, Absent, Contender, Lane, Site
from bench.driver.installing import CACHE, found
from bench.driver.machine import ALLOWED, free_port

if TYPE_CHECKING:
    from pathlib import Path

PACKAGE: Final = CACHE / "npm" / "node_modules" / "@anthropic-ai" / "sandbox-runtime"
SCRIPT: Final = """
import { readFileSync } from "node:fs";
import { createHttpProxyServer } from "%(package)s/dist/sandbox/http-proxy.js";
import { createMitmCA } from "%(package)s/dist/sandbox/mitm-ca.js";

const [port, certificate, key, roots] = process.argv.slice(2);
const options = {
  filter: (_port, host) => {
    const allowed = host === "%(host)s";
    console.log(new Date().toISOString(), host, allowed);
    return allowed;
  },
};
if (certificate) {
  options.mitmCA = createMitmCA({ caCertPath: certificate, caKeyPath: key });
  options.tlsTerminateUpstreamCA = readFileSync(roots);
  options.filterRequest = async (request) => {
    const denied = new URL(request.url).pathname === "/denied";
    console.log(new Date().toISOString(), request.method, request.url, denied);
    return denied ? { action: "deny", reason: "denied" } : { action: "allow" };
  };
  options.mutateHeaders = (headers) => { headers["authorization"] = "Bearer %(credential)s"; };
}
createHttpProxyServer(options).listen(Number(port), "127.0.0.1");
"""


def _start(site: Site, name: str, lanes: frozenset[Lane], arguments: list[Path]) -> Contender:
    node = found("node")
    if node is None or not (PACKAGE / "dist" / "sandbox" / "http-proxy.js").exists():
        raise Absent("node or the npm package @anthropic-ai/sandbox-runtime is not there")
    if not site.private:
        raise Absent(NO_HOSTS_FILE)
    script, port = site.place(name) / "proxy.mjs", free_port()
    script.write_text(SCRIPT % {"package": PACKAGE, "host": ALLOWED, "credential": CREDENTIAL})
    program = site.start(name, [node, str(script), str(port), *map(str, arguments)], port)
    version = json.loads((PACKAGE / "package.json").read_text())["version"]
    return Contender(name, version, lanes, program, site.authority.certificate_file)


def tunnel(site: Site) -> Contender:
    """Tunnels and plain HTTP."""
    return _start(site, "sandbox-runtime", frozenset({Lane.TUNNEL, Lane.PLAIN}), [])


def inspecting(site: Site) -> Contender:
    """TLS opened, by the options that its manager would set."""
    arguments = [site.authority.certificate_file, site.authority.key_file, site.origin.ca_file]
    return _start(site, "sandbox-runtime, TLS terminated", frozenset({Lane.INSPECTED}), arguments)
