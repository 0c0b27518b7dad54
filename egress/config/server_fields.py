"""Reads an address to listen on, as several parts of the server's configuration have it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config.fields import text, wrong
from egress.config.socket_fields import is_unix, read_unix
from egress.config.wording import quoted
from egress.policy import Refusal, parse_authority

if TYPE_CHECKING:
    from egress.config.listening import ListenAddress


def read_listen(value: object) -> ListenAddress:
    """`HOST:PORT`, where HOST is an address or `localhost`, and port 0 picks a free one; or a unix socket."""
    if is_unix(value):
        return read_unix(value)
    hint = "write `127.0.0.1:3128`; port 0 picks a free one"
    if isinstance(value, int) and not isinstance(value, bool):
        raise wrong("the address to listen on is missing", f"write `127.0.0.1:{value}`")
    written = text(value)
    # Port 0 is no destination, so the policy's grammar refuses it; here it means "any free port".
    free = written.endswith(":0")
    parsed = parse_authority(written[:-1] + "1" if free else written, None)
    if isinstance(parsed, Refusal):
        raise wrong(f"{quoted(written)} is not an address and port to listen on", hint)
    host, port = parsed
    if host.address is None and host.text != "localhost":
        raise wrong(f"{quoted(host.text)} is a name; a listener needs an address", hint)
    return ("127.0.0.1" if host.address is None else host.text, 0 if free else port)
