"""`egress run`: serve a policy until told to stop."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import AuditFile, CaDir, ConfigFile, Policies, Presets, Resolve, SecretsKeyFile, StateDir

if TYPE_CHECKING:
    from egress.config import ServerConfig
    from egress.server.run import Started

Listen = Annotated[
    str | None,
    typer.Option(
        "--listen",
        metavar="HOST:PORT|unix:PATH",
        help="An address or a unix socket. Default: 127.0.0.1:3128. Port 0 picks a free one.",
    ),
]
Transparent = Annotated[
    list[str] | None,
    typer.Option(
        "--transparent",
        metavar="ADDR:PORT",
        help="Take connections that are redirected there, too, as in `0.0.0.0:3129`. May be repeated.",
    ),
]
Dns = Annotated[
    str | None,
    typer.Option("--dns", metavar="ADDRESS:PORT", help="Answer the sandboxes' DNS questions there, over UDP and TCP."),
]
Workers = Annotated[
    int | None,
    typer.Option("--workers", metavar="N", help="Processes that carry connections, 1 to 64. Default: 1."),
]
Mitm = Annotated[
    str | None,
    typer.Option(
        "--mitm", metavar="lazy|warm", help="Start the mitm lane's process when first needed, or ahead. Default: lazy."
    ),
]
ForcedLane = Annotated[
    str | None,
    typer.Option(
        "--lane",
        metavar="auto|tunnel|http|mitm",
        help="For tests: this lane carries whatever it can. Default: auto, the least that the rules need.",
    ),
]
Watch = Annotated[
    bool | None,
    typer.Option(
        "--watch/--no-watch", help="Read the policy again when its files change. Default: on.", show_default=False
    ),
]
LastKnownGood = Annotated[
    bool | None,
    typer.Option(
        "--last-known-good/--no-last-known-good",
        help="Begin with the last policy that loaded if the files do not. Default: on.",
        show_default=False,
    ),
]
UpstreamCa = Annotated[
    list[Path] | None,
    typer.Option("--upstream-ca", metavar="PEM", help="Roots to trust for upstreams too. May be repeated."),
]
UpstreamProxy = Annotated[
    str | None,
    typer.Option(
        "--upstream-proxy",
        metavar="URL",
        help="Go out through this proxy: http://, https:// or socks5://HOST:PORT. User and password stand in the file.",
    ),
]
AuditStream = Annotated[
    str | None,
    typer.Option(
        "--audit-stream",
        metavar="stdout|unix:PATH|udp://HOST:PORT|tcp://HOST:PORT",
        help="Send what is recorded on: JSON lines, or syslog.",
    ),
]
Admin = Annotated[
    str | None,
    typer.Option(
        "--admin",
        metavar="HOST:PORT|unix:PATH",
        help="Serve /healthz, /readyz and /metrics there. Default: nowhere.",
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")]


def register(app: typer.Typer) -> None:
    """Add `run` to `app`."""
    app.command("run")(run)


def run(
    *,
    policy: Policies = None,
    presets: Presets = None,
    listen: Listen = None,
    transparent: Transparent = None,
    dns: Dns = None,
    state_dir: StateDir = None,
    audit: AuditFile = None,
    audit_stream: AuditStream = None,
    ca_dir: CaDir = None,
    secrets_key_file: SecretsKeyFile = None,
    upstream_ca: UpstreamCa = None,
    upstream_proxy: UpstreamProxy = None,
    resolve: Resolve = None,
    workers: Workers = None,
    mitm: Mitm = None,
    lane: ForcedLane = None,
    watch: Watch = None,
    last_known_good: LastKnownGood = None,
    admin: Admin = None,
    config: ConfigFile = None,
    verbose: Verbose = False,
) -> None:
    """Start the proxy.

    \b
    Examples:
      egress run --policy starter
      egress run --policy ./policy.yaml --listen 127.0.0.1:8080
      egress run --policy coding-agent --workers 4 --mitm warm
      egress run --policy coding-agent --upstream-ca corp-root.pem --resolve git.corp.example:10.0.0.7

    \b
    Signals:
      HUP   read the policy again, as `egress reload` does; a file that does not load changes nothing
      TERM  accept no more, let requests under way end, record them, exit 0
    """  # noqa: D301 - typer's marker for a verbatim paragraph
    set_up_logging(verbose=verbose)
    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415

    overrides = ServerOverrides(
        listen=listen,
        transparent=tuple(transparent or ()),
        dns=dns,
        workers=workers,
        mitm=mitm,
        lane=lane,
        watch=watch,
        last_known_good=last_known_good,
        state_dir=state_dir,
        audit=audit,
        audit_stream=audit_stream,
        ca_dir=ca_dir,
        upstream_ca=tuple(upstream_ca or ()),
        upstream_proxy=upstream_proxy,
        resolve=tuple(resolve or ()),
        policies=tuple(policy or ()),
        presets=tuple(presets or ()),
        secrets_key_file=secrets_key_file,
        admin=admin,
    )
    loaded = load_server_config(config, overrides, os.environ)
    from egress.server.run import serve  # noqa: PLC0415

    sys.exit(serve(loaded, lambda started: _tell(started, loaded)))


def _tell(started: Started, loaded: ServerConfig) -> None:
    from egress.cli.banner import banner  # noqa: PLC0415

    # At once: whoever waits for the line with the address then finds the rest, too.
    # A program that reads rows from standard output gets nothing else there.
    streams = loaded.audit.stream is not None and loaded.audit.stream.to.kind == "stdout"
    typer.echo("\n".join(banner(started, loaded.state_dir)), err=streams)
    sys.stdout.flush()


class _Escaped(logging.Formatter):
    """Log lines in which nothing from the wire can move the cursor, start a line or hide text."""

    def format(self, record: logging.LogRecord) -> str:
        from egress.audit import printable  # noqa: PLC0415

        # What follows the first line, of a traceback as well, is set in: only we begin a line.
        return "\n    ".join(printable(line) for line in super().format(record).split("\n"))


def set_up_logging(*, verbose: bool) -> None:
    """Log to standard error, from now on in every process that is forked."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Escaped("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO if verbose else logging.WARNING, handlers=[handler], force=True)
