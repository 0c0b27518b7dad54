"""The value is what a program prints.

1. no shell: the arguments are those of the definition
2. the program is in a process group of its own, which is killed when its time is over or it prints too much
3. it gets an environment of few variables, nothing to read, and `/` as its folder
4. INVARIANT secret-confinement: of a failure its exit status is told, never what it printed, there or on stderr
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import TYPE_CHECKING, Final

from egress.credentials.providers.interface import Fetched
from egress.credentials.secret import Secret
from egress.credentials.sources import MAX_BYTES, as_text
from egress.errors import CredentialError

if TYPE_CHECKING:
    from asyncio.subprocess import Process

    from egress.config.secret_sources import CommandSource
    from egress.credentials.providers.interface import Means

_ENDING_SECONDS: Final = 1.0
# What programs need to find themselves, their user and their settings. The rest of our environment is none of theirs.
KEPT: Final = frozenset(
    {
        "PATH",
        "HOME",
        "USER",
        "LOGNAME",
        "LANG",
        "LC_ALL",
        "TZ",
        "TMPDIR",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
        "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
    }
)


async def fetch(name: str, source: CommandSource, means: Means) -> Fetched:
    """What the program prints, without one final line break. Raises CredentialError."""
    del means  # what a program needs, it gets itself
    program = f"secret `{name}`: command `{source.argv[0]}`"
    process = await _start(program, source.argv)
    try:
        async with asyncio.timeout(source.seconds):
            printed = await _read(program, process)
            status = await process.wait()
    except TimeoutError as error:
        await _end(process)
        raise CredentialError(
            f"{program} took longer than {source.seconds:g} seconds", hint="it is given longer with `timeout`"
        ) from error
    except BaseException:
        await _end(process)
        raise
    if status:
        told = f"status {status}" if status > 0 else f"signal {-status}"
        raise CredentialError(f"{program} ended with {told}", hint="run it by hand, as the proxy's user")
    if not printed:
        raise CredentialError(f"{program} printed nothing", hint="run it by hand, as the proxy's user")
    return Fetched(Secret(name, as_text(printed)), refresh_seconds=source.keep_seconds)


async def _start(program: str, argv: tuple[str, ...]) -> Process:
    kept = {variable: os.environ[variable] for variable in KEPT if variable in os.environ}
    try:
        return await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=kept,
            cwd="/",
            start_new_session=True,
        )
    except OSError as error:
        raise CredentialError(
            f"{program} cannot be started: {os.strerror(error.errno or 0)}", hint="write the program's whole path"
        ) from error


async def _read(program: str, process: Process) -> bytes:
    """All that it prints, to the end."""
    printed = b""
    while process.stdout is not None and (part := await process.stdout.read(MAX_BYTES)):
        printed += part
        # A line break may follow.
        if len(printed) > MAX_BYTES + 2:
            raise CredentialError(f"{program} printed more than {MAX_BYTES // 1024} KiB")
    return printed


async def _end(process: Process) -> None:
    """End the program, and all that it started and that is still in its group, and wait until they are gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        # What left the group may hold the pipe open for as long as it likes.
        async with asyncio.timeout(_ENDING_SECONDS):
            while process.stdout is not None and await process.stdout.read(MAX_BYTES):
                pass
            await process.wait()
    # Else each fetch would leave a pipe open, for as long as who left the group lives.
    process._transport.close()  # type: ignore[attr-defined]  # noqa: SLF001 -- asyncio offers nothing else
