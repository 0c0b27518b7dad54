"""`egress env`: the lines that send a shell's clients through the proxy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import CaDir, ConfigFile, Policies, Presets, StateDir
from egress.confine.formats import Shell, set_text, unset_text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from egress.cli.client_trust import Road, Wanted
    from egress.config import ListenAddress, ServerConfig

Listen = Annotated[
    str | None,
    typer.Option("--listen", metavar="HOST:PORT", help="Where the proxy listens. Default: as configured."),
]
Bundle = Annotated[
    Path | None,
    typer.Option("--bundle", metavar="FILE", help="Where to write the CA bundle. Default: as --files says."),
]
UpstreamCa = Annotated[
    list[Path] | None,
    typer.Option("--upstream-ca", metavar="PEM", help="More roots for the bundle, for tunnels. May be repeated."),
]
NoProxy = Annotated[
    list[str] | None,
    typer.Option("--no-proxy", metavar="HOST", help="A host to reach directly. May be repeated. Default: none."),
]
ShellOption = Annotated[Shell, typer.Option("--shell", help="How to write the variables.")]
Unset = Annotated[bool, typer.Option("--unset", help="Print what removes the variables again.")]
AsDotenv = Annotated[bool, typer.Option("--dotenv", help="The same as --shell dotenv.")]
AsJson = Annotated[bool, typer.Option("--json", help="The same as --shell json.")]
AsDocker = Annotated[
    bool, typer.Option("--docker", help="Options for `docker run`: variables and the mount they need.")
]
AsK8s = Annotated[
    bool, typer.Option("--k8s", help="ConfigMaps for Kubernetes: the variables, and the files they name.")
]
Files = Annotated[
    Path | None,
    typer.Option(
        "--files",
        metavar="DIR",
        help="Where to write what the variables name: bundle, CA, Java's store, files for apt, wget and PHP. "
        "Default: in the state folder, which is closed to other users.",
    ),
]
At = Annotated[
    Path, typer.Option("--at", metavar="DIR", help="For docker and k8s: where the container sees these files.")
]
ProxyOption = Annotated[
    str | None,
    typer.Option(
        "--proxy", metavar="HOST:PORT", help="Where clients reach the proxy, if not where it listens: in a container."
    ),
]
Socks = Annotated[bool, typer.Option("--socks", help="Send clients that speak SOCKS through SOCKS5, names unresolved.")]
Redirected = Annotated[
    bool,
    typer.Option(
        "--redirected", help="For clients whose connections are redirected to the proxy: trust alone, and no proxy."
    ),
]
WithoutJava = Annotated[
    bool, typer.Option("--without-java", help="No JAVA_TOOL_OPTIONS: each JVM prints a line about it on stderr.")
]
_IN_CONTAINER = (Shell.DOCKER, Shell.K8S, Shell.K8S_ENV)


def register(app: typer.Typer) -> None:
    """Add the `env` command to `app`."""
    app.command("env")(env)


def env(
    *,
    listen: Listen = None,
    proxy: ProxyOption = None,
    socks: Socks = False,
    redirected: Redirected = False,
    shell: ShellOption = Shell.SH,
    dotenv: AsDotenv = False,
    json: AsJson = False,
    docker: AsDocker = False,
    k8s: AsK8s = False,
    unset: Unset = False,
    no_proxy: NoProxy = None,
    without_java: WithoutJava = False,
    bundle: Bundle = None,
    files: Files = None,
    at: At = Path("/etc/egress"),
    upstream_ca: UpstreamCa = None,
    ca_dir: CaDir = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
    policy: Policies = None,
    presets: Presets = None,
) -> None:
    """Print the variables that make curl, pip, git, npm, Java and others use the proxy and trust its CA.

    \b
    Examples:
      eval "$(egress env)"
      egress env --shell fish | source
      egress env --shell powershell | Out-String | Invoke-Expression
      egress env --shell env-file > proxy.env
      eval docker run --rm "$(egress env --docker --proxy proxy:3128)" debian:12 apt-get update
      egress env --k8s --proxy egress.proxy.svc:3128 | kubectl apply -f -
      egress env --redirected --dotenv > .env
      eval "$(egress env --unset)"

    Writes the files that the variables name: the system's roots with the proxy's CA, as PEM and for Java, and short
    configurations for apt, wget and PHP. Secrets of the policy that have a placeholder under a variable are exported as
    that placeholder; so is where cloud SDKs find the identity endpoints.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    import os  # noqa: PLC0415  # what a command needs is loaded by the command, so that --help is fast

    from egress.cli.client_trust import Wanted  # noqa: PLC0415
    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415

    overrides = ServerOverrides(
        listen=listen,
        state_dir=state_dir,
        ca_dir=ca_dir,
        upstream_ca=tuple(upstream_ca or ()),
        policies=tuple(policy or ()),
        presets=tuple(presets or ()),
    )
    shell = _shell(shell, {Shell.DOTENV: dotenv, Shell.JSON: json, Shell.DOCKER: docker, Shell.K8S: k8s})
    server = load_server_config(config, overrides, os.environ)
    if unset:
        names = _names(server)
        _print(lambda: unset_text(names, shell))
        return
    if redirected:
        _refuse_with({"--proxy": proxy, "--socks": socks, "--no-proxy": no_proxy}, "--redirected")
    road = _road(server, proxy, no_proxy, socks=socks, redirected=redirected)
    _print_variables(server, road, Wanted(files, bundle, at, java=not without_java), shell)


def _shell(given: Shell, asked: Mapping[Shell, bool]) -> Shell:
    chosen = [shell for shell, wanted in asked.items() if wanted]
    if len(chosen) > 1 or (chosen and given not in {Shell.SH, *chosen}):
        raise typer.BadParameter("one format at a time", param_hint="--shell")
    return chosen[0] if chosen else given


def _refuse_with(others: Mapping[str, object], option: str) -> None:
    said = [name for name, value in others.items() if value]
    if said:
        raise typer.BadParameter(
            f"it says that clients know of no proxy, and {said[0]} tells them of one", param_hint=option
        )


def _road(
    server: ServerConfig, proxy: str | None, no_proxy: list[str] | None, *, socks: bool, redirected: bool
) -> Road:
    from egress.cli.client_trust import Road  # noqa: PLC0415

    if redirected:
        return Road(None)
    url = _proxy(server.listens) if proxy is None else named_proxy(proxy)
    return Road(url, tuple(no_proxy or ()), socks=socks)


def _names(server: ServerConfig) -> tuple[str, ...]:
    """All that may be set."""
    from egress.cli.identity_variables import identity_names  # noqa: PLC0415
    from egress.cli.placeholder_variables import placeholder_names  # noqa: PLC0415
    from egress.confine.environment import VARIABLES  # noqa: PLC0415

    return (*VARIABLES, *placeholder_names(server), *identity_names(server))


def _print_variables(server: ServerConfig, road: Road, wanted: Wanted, shell: Shell) -> None:
    from egress.cli.identity_variables import identity_variables  # noqa: PLC0415
    from egress.cli.placeholder_variables import placeholder_variables  # noqa: PLC0415

    placeholders = placeholder_variables(server)
    more = {**placeholders, **identity_variables(server)}
    _print(lambda: _text(server, road, wanted, shell, more))
    if placeholders:
        told = ", ".join(placeholders)
        typer.echo(f"egress: placeholders, worth nothing beyond the proxy, are in {told}", err=True)


def _print(text: Callable[[], str]) -> None:
    try:
        made = text()
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--shell") from error
    typer.echo(made, nl=False)


def _text(server: ServerConfig, road: Road, wanted: Wanted, shell: Shell, more: Mapping[str, str]) -> str:
    from egress.cli.client_trust import write_container, write_here  # noqa: PLC0415
    from egress.confine.formats import TRUST_MAP, config_map, mount  # noqa: PLC0415

    if shell not in _IN_CONTAINER:
        return set_text({**more, **write_here(server, road, wanted)}, shell)
    written = write_container(server, road, wanted, shell)
    text = set_text({**more, **written.variables}, shell)
    if road.url is not None and _is_loopback(road.url):
        told = "in a container, a loopback address is the container's own: say where it reaches the proxy, with --proxy"
        typer.echo(f"egress: {told}", err=True)
    if shell is Shell.DOCKER:
        return f"{mount(written.folder, wanted.at)} {text}\n"
    if shell is Shell.K8S_ENV:
        return text
    return f"{_K8S_HEAD.format(at=wanted.at)}{text}---\n{config_map(TRUST_MAP, written.contents)}"


_K8S_HEAD = """\
# In the pod:
#   volumes: [{{name: egress-trust, configMap: {{name: egress-trust}}}}]
#   containers:
#     - envFrom: [{{configMapRef: {{name: egress-environment}}}}]
#       volumeMounts: [{{name: egress-trust, mountPath: {at}, readOnly: true}}]
"""


def _is_loopback(url: str) -> bool:
    from ipaddress import ip_address  # noqa: PLC0415
    from urllib.parse import urlsplit  # noqa: PLC0415

    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def named_proxy(text: str) -> str:
    """The URL of a proxy that clients reach at `HOST:PORT`, a name or an address."""
    from egress.policy import Refusal, parse_authority  # noqa: PLC0415

    named = parse_authority(text, None)
    if isinstance(named, Refusal):
        raise typer.BadParameter(f"`{text}` is not HOST:PORT: {named.detail}", param_hint="--proxy")
    host, port = named
    return proxy_url(host.text, port)


def _proxy(listens: Sequence[ListenAddress]) -> str:
    """The URL of the first listener that clients can be sent to."""
    from egress.cli.banner import BRIDGE, bridge  # noqa: PLC0415
    from egress.config import UnixListener, told_listener  # noqa: PLC0415

    address = next((address for address in listens if not isinstance(address, UnixListener)), None)
    if address is None:
        message = (
            "the proxy listens on a unix socket alone, which no variable can name for curl, pip, git or npm; "
            f"bridge it, `{bridge(told_listener(listens[0]))}`, and say `egress env --listen {BRIDGE}`"
        )
        raise typer.BadParameter(message, param_hint="--listen")
    if not address[1]:
        raise typer.BadParameter("name the port that the proxy picked, as it says at its start", param_hint="--listen")
    return proxy_url(*address)


def proxy_url(host: str, port: int) -> str:
    """The URL by which a client on this machine reaches a proxy that listens at `host` and `port`."""
    # "All addresses" is no place to connect to.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{reachable}]:{port}" if ":" in reachable else f"http://{reachable}:{port}"
