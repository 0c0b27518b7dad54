"""The tables of this network namespace, by the program `nft`: look at one, replace one, remove one.

INVARIANT: a table that does not bear our mark is never touched.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from egress.confine.gateway import of_options
from egress.confine.gateway_text import DESCRIBED, MARK, rules_text
from egress.errors import GatewayError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from egress.confine.gateway import Gateway

_COUNTER: Final = re.compile(r"counter packets (\d+) bytes (\d+)")
_COMMENT: Final = re.compile(r'comment "([^"]*)"$', re.MULTILINE)
_SECONDS: Final = 30
_TURN_SECONDS: Final = 30
_PAUSE: Final = 0.05
_PLACES: Final = (os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin")
_PACKAGES: Final = {"nft": "nftables", "ip": "iproute2"}
_NET_ADMIN: Final = 12
_LACKS: Final = (
    "the kernel may lack a part: nf_tables with nat, redir, fib, reject and conntrack, for --tproxy also tproxy; "
    "load nft_redir, nft_fib_inet, nft_reject_inet and nft_tproxy, or take a kernel of 5.10 or later"
)


def program(name: str) -> str:
    """Where a program is. Raises GatewayError where it is not."""
    found = shutil.which(name, path=os.pathsep.join(_PLACES))
    if found is None:
        raise GatewayError(f"`{name}` is not there", hint=f"install the package {_PACKAGES[name]}")
    return found


def require_privilege() -> None:
    """Raise GatewayError where this process may not change the rules of its network namespace."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 -- a file of the kernel's
        capabilities = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    if not capabilities >> _NET_ADMIN & 1:
        raise GatewayError(
            "this needs root, or the capability NET_ADMIN", hint="`egress gateway print` writes the rules without"
        )


def run(command: Sequence[str], text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `nft` or `ip` to its end. Raises GatewayError where it cannot be run, or hangs."""
    words = [program(command[0]), *command[1:]]
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(  # noqa: S603 -- our own words, without a shell
            words, input=text or "", capture_output=True, check=False, text=True, timeout=_SECONDS, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GatewayError(f"`{' '.join(command)}` could not be run: {error}") from error


@contextlib.contextmanager
def taking_turns() -> Iterator[None]:
    """Within the block no other process of ours changes the rules or routes of this network namespace.

    The namespace itself is what is locked. Everybody in it can do that, a sandbox beside the proxy as well, so nobody
    is waited for longer than ours takes: rules that cannot be set or closed would be worse than two of us at once.
    """
    with open("/proc/thread-self/ns/net", "rb") as namespace:  # noqa: PTH123 -- a file of the kernel's
        until = time.monotonic() + _TURN_SECONDS
        while time.monotonic() < until:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(namespace, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            time.sleep(_PAUSE)
        yield


@dataclass(frozen=True, slots=True)
class Table:
    """A table as nft lists it, for people: what it tells programs of a table that is asleep is not always JSON."""

    listing: str

    @property
    def ours(self) -> bool:
        """Whether `egress gateway` made it."""
        return f'\tcomment "{MARK}"' in self.listing.splitlines()

    @property
    def uncounted(self) -> str:
        """The listing without what was counted."""
        return _COUNTER.sub("counter", self.listing)

    def counters(self) -> Iterator[tuple[str, int, int]]:
        """The comment of each rule that counts, with its packets and bytes."""
        for line in self.listing.splitlines():
            counted, comment = _COUNTER.search(line), _COMMENT.search(line)
            if counted and comment:
                yield comment[1], int(counted[1]), int(counted[2])

    def described(self) -> Gateway:
        """What it was made for. Raises GatewayError where that is gone."""
        _, _, after = self.listing.partition(f"\tchain {DESCRIBED} {{\n")
        told = (comment.partition(" ") for comment in _COMMENT.findall(after.partition("}")[0]))
        return of_options([(name, text) for name, _, text in told])


def table(name: str) -> Table | None:
    """The table of a name; None where there is none. Raises GatewayError where that cannot be told."""
    require_privilege()
    listed = run(["nft", "list", "tables", "inet"])
    if listed.returncode:
        raise GatewayError(f"nft does not list the tables: {_first(listed.stderr)}", hint=_LACKS)
    if f"table inet {name}" not in listed.stdout.splitlines():
        return None
    told = run(["nft", "-n", "list", "table", "inet", name])
    if told.returncode:
        raise GatewayError(f"nft does not list the table {name}: {_first(told.stderr)}")
    return Table(told.stdout)


def own_table(name: str) -> Table | None:
    """The table of a name; None where there is none. Raises GatewayError for one that is not ours."""
    found = table(name)
    if found is not None and not found.ours:
        raise GatewayError(
            f"the table `inet {name}` was not made by `egress gateway`, and is left as it is",
            hint=f"take another name, `--table {name}_2`, or remove it yourself: `nft delete table inet {name}`",
        )
    return found


def apply(gateway: Gateway) -> None:
    """Put the rules in force, in one transaction. Raises GatewayError, and has then changed nothing."""
    text = rules_text(gateway)
    for words, failed in ((["-c"], "the kernel does not take the rules"), ([], "the rules could not be set")):
        done = run(["nft", *words, "-f", "-"], text)
        if done.returncode:
            raise GatewayError(f"{failed}, nothing was changed: {_first(done.stderr)}", hint=_LACKS)


def listed_as(text: str, name: str) -> str:
    """How nft lists a table that `text` makes, without it being in force. Raises GatewayError."""
    own_table(name)
    made = run(["nft", "-f", "-"], text)
    if made.returncode:
        raise GatewayError(f"the rules to compare with could not be made: {_first(made.stderr)}", hint=_LACKS)
    try:
        found = table(name)
    finally:
        remove(name)
    if found is None:
        raise GatewayError("the rules to compare with are gone")
    return found.uncounted


def remove(name: str) -> None:
    """Remove a table. Raises GatewayError."""
    done = run(["nft", "delete", "table", "inet", name])
    if done.returncode:
        raise GatewayError(f"the table {name} could not be removed: {_first(done.stderr)}")


def _first(text: str) -> str:
    """The error, and the rule that it is about."""
    lines = [line.strip() for line in text.strip().splitlines()]
    return ": ".join(lines[:2]) or "it gave no reason"
