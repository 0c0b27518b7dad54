"""The value is in the operating system's keyring. Needs the library `keyring`: `egress[keyring]`.

The keyring may ask a person, and so never answer: it is asked in a thread that holds nothing up, one at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

from egress.credentials.providers.interface import Fetched
from egress.credentials.secret import Secret
from egress.errors import CredentialError

if TYPE_CHECKING:
    from egress.config.secret_sources import KeyringSource
    from egress.credentials.providers.interface import Means

_asking = threading.Lock()


async def fetch(name: str, source: KeyringSource, means: Means) -> Fetched:
    """The password of that service and user. Raises CredentialError."""
    del means
    try:
        import keyring  # type: ignore[import-not-found,unused-ignore]  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise CredentialError(
            f"secret `{name}`: `keyring` needs a library that is not installed", hint="install `egress[keyring]`"
        ) from error
    if not _asking.acquire(blocking=False):
        raise CredentialError(f"secret `{name}`: the keyring has not answered another question yet")
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[object] = loop.create_future()
    threading.Thread(target=_ask, args=(keyring, source, loop, answer), name="keyring", daemon=True).start()
    value = await answer
    place = f"secret `{name}`: the keyring's entry of `{source.service}` and `{source.user}`"
    if isinstance(value, Exception):
        # Not its text: nobody knows what a keyring quotes.
        raise CredentialError(f"{place} cannot be read ({type(value).__name__})", hint="unlock the keyring")
    if not isinstance(value, str):
        raise CredentialError(f"{place} is not there", hint="`keyring set SERVICE USER` puts one there")
    return Fetched(Secret(name, value))


def _ask(keyring: Any, source: KeyringSource, loop: asyncio.AbstractEventLoop, answer: asyncio.Future[object]) -> None:
    try:
        found: object = keyring.get_password(source.service, source.user)
    except Exception as error:  # noqa: BLE001 - each keyring has errors of its own
        found = error
    finally:
        _asking.release()
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
        loop.call_soon_threadsafe(_tell, answer, found)


def _tell(answer: asyncio.Future[object], found: object) -> None:
    if not answer.done():
        answer.set_result(found)
