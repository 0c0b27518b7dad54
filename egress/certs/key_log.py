"""Keeps TLS libraries from writing session keys to a file: who has them can read what went over the wire."""

from __future__ import annotations

import os

_VARIABLES = ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE")


def scrub_key_logging() -> None:
    """Take the variables that ask for it out of the environment; call before a TLS library reads them."""
    for name in _VARIABLES:
        os.environ.pop(name, None)
