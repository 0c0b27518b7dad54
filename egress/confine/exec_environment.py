"""The environment of a confined command: ours, less what leads to secrets and other programs, with what it needs.

1. out    variables that are sources of secrets, those of Egress itself, and those that name sockets, displays and
          agents, which are out of reach and would only be waited for
2. in     placeholders, where cloud SDKs find the identity endpoints, the proxy and its CA
3. user   of another user: its own HOME, USER and LOGNAME, and nothing that names our folders
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from egress.config import EnvSource, key_variable
from egress.confine.client_files import ClientFiles
from egress.confine.environment import child_environment
from egress.confine.exec_plan import BUNDLE, CA, PROXY_URL, TRUST_FOLDER
from egress.confine.exec_trust import LOCAL
from egress.credentials import CredentialStore

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from egress.config import SecretDefinition, ServerConfig
    from egress.confine.exec_plan import User

_SOCKETS: Final = frozenset(
    {
        "SSH_AUTH_SOCK",
        "SSH_AGENT_PID",
        "SSH_AGENT_LAUNCHER",
        "GPG_AGENT_INFO",
        "DOCKER_HOST",
        "CONTAINER_HOST",
        "PODMAN_HOST",
        "BUILDKIT_HOST",
        "CONTAINERD_ADDRESS",
        "DISPLAY",
        "WAYLAND_DISPLAY",
        "XAUTHORITY",
        "PULSE_SERVER",
        "TMUX",
        "TMUX_PANE",
        "STY",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "INVOCATION_ID",
        "JOURNAL_STREAM",
        "CREDENTIALS_DIRECTORY",
        "VSCODE_IPC_HOOK_CLI",
        "VSCODE_GIT_IPC_HANDLE",
        "VSCODE_GIT_ASKPASS_MAIN",
        "VSCODE_GIT_ASKPASS_NODE",
        "GIT_ASKPASS",
        "SSH_ASKPASS",
        "SUDO_ASKPASS",
        "KITTY_LISTEN_ON",
        "WEZTERM_UNIX_SOCKET",
        "ALACRITTY_SOCKET",
        "ZELLIJ",
        "SWAYSOCK",
        "I3SOCK",
        "HYPRLAND_INSTANCE_SIGNATURE",
        "NVIM",
        "NVIM_LISTEN_ADDRESS",
        "EMACS_SOCKET_NAME",
        "WSL_INTEROP",
        "SYSTEMD_EXEC_PID",
        "SESSION_MANAGER",
    }
)
_PREFIXES: Final = ("DBUS_", "EGRESS_", "SUDO_")
_FOLDERS_OF_USER: Final = ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME", "MAIL", "OLDPWD")


def secret_variables(config: ServerConfig, secrets: Mapping[str, SecretDefinition], env: Mapping[str, str]) -> set[str]:
    """The variables of `env` that values of secrets, the store's key or a proxy's password are read from."""
    found = set(CredentialStore(secrets, env=env).scrub_environment(dict(env)))
    if (key := key_variable(config.secrets_key, env)) is not None:
        found.add(key)
    if config.upstream.proxy is not None and isinstance(config.upstream.proxy.password, EnvSource):
        found.add(config.upstream.proxy.password.variable)
    return found


def scrubbed(env: Mapping[str, str], secret: set[str], allowed: Iterable[Path]) -> dict[str, str]:
    """`env` without what must not be there. A variable that names an allowed socket stays."""
    sockets = {str(path) for path in allowed}
    return {
        name: value
        for name, value in env.items()
        if name not in secret
        and (not (name in _SOCKETS or name.startswith(_PREFIXES)) or value.removeprefix("unix://") in sockets)
    }


def confined_environment(env: Mapping[str, str], user: User, given: Mapping[str, str]) -> dict[str, str]:
    """The whole of it, of a scrubbed one. `given`: placeholders and the like."""
    files = ClientFiles.at(Path(TRUST_FOLDER))
    proxy = dict(child_environment(PROXY_URL, Path(BUNDLE), Path(CA), no_proxy=LOCAL, files=files))
    own = {"XDG_RUNTIME_DIR": f"/run/user/{user.uid}"}
    if user.change:
        env = {name: value for name, value in env.items() if name not in _FOLDERS_OF_USER}
        home = user.home if Path(user.home).is_dir() else "/tmp"  # noqa: S108 - the command's own
        own |= {"HOME": home, "USER": user.name, "LOGNAME": user.name}
    # A folder of /tmp is not there any more.
    temporary = {name for name in ("TMPDIR", "TMP", "TEMP") if env.get(name, "/tmp") != "/tmp"}  # noqa: S108 - likewise
    kept = {name: value for name, value in env.items() if name not in temporary}
    return {**kept, **own, **given, **proxy}
