"""`egress ca bundle`, `p12` and `install`: the CA's certificate in the forms and stores that clients read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from egress.cli.options import CaDir, ConfigFile, StateDir

if TYPE_CHECKING:
    from egress.certs import Authority
    from egress.config import ServerConfig

Output = Annotated[
    Path | None, typer.Option("--output", metavar="FILE", help="Where to write it. Default: standard output.")
]
OutputFile = Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to write it.")]
UpstreamCa = Annotated[
    list[Path] | None, typer.Option("--upstream-ca", metavar="PEM", help="More roots. May be repeated.")
]
AsP12 = Annotated[
    bool, typer.Option("--p12", help="As PKCS #12 for Java, whose `javax.net.ssl.trustStore` replaces its own roots.")
]
AskPassword = Annotated[bool, typer.Option("--ask-password", help="Ask for the store's password. Default: changeit.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the store's password from standard input.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be done, and do nothing.")]
Uninstall = Annotated[bool, typer.Option("--uninstall", help="Take the CA out again.")]
System = Annotated[bool, typer.Option("--system", help="The system's store (as root). The default.")]
Nss = Annotated[bool, typer.Option("--nss", help="The user's NSS database: Chromium, and others that use NSS.")]
Java = Annotated[bool, typer.Option("--java", help="The `cacerts` of the JDK whose `keytool` is on the path.")]


def bundle(
    *,
    output: Output = None,
    p12: AsP12 = False,
    ask_password: AskPassword = False,
    password_stdin: PasswordStdin = False,
    upstream_ca: UpstreamCa = None,
    ca_dir: CaDir = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Write the trust that replaces a client's own: the system's roots, the configured ones, and the proxy's CA.

    \b
    Examples:
      egress ca bundle --output /srv/sandbox/ca-bundle.pem
      egress ca bundle --upstream-ca corp-root.pem | docker exec -i box tee /etc/ssl/certs/ca-certificates.crt
      egress ca bundle --p12 --output trust.p12

    The same roots give the same bytes (PEM). During a rotation it holds the old CA and the new one.
    """  # noqa: D301  # click keeps the lines of a paragraph that begins with a backspace
    from egress.certs import bundle_pem, full_store  # noqa: PLC0415

    server, authority = _load(ca_dir, state_dir, config, upstream_ca)
    if p12:
        if output is None:
            raise typer.BadParameter("PKCS #12 is no text: name a file", param_hint="--output")
        data = full_store(authority.trusted_pem, _password(ask_password, password_stdin), server.upstream.ca)
    else:
        data = bundle_pem(authority.trusted_pem, server.upstream.ca)
    _deliver(output, data)


def p12(
    *,
    output: OutputFile,
    ask_password: AskPassword = False,
    password_stdin: PasswordStdin = False,
    ca_dir: CaDir = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Write the CA's certificate as a PKCS #12 trust store: the certificate alone, never the key.

    \b
    Examples:
      egress ca p12 --output egress.p12
      egress ca p12 --output egress.p12 --password-stdin < password.txt
      keytool -list -keystore egress.p12 -storepass changeit

    The password is `changeit`, as in Java's own stores, unless another is given: a certificate is no secret. For
    `javax.net.ssl.trustStore`, which replaces all roots, see `egress ca bundle --p12`.
    """  # noqa: D301  # likewise
    from egress.certs import own_store  # noqa: PLC0415

    _, authority = _load(ca_dir, state_dir, config, None)
    _deliver(output, own_store(authority.trusted_pem, _password(ask_password, password_stdin)))


def install(
    *,
    system: System = False,
    nss: Nss = False,
    java: Java = False,
    uninstall: Uninstall = False,
    dry_run: DryRun = False,
    ca_dir: CaDir = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Put the CA into a trust store: the system's, NSS's, Java's. Meant for the sandbox's image, not for the host.

    \b
    Examples:
      egress ca install --dry-run
      sudo egress ca install --system --ca-dir /var/lib/egress/ca
      egress ca install --nss
      egress ca install --java --uninstall

    Whoever trusts the CA trusts this proxy for every site: on a host, prefer the variables of `egress env`.
    """  # noqa: D301  # likewise
    from egress.certs.installing import Store, carry_out, steps  # noqa: PLC0415

    _, authority = _load(ca_dir, state_dir, config, None)
    asked = [store for store, wanted in ((Store.SYSTEM, system), (Store.NSS, nss), (Store.JAVA, java)) if wanted]
    todo = [
        step for store in asked or [Store.SYSTEM] for step in steps(store, authority.trusted_pem, uninstall=uninstall)
    ]
    for step in todo:
        typer.echo(f"would {step}" if dry_run else str(step))
        if not dry_run:
            carry_out([step])


def _load(
    ca_dir: Path | None, state_dir: Path | None, config: Path | None, upstream_ca: list[Path] | None
) -> tuple[ServerConfig, Authority]:
    import os  # noqa: PLC0415  # what a command needs is loaded by the command, so that --help is fast

    from egress.certs import Authority  # noqa: PLC0415
    from egress.config import ServerOverrides, load_server_config  # noqa: PLC0415

    overrides = ServerOverrides(state_dir=state_dir, ca_dir=ca_dir, upstream_ca=tuple(upstream_ca or ()))
    server = load_server_config(config, overrides, os.environ)
    return server, Authority.load(server.ca_dir.absolute())


def _password(ask: bool, stdin: bool) -> str:  # the two flags as they came
    from egress.certs import DEFAULT_PASSWORD  # noqa: PLC0415

    if ask and stdin:
        raise typer.BadParameter("one way at a time", param_hint="--password-stdin")
    if not ask and not stdin:
        return DEFAULT_PASSWORD
    given = typer.prompt("Password", hide_input=True, confirmation_prompt=True) if ask else sys.stdin.readline()
    password = str(given).rstrip("\r\n")
    # Java's keytool accepts no store with less.
    if len(password) < 6 or not password.isascii():  # noqa: PLR2004
        raise typer.BadParameter("the password is six characters or more, in ASCII", param_hint="--ask-password")
    return password


def _deliver(output: Path | None, data: bytes) -> None:
    from egress.certs import write_file  # noqa: PLC0415

    if output is not None:
        write_file(output.absolute(), data)
        return
    typer.echo(data.decode("ascii"), nl=False)
