"""A generation on its way to another of our own processes: through memory that has no name and that nobody can change.

INVARIANT secret-confinement: the bytes hold values of secrets. They are never in a file of a disk, and gone from
memory when the last process has closed its descriptor.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import time
from typing import TYPE_CHECKING

from egress.credentials import CredentialStore
from egress.gate.generation import Generation
from egress.policy import compile_policy
from egress.server.pieces import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable

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


def encode_generation(generation: Generation) -> bytes:
    """What `read_generation` makes the generation from."""
    policy = generation.policy
    return pickle.dumps(
        (generation.number, pack(policy.scopes), policy.digest, generation.credentials.hand_on(), generation.files)
    )


def write_generation(generation: Generation) -> int:
    """A descriptor of what `read_generation` makes the generation from. It may be read more than once."""
    descriptor = new_memory()
    try:
        fill(descriptor, encode_generation(generation))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_generation(descriptor: int, rest: Callable[[], None] = _no_rest) -> Generation:
    """The generation that `write_generation` wrote, its policy compiled anew; closes the descriptor.

    `rest` is called about every millisecond, so that a thread that has other work beside it can give way.
    """
    try:
        data = read_memory(descriptor)
    finally:
        os.close(descriptor)
    number, packed, digest, credentials, files = pickle.loads(data)  # noqa: S301 - the process that forked this one wrote it
    policy = compile_policy(unpack(packed, rest), digest=digest, clock=time.time, rest=rest)
    return Generation(number, policy, CredentialStore.handed_on(credentials), files)
