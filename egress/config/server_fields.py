"""Reads what several parts of the server's configuration are written as: an address to listen on, one word of some."""

from __future__ import annotations

from typing import TYPE_CHECKING

from egress.config.fields import text, wrong
from egress.config.socket_fields import is_unix, read_unix
from egress.config.wording import did_you_mean, kind_of, one_of, quoted
from egress.policy import Refusal, parse_authority

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

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


def one_word[Meaning](words: Mapping[str, Meaning]) -> Callable[[object], Meaning]:
    """Reads one of these words."""

    def read(value: object) -> Meaning:
        if not isinstance(value, str):
            raise wrong(f"should be {one_of(words)}, not {kind_of(value)}")
        if value not in words:
            raise wrong(f"unknown word {quoted(value)}", did_you_mean(value, words))
        return words[value]

    return read
