"""`audit: {stream: ...}`: what is written, what it means, and what the flag changes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from egress.config import (
    ServerOverrides,
    StreamAddress,
    StreamConfig,
    StreamKind,
    load_server_config,
)
from egress.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

TCP = StreamAddress(StreamKind.TCP, host="127.0.0.1", port=601)
MEANINGS = {
    "stdout": StreamConfig(StreamAddress(StreamKind.STDOUT)),
    "unix:/dev/log": StreamConfig(StreamAddress(StreamKind.UNIX, path="/dev/log")),
    "udp://log.corp.example:514": StreamConfig(StreamAddress(StreamKind.UDP, host="log.corp.example", port=514)),
    "tcp://[::1]:601": StreamConfig(StreamAddress(StreamKind.TCP, host="::1", port=601)),
    "{to: 'tcp://127.0.0.1:601', facility: authpriv, buffer: 500}": StreamConfig(TCP, facility=10, buffer=500),
}


def load(folder: Path, text: str, flag: str | None = None) -> StreamConfig | None:
    """Load a configuration with that value."""
    file = folder / "egress.yaml"
    file.write_text(f"audit: {{stream: {text}}}\n")
    return load_server_config(file, ServerOverrides(audit_stream=flag), {"HOME": "/home/dev"}).audit.stream


@pytest.mark.parametrize("text", MEANINGS)
def test_every_form_means_what_it_says(tmp_path: Path, text: str) -> None:
    """Text is short for a mapping with `to` alone."""
    found = load(tmp_path, text if text.startswith("{") else f"'{text}'")
    assert found == MEANINGS[text]


@pytest.mark.parametrize("text", ["stdout", "unix:/dev/log", "udp://log.corp.example:514", "tcp://[::1]:601"])
def test_an_address_is_told_as_it_is_written(tmp_path: Path, text: str) -> None:
    """In the log and in events a person finds what the configuration has."""
    found = load(tmp_path, f"'{text}'")
    assert found is not None
    assert str(found.to) == text


def test_local0_is_the_facility_unless_another_is_named(tmp_path: Path) -> None:
    """16, in RFC 5424, table 1."""
    found = load(tmp_path, "stdout")
    assert found is not None
    assert found.facility == 16


def test_the_flag_says_where_to_and_the_file_how(tmp_path: Path) -> None:
    """Also where the file says nothing."""
    found = load(tmp_path, "{to: stdout, facility: authpriv}", "tcp://127.0.0.1:601")
    assert found == StreamConfig(TCP, facility=10)
    assert load_server_config(None, ServerOverrides(audit_stream="stdout"), {"HOME": "/h"}).audit.stream is not None


def test_a_flag_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigError, match="--audit-stream"):
        load(tmp_path, "stdout", "syslog")
