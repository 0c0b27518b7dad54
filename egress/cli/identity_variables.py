"""The variables by which cloud SDKs find the identity endpoints that the proxy answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from egress.config import ServerConfig

_AZURE: Final = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")
_AWS: Final = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN")
_GOOGLE: Final = ("GCE_METADATA_HOST", "GCE_METADATA_IP")


def identity_variables(server: ServerConfig) -> dict[str, str]:
    """Those of the clouds that are configured. Raises StateError for the state folder's key."""
    from egress.config import told_listener  # noqa: PLC0415  # what a command needs is loaded by the command
    from egress.credentials import identity_token  # noqa: PLC0415
    from egress.gate.endpoints import KEYS_PATH, SERVICE_PATH  # noqa: PLC0415

    identity = server.identity
    if identity is None:
        return {}
    if not identity.listen[1]:
        message = "`identity: listen` has port 0, and only the proxy knows which it picked; name a port there"
        raise typer.BadParameter(message, param_hint="--config")
    where, token = told_listener(identity.listen), identity_token(server.state_dir.absolute())
    azure = dict(zip(_AZURE, (f"http://{where}{SERVICE_PATH}", token), strict=True))
    aws = dict(zip(_AWS, (f"http://{where}{KEYS_PATH}", token), strict=True))
    return {
        **(azure if identity.azure else {}),
        **(aws if identity.aws is not None else {}),
        **(dict.fromkeys(_GOOGLE, where) if identity.google is not None else {}),
    }


def identity_names(server: ServerConfig) -> tuple[str, ...]:
    """The variables alone."""
    return () if server.identity is None else (*_AZURE, *_AWS, *_GOOGLE)
