"""Name servers as they are written: `10.0.0.53`, `10.0.0.53:5353`, `[fd00::53]:53`, one or a list of them."""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import AfterValidator, BeforeValidator, PlainValidator

from egress.config.dns import DNS_PORT
from egress.config.fields import text, wrong
from egress.config.wording import quoted

if TYPE_CHECKING:
    from egress.config.dns import NameServer

SERVER_HINT: Final = "write `10.0.0.53`, or `10.0.0.53:5353`"
_LAST_PORT: Final = 65_535
_MOST: Final = 8


def _server(value: object) -> NameServer:
    host, port = address_and_port(text(value), DNS_PORT, SERVER_HINT)
    if not port:
        raise wrong("port 0 is no port to ask", SERVER_HINT)
    return host, port


def address_and_port(written: str, default: int | None, hint: str) -> tuple[str, int]:
    """An IP address with a port; with `default`, also without."""
    bare = written.removeprefix("[").removesuffix("]") if written.endswith("]") else written
    try:
        if default is not None:
            return str(ip_address(bare)), default
    except ValueError:
        pass
    host, _, port = written.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ip_address(host[1:-1] if bracketed else host)
        number = int(port) if port.isascii() and port.isdigit() else -1
    except ValueError:
        raise wrong(f"{quoted(written)} is not an address and port", hint) from None
    if not 0 <= number <= _LAST_PORT or bracketed != isinstance(address, IPv6Address):
        raise wrong(f"{quoted(written)} is not an address and port", hint)
    return str(address), number


def listed(value: object) -> object:
    """A list, also where one stands alone."""
    return [value] if isinstance(value, str) else value


def _few(servers: list[tuple[str, int]]) -> list[tuple[str, int]]:
    if not servers:
        raise wrong("there is nobody to ask", SERVER_HINT)
    if len(servers) > _MOST:
        raise wrong(f"these are more than {_MOST} name servers", "name those that answer")
    return servers


ServerField = Annotated[tuple[str, int], PlainValidator(_server, json_schema_input_type=str)]
type Servers = Annotated[list[ServerField], BeforeValidator(listed, json_schema_input_type=str | list[str])]
type FewServers = Annotated[Servers, AfterValidator(_few)]
