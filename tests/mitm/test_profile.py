"""The option profile: each option that would let traffic past the hooks is found, and refuses to run."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from egress.errors import StartError
from egress.mitm import options_profile

if TYPE_CHECKING:
    from pathlib import Path

    from mitmproxy.options import Options

# An unsafe value for each option of the profile.
UNSAFE: dict[str, object] = {
    "connection_strategy": "eager",
    "rawtcp": True,
    "http3": True,
    "ssl_insecure": True,
    "onboarding": True,
    "websocket": False,
    "validate_inbound_headers": False,
    "normalize_outbound_headers": False,
    "allow_hosts": ["x"],
    "ignore_hosts": ["x"],
    "tcp_hosts": ["x"],
    "udp_hosts": ["x"],
    "stream_large_bodies": "1",
    "store_streamed_bodies": True,
    "upstream_cert": True,
    "add_upstream_certs_to_client_chain": True,
    "request_client_cert": True,
    "client_certs": "/tmp",  # noqa: S108 -- never opened
    "tls_version_client_min": "SSL3",
    "tls_version_server_min": "UNBOUNDED",
    "map_remote": ["/a/b/c"],
    "map_local": ["/a/b/c"],
    "modify_body": ["/a/b/c"],
    "modify_headers": ["/a/b/c"],
    "server_replay": ["x"],
    "client_replay": ["x"],
    "save_stream_file": "x",
    "flow_detail": 4,
    "mode": ["socks5"],
}


def options() -> Options:
    """Every option of the profile, at its safe value."""
    made = options_profile.embedded(idle_seconds=60)
    for name, value in options_profile.SAFE.items():
        if name not in made:
            kind = {bool: bool, str: str, int: int, list: Sequence[str]}.get(type(value), str | None)
            made.add_option(name, kind, value, "")  # type: ignore[arg-type]
    options_profile.check(made)
    return made


def test_every_option_of_the_profile_is_tried_here() -> None:
    """An option that is added to the profile gets its unsafe value above."""
    assert set(UNSAFE) == set(options_profile.SAFE)


@pytest.mark.parametrize("name", sorted(UNSAFE))
def test_an_unsafe_option_is_found_and_refused(name: str) -> None:
    """One line that names it, what it is and what it must be; and no start."""
    made = options()
    made.update(**{name: UNSAFE[name]})
    (problem,) = options_profile.problems(made)
    assert problem.startswith(f"option {name} is ")
    with pytest.raises(StartError, match=name):
        options_profile.check(made)


@pytest.mark.parametrize("name", sorted(UNSAFE))
def test_applying_the_profile_sets_what_was_unsafe(name: str) -> None:
    """What can be set safely is, before it is asserted."""
    made = options()
    made.update(**{name: UNSAFE[name]})
    options_profile.apply(made)
    options_profile.check(made)
    assert getattr(made, name) == options_profile.SAFE[name]


@pytest.mark.parametrize("name", options_profile.OFF_WHERE_PRESENT)
def test_an_option_that_signs_with_a_compromised_key_is_refused(name: str) -> None:
    """Versions that have it must have it off."""
    made = options()
    made.add_option(name, bool, True, "")  # noqa: FBT003 -- mitmproxy's own signature
    with pytest.raises(StartError, match=f"{name} must be off"):
        options_profile.check(made)


def test_the_embedded_profile_is_safe_and_complete() -> None:
    """What the layers read is there; nothing is read from a folder."""
    made = options_profile.embedded(idle_seconds=17)
    assert options_profile.problems(made) == []
    assert (made.tcp_timeout, made.server, made.confdir) == (17, False, "/dev/null")


def test_key_logging_is_taken_out_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that make TLS libraries write session keys to a file."""
    for name in ("SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"):
        monkeypatch.setenv(name, "/nowhere")
    options_profile.scrub_key_logging()
    assert not {"SSLKEYLOGFILE", "MITMPROXY_SSLKEYLOGFILE"} & os.environ.keys()


def test_no_key_is_logged_by_a_process_that_was_told_to(tmp_path: Path) -> None:
    """Mitmproxy reads the variable when it is imported: by then it must be gone."""
    code = (
        "import egress.server.run as run, sys\n"
        "from egress.mitm import options_profile\n"
        "options_profile.scrub_key_logging()\n"
        "import egress.mitm.listener, mitmproxy.net.tls as tls\n"
        "sys.exit(tls.log_master_secret is not None)"
    )
    env = {**os.environ, "SSLKEYLOGFILE": str(tmp_path / "keys"), "MITMPROXY_SSLKEYLOGFILE": str(tmp_path / "keys")}
    assert subprocess.run([sys.executable, "-c", code], env=env, check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("version", "warned"),
    [("4.3.0", True), ("4.4.0", True), ("4.4.1", False), ("4.5.0", False), ("5.0", False), ("3.9.9", True)],
)
def test_an_h2_that_accepts_two_hosts_is_warned_of(
    *, version: str, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plain pip may install it beside this mitmproxy; our own rule catches the defect too."""
    monkeypatch.setattr(options_profile.h2, "__version__", version)
    assert (options_profile.check_h2() is not None) is warned
