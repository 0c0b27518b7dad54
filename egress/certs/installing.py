"""Puts our CA into trust stores that other programs keep: the system's, NSS's, Java's. Takes it out again.

1. What is to be done is worked out first, as a list of steps; nothing is done where a step is known to be impossible.
2. Each certificate bears its digest in its file's name or alias, so that several of ours, and those of other
   installations, stand side by side, and only our own are taken out.
3. The system's files are written in place by its own tool; we only add to the folder that is there for local CAs.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from egress.certs import files
from egress.certs.trust_store import DEFAULT_PASSWORD
from egress.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_SECONDS: Final = 120


class Store(StrEnum):
    """Who keeps the trust store."""

    SYSTEM = "system"
    NSS = "nss"
    JAVA = "java"


@dataclass(frozen=True, slots=True)
class Put:
    """Write a file."""

    path: Path
    data: bytes

    def __str__(self) -> str:
        return f"write {self.path}"


@dataclass(frozen=True, slots=True)
class Remove:
    """Remove a file, if it is there."""

    path: Path

    def __str__(self) -> str:
        return f"remove {self.path}"


@dataclass(frozen=True, slots=True)
class Run:
    """Run a command. `needed` False: it may fail, for there may be nothing to take out."""

    command: tuple[str, ...]
    stdin: bytes = b""
    needed: bool = True

    def __str__(self) -> str:
        return f"run {shlex.join(self.command)}"


type Step = Put | Remove | Run


# The folder for local CAs below the root, the ending that its tool wants, and the tool. The first whose folder and
# tool are there is this system's: SUSE has a tool of Debian's name.
_SYSTEMS: Final = (
    ("etc/pki/trust/anchors", ".pem", "update-ca-certificates"),  # SUSE
    ("usr/local/share/ca-certificates", ".crt", "update-ca-certificates"),  # Debian, Ubuntu, Alpine
    ("etc/pki/ca-trust/source/anchors", ".pem", "update-ca-trust"),  # Fedora, RHEL, Amazon Linux
    ("etc/ca-certificates/trust-source/anchors", ".pem", "update-ca-trust"),  # Arch
)


def steps(store: Store, pem: bytes, *, uninstall: bool, root: Path = Path("/")) -> list[Step]:
    """What is to be done for the certificates of `pem`. Raises `StateError` where it cannot be done here."""
    certificates = x509.load_pem_x509_certificates(pem)
    match store:
        case Store.SYSTEM:
            return _system(certificates, uninstall=uninstall, root=root)
        case Store.NSS:
            return _nss(certificates, uninstall=uninstall)
        case Store.JAVA:
            return _java(certificates, uninstall=uninstall)


def carry_out(todo: Iterable[Step]) -> None:
    """Do the steps. Raises `StateError` for the first that fails; those before it are done."""
    for step in todo:
        try:
            _do(step)
        except PermissionError as error:
            raise StateError(
                f"cannot {step}: {error.strerror}", hint="run it as root, in the sandbox's image"
            ) from error
        except (OSError, subprocess.SubprocessError) as error:
            raise StateError(
                f"cannot {step}: {error}", hint="see what --dry-run would do, and do it by hand"
            ) from error


def _system(certificates: Sequence[x509.Certificate], *, uninstall: bool, root: Path) -> list[Step]:
    if sys.platform == "darwin":
        raise StateError(
            "on macOS a person has to agree to a new root",
            hint="run `sudo security add-trusted-cert -d -r trustRoot -k /Library/Keychains/System.keychain "
            '"$(egress ca path)"`; `remove-trusted-cert -d` takes it out',
        )
    for folder, ending, tool in _SYSTEMS:
        if (root / folder).is_dir() and shutil.which(tool) is not None:
            paths = [(root / folder / f"{_name(own)}{ending}", own) for own in certificates]
            # `--fresh`: Debian's tool leaves links to what was removed.
            options = ("--fresh",) if uninstall and tool == "update-ca-certificates" else ()
            if uninstall:
                return [*(Remove(path) for path, _ in paths), Run((tool, *options))]
            return [*(Put(path, _pem(own)) for path, own in paths), Run((tool,))]
    raise StateError(
        "this system keeps its roots in a way that is not known here: neither `update-ca-certificates` with "
        "/usr/local/share/ca-certificates nor `update-ca-trust` with /etc/pki/ca-trust/source/anchors",
        hint="install its ca-certificates package, or use the variables of `egress env`",
    )


def _nss(certificates: Sequence[x509.Certificate], *, uninstall: bool) -> list[Step]:
    tool = _tool("certutil", "libnss3-tools (Debian) or nss-tools (Fedora)")
    try:
        folder = Path.home() / ".pki" / "nssdb"
    except RuntimeError as error:
        raise StateError("this user has no home, in which the browsers' database would be", hint="set HOME") from error
    database = ("-d", f"sql:{folder}")
    if uninstall:
        return [Run((tool, *database, "-D", "-n", _name(own)), needed=False) for own in certificates]
    # certutil makes the database if there is none, but not its folder.
    made: list[Step] = []
    if not (folder / "cert9.db").exists():
        made = [Run(("mkdir", "-p", str(folder))), Run((tool, *database, "-N", "--empty-password"))]
    adding = [Run((tool, *database, "-A", "-t", "C,,", "-n", _name(own)), _pem(own)) for own in certificates]
    return [*made, *adding]


def _java(certificates: Sequence[x509.Certificate], *, uninstall: bool) -> list[Step]:
    tool = _tool("keytool", "a JDK or JRE")
    common = ("-cacerts", "-storepass", DEFAULT_PASSWORD, "-noprompt")
    taken = [Run((tool, "-delete", *common, "-alias", _name(own)), needed=False) for own in certificates]
    if uninstall:
        return [*taken]
    # An alias that is there already is an error: it is taken out first.
    added = [Run((tool, "-importcert", *common, "-alias", _name(own)), _pem(own)) for own in certificates]
    return [step for pair in zip(taken, added, strict=True) for step in pair]


def _tool(name: str, package: str) -> str:
    if shutil.which(name) is None:
        raise StateError(f"`{name}` is not installed", hint=f"install {package}")
    return name


def _do(step: Step) -> None:
    match step:
        case Put():
            files.write_public(step.path, step.data)
        case Remove():
            step.path.unlink(missing_ok=True)
        case Run():
            # Without our own variables: a JVM that is told of a trust store would work on that one.
            env = {name: value for name, value in os.environ.items() if name != "JAVA_TOOL_OPTIONS"}
            done = subprocess.run(  # noqa: S603 -- fixed commands; of ours are paths and digests
                step.command, input=step.stdin, capture_output=True, check=False, timeout=_SECONDS, env=env
            )
            if done.returncode and step.needed:
                said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
                raise OSError(f"status {done.returncode}{f', {said[-1]}' if said else ''}")


def _name(certificate: x509.Certificate) -> str:
    return f"egress-{certificate.fingerprint(hashes.SHA256()).hex()[:16]}"


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
