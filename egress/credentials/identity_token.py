"""What a sandbox's SDK shows to the identity endpoints: the same for a state folder, and guessed by nobody else.

It is no credential: what it opens are placeholders. It keeps out a page or a server in the sandbox's reach that can be
talked into fetching a URL, as it does at the services that are stood in for.
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING

from egress.credentials.placeholder_key import placeholder_key

if TYPE_CHECKING:
    from pathlib import Path


def identity_token(state_dir: Path) -> str:
    """64 hex digits. Raises StateError if the state folder's key cannot be had."""
    return hmac.digest(placeholder_key(state_dir), b"identity\0", sha256).hex()
