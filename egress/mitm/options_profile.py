"""The option profile without which mitmproxy lets traffic through, set at load and asserted ever after.

`SAFE` is what must hold, with the reason for each; a process in which one does not hold refuses to run.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import h2
from mitmproxy.options import Options

from egress.certs import scrub_key_logging
from egress.errors import StartError

SAFE: dict[str, object] = {
    "connection_strategy": "lazy",  # eager dials before the request is known
    "rawtcp": False,  # a leading space would make a whole request bypass every HTTP hook
    "http3": False,
    "ssl_insecure": False,
    "onboarding": False,  # answers a host of its own
    "websocket": True,  # without it, an upgraded connection would be raw TCP
    "validate_inbound_headers": True,
    "normalize_outbound_headers": True,
    "allow_hosts": [],  # no allow-list: what does not match is tunnelled unseen
    "ignore_hosts": [],
    "tcp_hosts": [],
    "udp_hosts": [],
    "stream_large_bodies": None,  # streaming is ours, after the decision
    "store_streamed_bodies": False,
    "upstream_cert": False,
    "add_upstream_certs_to_client_chain": False,
    "request_client_cert": False,
    "client_certs": None,
    "tls_version_client_min": "TLS1_2",
    "tls_version_server_min": "TLS1_2",
    "map_remote": [],
    "map_local": [],
    "modify_body": [],
    "modify_headers": [],
    "server_replay": [],
    "client_replay": [],
    "save_stream_file": None,  # flows hold credentials
    "flow_detail": 1,  # more would print headers, and with them secrets
    "mode": ["regular"],
}

# Options of some versions only; where they exist they must be off. The last two sign with the key of a public CA
# that is known to be compromised.
OFF_WHERE_PRESENT = ("emudhra", "emudhra_old")

_H2_SINCE = (4, 4, 1)

__all__ = [
    "OFF_WHERE_PRESENT",
    "SAFE",
    "apply",
    "check",
    "check_h2",
    "embedded",
    "fixed",
    "problems",
    "scrub_key_logging",
]

# Options that the layers read and an addon of mitmproxy's would register; the embedded form has no addons.
_OF_ADDONS: tuple[tuple[str, object, object], ...] = (
    ("store_streamed_bodies", bool, False),
    ("connection_strategy", str, "lazy"),
    ("stream_large_bodies", str | None, None),
    ("body_size_limit", str | None, None),
    ("keep_host_header", bool, False),
    ("proxy_debug", bool, False),
    ("normalize_outbound_headers", bool, True),
    ("validate_inbound_headers", bool, True),
    ("connect_addr", str | None, None),
)


def embedded(*, idle_seconds: int) -> Options:
    """The options of a handler that runs without mitmproxy's master and addons."""
    options = Options()
    for name, kind, default in _OF_ADDONS:
        options.add_option(name, kind, default, "")
    # The layers read no file; a folder that cannot exist makes sure of it.
    options.update(server=False, confdir="/dev/null", tcp_timeout=idle_seconds)
    apply(options)
    check(options)
    return options


def fixed(options: Options) -> Options:
    """The values of these options, which nothing can change any more; mitmproxy's own copies each at every look."""
    return cast("Options", SimpleNamespace(**{name: getattr(options, name) for name in options.keys()}))  # noqa: SIM118


def apply(options: Options) -> None:
    """Set the safe values of all options that exist and have another."""
    wrong = {name: value for name, value in SAFE.items() if name in options and getattr(options, name) != value}
    if wrong:
        options.update(**wrong)


def problems(options: Options) -> list[str]:
    """What of the profile does not hold, one sentence each."""
    found = [
        f"option {name} is {getattr(options, name)!r}, and must be {value!r}"
        for name, value in SAFE.items()
        if name in options and getattr(options, name) != value
    ]
    found += [f"option {name} must be off" for name in OFF_WHERE_PRESENT if name in options and getattr(options, name)]
    return found


def check(options: Options) -> None:
    """Raise StartError unless the whole profile holds."""
    found = problems(options)
    if found:
        raise StartError("mitmproxy is not set up safely: " + "; ".join(found), hint="remove these settings")


def check_h2() -> str | None:
    """A warning if the installed h2 accepts duplicate Host fields (CVE-2026-71554); our own rule catches them too."""
    installed = tuple(int(part) for part in h2.__version__.split(".")[:3] if part.isdigit())
    if installed < _H2_SINCE:
        return f"h2 {h2.__version__} is older than 4.4.1: install from the lock file"
    return None
