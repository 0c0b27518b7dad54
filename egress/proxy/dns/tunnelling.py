"""How much a sandbox may ask: a name is a message to whoever serves its domain, so their number is what a tunnel needs.

1. all questions of a sandbox, whatever becomes of them
2. allowed questions of a sandbox under one parent domain
3. different allowed names of a sandbox under one parent domain: repeating one tells its server nothing new

A parent domain is the last two labels of a name: what is registered, or more than that, never less.
One process answers all questions, so what it counts is exact; with a new process, counting begins anew.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from egress.gate.windows import Window
from egress.policy import DEFAULT_SANDBOX

if TYPE_CHECKING:
    from egress.config import DnsLimits
    from egress.policy import Rate

# Of one process: what is beyond is refused, never forgotten, or who asks under ever new parents would not be counted.
_PARENTS_AT_MOST: Final = 4_096
# Of one sandbox: one that asks under ever new parents leaves the others room for theirs.
_PARENTS_OF_ONE: Final = 1_024
# Looking through them all for each question that finds no room would be all that the process does.
_FORGET_SECONDS: Final = 1.0
_SANDBOXES_AT_MOST: Final = 4_096
_LABELS: Final = 2


def parent_of(name: str) -> str:
    """The last two labels of a canonical name."""
    return ".".join(name.rsplit(".", _LABELS)[-_LABELS:])


class _Rate:
    """Questions in a time."""

    __slots__ = ("_rate", "_window")

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._window = Window(rate.seconds)

    def take(self, now: float) -> bool:
        if self._window.taken(now) >= self._rate.count:
            return False
        self._window.add(1, now)
        return True

    def idle(self, now: float) -> bool:
        return not self._window.taken(now)


class _Parent:
    """The questions of one sandbox under one parent domain."""

    __slots__ = ("_names", "_rate", "queries")

    def __init__(self, limits: DnsLimits) -> None:
        self.queries = _Rate(limits.parent_queries)
        self._rate = limits.parent_names
        # When each name was asked for first, oldest first.
        self._names: OrderedDict[str, float] = OrderedDict()

    def take(self, name: str, now: float) -> str:
        self._forget(now)
        if name not in self._names and len(self._names) >= self._rate.count:
            return "names"
        if not self.queries.take(now):
            return "questions"
        self._names.setdefault(name, now)
        return ""

    def idle(self, now: float) -> bool:
        self._forget(now)
        return not self._names and self.queries.idle(now)

    def _forget(self, now: float) -> None:
        while self._names and next(iter(self._names.values())) + self._rate.seconds <= now:
            self._names.popitem(last=False)


class QueryLimits:
    """The counts of all sandboxes. Moments are seconds of a monotonic clock, given by who asks."""

    def __init__(self, limits: DnsLimits) -> None:
        self._limits = limits
        self._sandboxes: dict[str, _Rate] = {}
        self._parents: dict[str, dict[str, _Parent]] = {}
        self._forgotten = float("-inf")

    def asks(self, sandbox: str, now: float) -> str:
        """Count a question. A text: it is one too many, and of what."""
        if sandbox not in self._sandboxes:
            if len(self._sandboxes) >= _SANDBOXES_AT_MOST:
                self._sandboxes = {name: rate for name, rate in self._sandboxes.items() if not rate.idle(now)}
            if len(self._sandboxes) >= _SANDBOXES_AT_MOST:
                return "The proxy answers no more sandboxes at once."
            self._sandboxes[sandbox] = _Rate(self._limits.queries)
        rate = self._limits.queries
        told = f"The sandbox asks more than {rate.count} DNS questions in {rate.seconds} seconds."
        return "" if self._sandboxes[sandbox].take(now) else told

    def allows(self, sandbox: str, name: str, now: float) -> str:
        """Count a question that the policy allows. A text: as of `asks`."""
        parent = parent_of(name)
        found = self._parents.get(sandbox, {}).get(parent)
        if found is None:
            if not self._has_room(sandbox, now):
                return "Names under more domains are asked for than are told apart."
            found = self._parents.setdefault(sandbox, {})[parent] = _Parent(self._limits)
        over = found.take(name, now)
        if not over:
            return ""
        rate = self._limits.parent_names if over == "names" else self._limits.parent_queries
        what = "different names" if over == "names" else "DNS questions"
        return f"The sandbox asks for more than {rate.count} {what} under `{parent}` in {rate.seconds} seconds."

    def _has_room(self, sandbox: str, now: float) -> bool:
        if self._is_full(sandbox) and now >= self._forgotten + _FORGET_SECONDS:
            self._forgotten = now
            self._forget_idle(now)
        return not self._is_full(sandbox)

    def _is_full(self, sandbox: str) -> bool:
        of_all = sum(map(len, self._parents.values()))
        # Where clients are not told apart there are no others to leave room for.
        of_one = _PARENTS_AT_MOST if sandbox == DEFAULT_SANDBOX.name else _PARENTS_OF_ONE
        return of_all >= _PARENTS_AT_MOST or len(self._parents.get(sandbox, ())) >= of_one

    def _forget_idle(self, now: float) -> None:
        kept = {
            sandbox: {parent: each for parent, each in own.items() if not each.idle(now)}
            for sandbox, own in self._parents.items()
        }
        self._parents = {sandbox: own for sandbox, own in kept.items() if own}
