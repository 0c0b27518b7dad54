"""Python's own clients through the proxy, configured by environment variables only."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from harness.station import KEY

if TYPE_CHECKING:
    from harness.station import Station

URLLIB = """
import ssl, sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as answer: print(answer.status, answer.read().decode())
"""
REQUESTS = """
import sys, requests
answer = requests.get(sys.argv[1]); print(answer.status_code, answer.text)
"""
HTTPX = """
import sys, httpx
answer = httpx.get(sys.argv[1]); print(answer.status_code, answer.text)
"""


@pytest.mark.parametrize("program", [URLLIB, REQUESTS, HTTPX], ids=["urllib", "requests", "httpx"])
def test_python_clients_pass_and_are_denied(station: Station, program: str) -> None:
    """Allowed: 200 and one row. Denied: an exception that shows 403, and one row."""
    window = station.window()
    done = station.run(sys.executable, "-c", program, "https://allowed.test/")
    assert done.stdout.startswith("200 hello from allowed"), done.stderr
    assert [one["key"] for one in window.seen(1)] == [KEY]
    assert window.verdicts(1) == ["allow"]

    window = station.window()
    done = station.run(sys.executable, "-c", program, "https://evil.test/")
    assert done.returncode != 0
    assert "403" in done.stderr
    assert "host-not-allowed" in done.stderr
    assert window.verdicts(1) == ["deny"]
