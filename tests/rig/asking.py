"""A site that allows everything on its host but one path, and requests to it as bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rig.modes import HOST, Site
from rig.proxy import LOOPBACK, SECRET, Proxy, port_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.origins import Origins

DENIED = "/denied"


def denying_site(start: Callable[..., Proxy], origin: Origins) -> Site:
    """The site that allows everything on its host but DENIED."""
    port = port_of(origin)
    policy = f"""
version: 1
secrets:
  canary: {{env: CANARY, hosts: ["{HOST}:{port}"]}}
rules:
  - {{deny: "{HOST}:{port}", paths: [{DENIED}]}}
  - {{allow: "{HOST}:{port}", protocol: [https, wss], inject: {{X-Api-Key: "${{canary}}"}}, {LOOPBACK}}}
  - {{allow: "{HOST}:{port}", protocol: [http, ws], {LOOPBACK}}}
"""
    return Site(start(policy, HOST, env={"CANARY": SECRET}), origin, port)


def line(site: Site, path: str = "/", method: str = "GET", *fields: str, scheme: bool = False) -> bytes:
    """A request in origin-form, or with `scheme` in absolute-form."""
    target = f"http://{HOST}:{site.port}{path}" if scheme else path
    rows = [f"{method} {target} HTTP/1.1", f"Host: {HOST}:{site.port}", *fields, "", ""]
    return "\r\n".join(rows).encode()


def paths(site: Site) -> list[bytes]:
    """What the origin was asked for, in order."""
    return [one.line.split(b" ")[1] for record in site.origin.connections for one in record.requests]
