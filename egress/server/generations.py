"""A generation on its way to another of our own processes: through memory that has no name and that nobody can change.

INVARIANT secret-confinement: the bytes hold values of secrets. They are never in a file of a disk, and gone from
memory when the last process has closed its descriptor.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import time

from egress.credentials import CredentialStore
from egress.gate.generation import Generation
from egress.policy import compile_policy

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def write_generation(generation: Generation) -> int:
    """A descriptor of what `read_generation` makes the generation from. It may be read more than once."""
    policy = generation.policy
    data = pickle.dumps((generation.number, policy.scopes, policy.digest, generation.credentials.hand_on()))
    descriptor = os.memfd_create("egress-generation", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, memoryview(data)[written:])
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_generation(descriptor: int) -> Generation:
    """The generation that `write_generation` wrote, its policy compiled anew; closes the descriptor."""
    try:
        # The place for reading is shared with the other processes that were sent it, so it is not used.
        data = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
    finally:
        os.close(descriptor)
    number, scopes, digest, credentials = pickle.loads(data)  # noqa: S301 - written by the process that forked this one
    return Generation(
        number, compile_policy(scopes, digest=digest, clock=time.time), CredentialStore.handed_on(credentials)
    )
