"""Where the key of the secret store comes from, as configuration says it. Plain values; none holds a key."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import Field

from egress.config.home import home
from egress.config.policy_model import Strict, TextField
from egress.config.wording import one_of

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_VARIABLE: Final = "EGRESS_SECRETS_KEY"
DEFAULT_CREDENTIAL: Final = "egress-secrets-key"


@dataclass(frozen=True, slots=True)
class KeyFile:
    """The key is in a file, which is made with the store."""

    path: Path


@dataclass(frozen=True, slots=True)
class KeyVariable:
    """The key is in an environment variable."""

    name: str


@dataclass(frozen=True, slots=True)
class KeyCommand:
    """The key is what a program prints. No shell; `seconds` it may take."""

    argv: tuple[str, ...]
    seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class KeyKeyring:
    """The key is in the operating system's keyring."""

    service: str
    user: str


@dataclass(frozen=True, slots=True)
class KeySystemd:
    """The key is a credential that systemd hands to the service, under this name."""

    name: str


type KeySource = KeyFile | KeyVariable | KeyCommand | KeyKeyring | KeySystemd


class KeyringModel(Strict):
    """An entry of the keyring."""

    service: TextField = "egress"
    user: TextField = "secrets-key"


class SecretsKeyModel(Strict):
    """`secrets_key` of `egress.yaml`: one of these."""

    file: TextField | None = None
    env: TextField | None = None
    command: Annotated[list[TextField], Field(min_length=1)] | None = None
    keyring: KeyringModel | None = None
    systemd: TextField | None = None


def stated_key(flag: Path | None, model: SecretsKeyModel | None, folder: Path) -> KeySource | str | None:
    """What the flag, or else the file in `folder`, says; None if neither does; else what is wrong, in a sentence."""
    if flag is not None:
        return KeyFile(flag)
    return None if model is None else key_source(model, folder)


def key_source(model: SecretsKeyModel, folder: Path) -> KeySource | str:
    """The one source that is named; else what is wrong, in a sentence."""
    named = [name for name in SecretsKeyModel.model_fields if getattr(model, name) is not None]
    if len(named) != 1:
        given = one_of(named).replace(" or ", " and ") if named else "none"
        return f"the store has one key, from one source, and this names {given}"
    match named[0]:
        case "file":
            return KeyFile(folder / str(model.file))
        case "env":
            return KeyVariable(str(model.env))
        case "command":
            return KeyCommand(tuple(model.command or ()))
        case "systemd":
            return KeySystemd(str(model.systemd))
        case _:
            keyring = model.keyring or KeyringModel()
            return KeyKeyring(keyring.service, keyring.user)


def key_variable(stated: KeySource | None, env: Mapping[str, str]) -> str | None:
    """The variable that holds the key, if one does. `stated`: what configuration says."""
    if stated is None:
        return DEFAULT_VARIABLE if env.get(DEFAULT_VARIABLE) else None
    return stated.name if isinstance(stated, KeyVariable) else None


def default_key_source(env: Mapping[str, str], *, user: int) -> KeySource:
    """Without configuration: the variable, else systemd's credential if it is there, else the file of this `user`.

    Raises StateError for a user without a home, who has no such file.
    """
    if env.get(DEFAULT_VARIABLE):
        return KeyVariable(DEFAULT_VARIABLE)
    folder = env.get("CREDENTIALS_DIRECTORY", "")
    if folder.startswith("/") and (Path(folder) / DEFAULT_CREDENTIAL).exists():
        return KeySystemd(DEFAULT_CREDENTIAL)
    if user == 0:
        return KeyFile(Path("/etc/egress/secrets.key"))
    named = env.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a path that is not absolute is to be ignored.
    instead = "name the key of the secret store: `--secrets-key-file`, or `secrets_key` of the configuration"
    below = Path(named) if named.startswith("/") else home(env, instead) / ".config"
    return KeyFile(below / "egress" / "secrets.key")
