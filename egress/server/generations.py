"""A generation on its way to another of our own processes: through memory that has no name and that nobody can change.

INVARIANT secret-confinement: the bytes hold values of secrets. They are never in a file of a disk, and gone from
memory when the last process has closed its descriptor.
"""

from __future__ import annotations

import fcntl
import os
import pickle
from enum import Enum, auto
from typing import TYPE_CHECKING

from egress.config import wall_clock
from egress.credentials import CredentialStore
from egress.gate.generation import Generation
from egress.gate.roster import Member, Roster
from egress.policy import compile_policy
from egress.server.pieces import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from egress.policy import Policy, ScopeRules
    from egress.server.pieces import Packed

type _Written = tuple[list[Packed], str]


class _Kept(Enum):
    """Where a policy is that its reader has already."""

    COMMON = auto()
    ITS_OWN = auto()


_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def _no_rest() -> None:
    """Go on."""


def new_memory() -> int:
    """A descriptor of empty memory, to be filled once, here or in a process that is forked from this one."""
    return os.memfd_create("egress-generation", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)


def fill(descriptor: int, data: bytes) -> None:
    """Write into new memory, and seal it: from now on it can only be read."""
    written = 0
    while written < len(data):
        written += os.write(descriptor, memoryview(data)[written:])
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)


def read_memory(descriptor: int) -> bytes:
    """What `fill` wrote."""
    # The place for reading is shared with the other processes that have the descriptor, so it is not used.
    size, data = os.fstat(descriptor).st_size, b""
    while len(data) < size and (part := os.pread(descriptor, size - len(data), len(data))):
        data += part
    return data


def encode_generation(generation: Generation, base: Generation | None = None) -> bytes:
    """What `read_generation` makes the generation from.

    `base`: the one that its readers judge by now. Policies that are the same objects there are not written again.
    """
    writing = _Writing(base)
    policy, roster = generation.policy, generation.roster
    members = None if roster is None else [(own.definition, writing.member(own)) for own in roster.members]
    common = None if base is not None and policy is base.policy else writing.policy(policy)
    parts = None if base is None else base.number, common, members, writing.scopes(generation.common)
    return pickle.dumps((generation.number, parts, generation.credentials.hand_on(), generation.files))


class _Writing:
    """What sandboxes share is written once, and is one object again when it is read."""

    def __init__(self, base: Generation | None) -> None:
        self._base = base
        self._packed: dict[int, Packed] = {}

    def member(self, member: Member) -> _Written | _Kept:
        """A sandbox's policy, or where its reader has it."""
        base, policy = self._base, member.policy
        if base is not None and policy is base.policy:
            return _Kept.COMMON
        if base is not None and base.roster is not None and policy is base.roster.policies.get(member.definition.name):
            return _Kept.ITS_OWN
        return self.policy(policy)

    def policy(self, policy: Policy) -> _Written:
        """What a policy is compiled from."""
        return self.scopes(policy.scopes), policy.digest

    def scopes(self, scopes: Sequence[ScopeRules]) -> list[Packed]:
        """Each of the scopes, packed once."""
        for scope in scopes:
            if id(scope) not in self._packed:
                (self._packed[id(scope)],) = pack((scope,))
        return [self._packed[id(scope)] for scope in scopes]


def write_generation(generation: Generation, base: Generation | None = None) -> int:
    """A descriptor of what `read_generation` makes the generation from. It may be read more than once."""
    descriptor = new_memory()
    try:
        fill(descriptor, encode_generation(generation, base))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_generation(descriptor: int, base: Generation | None = None, rest: Callable[[], None] = _no_rest) -> Generation:
    """The generation that was written, its policies compiled anew; closes the descriptor.

    `base`: the one that this process judges by. `rest` is called about every millisecond, so that a thread that has
    other work beside it can give way. Raises ValueError if another base was meant.
    """
    try:
        data = read_memory(descriptor)
    finally:
        os.close(descriptor)
    number, parts, credentials, files = pickle.loads(data)  # noqa: S301 - the process that forked this one wrote it
    based_on, written, members, common = parts
    if based_on is not None and (base is None or base.number != based_on):
        raise ValueError(based_on)
    reading = _Reading(base, rest)
    policy = reading.policy(_Kept.COMMON if written is None else written, "")
    roster = None
    if members is not None:
        roster = Roster([Member(own, reading.policy(plain, own.name)) for own, plain in members])
    credentials = CredentialStore.handed_on(credentials)
    return Generation(number, policy, credentials, files, roster, reading.scopes(common))


class _Reading:
    def __init__(self, base: Generation | None, rest: Callable[[], None]) -> None:
        self._base = base
        self._rest = rest
        self._scopes: dict[int, ScopeRules] = {}
        self._compiled: dict[tuple[str, tuple[int, ...]], Policy] = {}

    def policy(self, plain: _Written | _Kept, sandbox: str) -> Policy:
        """What `_Writing` wrote."""
        if isinstance(plain, _Kept):
            base = self._base
            kept = None if base is None else base.policy if plain is _Kept.COMMON else base.policy_of(sandbox)
            if kept is None:
                raise ValueError(sandbox)
            return kept
        packed, digest = plain
        key = digest, tuple(map(id, packed))
        if key not in self._compiled:
            scopes = self.scopes(packed)
            self._compiled[key] = compile_policy(scopes, digest=digest, clock=wall_clock, rest=self._rest)
        return self._compiled[key]

    def scopes(self, packed: Sequence[Packed]) -> tuple[ScopeRules, ...]:
        """Scopes, each the same object wherever it stands."""
        for one in packed:
            if id(one) not in self._scopes:
                (self._scopes[id(one)],) = unpack((one,), self._rest)
        return tuple(self._scopes[id(one)] for one in packed)
