"""The shape of the roads to the proxy besides `listen`: `forwards` and `transparent`; and their reading into values.

1. a forward's listener is written as in `listen`, its destination with its port: nothing is guessed
2. an address serves one purpose: what is said to it is read in one way
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, PlainValidator
from pydantic_core import PydanticCustomError

from egress.config.fields import one_word, text, wrong
from egress.config.listening import UnixListener
from egress.config.policy_model import Strict
from egress.config.server_config import Forward, TransparentConfig, TransparentMode
from egress.config.server_fields import read_listen
from egress.config.socket_fields import is_unix, place_all
from egress.config.wording import kind_of, quoted
from egress.policy import Refusal, parse_authority

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from egress.config.listening import ListenAddress
    from egress.config.wording import Place
    from egress.policy import Host

# A place under the key, what is wrong there, and what to write.
type Mistake = tuple[Place, str, str]

_FORWARD = "write `127.0.0.1:5432: db.corp.example:5432`"
_TRANSPARENT = "write `0.0.0.0:3129`"


def read_destination(value: object) -> tuple[Host, int]:
    """`HOST:PORT`, where HOST is a name or an address."""
    written = text(value)
    parsed = parse_authority(written, None)
    if isinstance(parsed, Refusal):
        raise wrong(f"{quoted(written)} is no destination: {parsed.detail}", _FORWARD)
    return parsed


def read_redirected(value: object) -> tuple[str, int]:
    """An address and port to which connections are redirected."""
    if is_unix(value):
        raise wrong("connections are redirected to an address, never to a unix socket", _TRANSPARENT)
    address = read_listen(value)
    if isinstance(address, UnixListener) or address[1] == 0:
        raise wrong("a firewall's rule names the port, so it cannot be any free one", _TRANSPARENT)
    return address


def _forwards(value: object) -> dict[object, object]:
    if not isinstance(value, dict):
        raise wrong(f"should name a destination for each listener, not {kind_of(value)}", _FORWARD)
    return value


def _listed(value: object) -> object:
    if value == []:
        raise wrong("this list is empty, so nothing could be redirected", _TRANSPARENT)
    return value if isinstance(value, list) else [value]


ForwardsField = Annotated[dict[Any, Any], PlainValidator(_forwards, json_schema_input_type=dict[str, str])]
RedirectedField = Annotated[tuple[str, int], PlainValidator(read_redirected, json_schema_input_type=str)]
read_mode = one_word({mode.value: mode for mode in TransparentMode})


class TransparentModel(Strict):
    """Where redirected connections come to."""

    listen: Annotated[list[RedirectedField], BeforeValidator(_listed)]
    mode: Annotated[TransparentMode, PlainValidator(read_mode, json_schema_input_type=str)] = TransparentMode.REDIRECT


def read_forwards(stated: Mapping[object, object], folder: Path) -> tuple[tuple[Forward, ...], list[Mistake]]:
    """The forwards, and what is wrong with which of them."""
    found: list[Forward] = []
    mistakes: list[Mistake] = []
    for key, value in stated.items():
        place = (key,) if isinstance(key, str | int) else ()
        try:
            listen, (host, port) = read_listen(key), read_destination(value)
        except PydanticCustomError as error:
            context = error.context or {}
            mistakes.append((place, str(context["message"]), str(context["hint"])))
            continue
        (listen,), problems = place_all([listen], folder)
        mistakes += [(place, message, hint) for _, message, hint in problems]
        found.append(Forward(listen, host, port))
    return tuple(found), mistakes


def clashes(
    listens: Sequence[ListenAddress], forwards: Sequence[Forward], transparent: TransparentConfig | None
) -> Iterator[tuple[str, ListenAddress]]:
    """The addresses of `forwards` and `transparent` that serve something else already, with the key that is second."""
    taken = {address for address in listens if _fixed(address)}
    others = [("forwards", forward.listen) for forward in forwards]
    others += [("transparent", address) for address in (() if transparent is None else transparent.listens)]
    for key, address in others:
        if _fixed(address) and address in taken:
            yield key, address
        taken.add(address)


def _fixed(address: ListenAddress) -> bool:
    # Port 0 is another one each time.
    return isinstance(address, UnixListener) or address[1] != 0
