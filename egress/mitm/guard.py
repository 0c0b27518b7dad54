"""Puts our own behaviour in the place of mitmproxy's where mitmproxy would fail open, once a process.

INVARIANT fail-closed: `install` replaces methods on mitmproxy's classes, not addons that may be removed. Without an
attached lane (a script that broke, or was taken away on reload: see `attachment`) the handler dials nothing and
forwards nothing.
"""

from __future__ import annotations

from mitmproxy.proxy import mode_servers
from mitmproxy.proxy.layers import http as http_layers
from mitmproxy.proxy.layers.http import _http1, _http2

from egress.errors import StartError
from egress.mitm import dialling, draining, handler, hook_runs, http1, http2, stream


class _Installed:
    done: bool = False


def install() -> None:
    """Replace what fails open in mitmproxy's classes. There is no way back."""
    if _Installed.done:
        return
    replacements: tuple[tuple[object, str, object], ...] = (
        (mode_servers.ProxyConnectionHandler, "handle_hook", hook_runs.handle_hook),
        (mode_servers.ProxyConnectionHandler, "open_connection", dialling.open_connection),
        (mode_servers.ProxyConnectionHandler, "server_event", handler.server_event),
        (mode_servers.ProxyConnectionHandler, "drain_writers", draining.drain_writers),
        (mode_servers.ProxyConnectionHandler, "log", handler.log),
        (_http1.Http1Server, "read_headers", http1.read_request),
        (_http1.Http1Client, "read_headers", http1.read_response),
        (_http1, "ChunkedReader", http1.BodyReader),
        (_http1, "make_error_response", http1.error_response),
        (_http2, "format_error", http2.error_body),
        (_http2.Http2Server, "protocol_error", http2.protocol_error),
        (_http2.Http2Server, "handle_h2_event", http2.handle_event),
        (http_layers, "HttpStream", stream.GuardedStream),
    )
    for owner, name, replacement in replacements:
        if not hasattr(owner, name):
            raise StartError(f"this mitmproxy has no {name} to replace", hint="install the version of the lock file")
        setattr(owner, name, replacement)
    _Installed.done = True
