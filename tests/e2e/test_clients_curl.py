"""curl through the proxy, HTTP/1.0 to HTTP/2: what is allowed passes with the key, what is denied says why."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from harness.station import KEY

if TYPE_CHECKING:
    from harness.station import Station

VERSIONS = {"--http1.0": "HTTP/1.0", "--http1.1": "HTTP/1.1", "--http2": "HTTP/2.0"}


@pytest.mark.parametrize("version", VERSIONS)
def test_curl_passes_and_is_denied(station: Station, version: str) -> None:
    """Allowed: 200, the key at the origin only, one row. Denied: a page that says so, one row, nothing passed."""
    window = station.window()
    done = station.run("curl", "-sSv", version, "https://allowed.test/")
    assert "hello from allowed" in done.stdout, done.stderr
    (seen,) = window.seen(1)
    assert seen["key"] == KEY
    (row,) = window.rows(1)
    assert (row["verdict"], row["status"], row["host"], row["method"]) == ("allow", 200, "allowed.test", "GET")
    # HTTP/1.0 by ALPN is what the http lane does not offer.
    assert row["lane"] == ("mitm" if version == "--http1.0" else station.lane or "http")
    if version == "--http2":
        # It offers both, and no rule asks for HTTP/2; mitmproxy, forced on it, speaks what it prefers.
        assert ("HTTP/2 200" if station.lane else "HTTP/1.1 200 OK") in done.stderr

    window = station.window()
    done = station.run("curl", "-sSv", version, "https://evil.test/")
    assert done.returncode != 0
    assert "X-Egress-Decision: deny; reason=host-not-allowed" in done.stderr
    assert "403 egress: host-not-allowed" in done.stderr
    assert window.verdicts(1) == ["deny"]
    assert not window.seen()


def test_curl_speaks_http2_where_a_rule_asks_for_it(station: Station) -> None:
    """The mitm lane carries it, with one row."""
    window = station.window()
    done = station.run("curl", "-sSv", "--http2", "https://stream.test/")
    assert "HTTP/2 200" in done.stderr
    (row,) = window.rows(1)
    assert (row["verdict"], row["status"], row["host"], row["lane"]) == ("allow", 200, "stream.test", "mitm")


def test_a_denied_plain_request_gets_a_page_that_explains(station: Station) -> None:
    """A plain denial is problem+json with reason, rule, id and a sentence."""
    window = station.window()
    done = station.run("curl", "-sSi", "http://evil.test/")
    assert "403" in done.stdout.splitlines()[0]
    assert "application/problem+json" in done.stdout
    (row,) = window.rows(1)
    assert str(row["id"]) in done.stdout
    assert "host-not-allowed" in done.stdout


def test_plain_http_passes_without_the_key(station: Station) -> None:
    """The way apt goes: cleartext to an allowed host, and no secret in it."""
    window = station.window()
    assert "hello from allowed" in station.run("curl", "-sS", "http://allowed.test/").stdout
    (seen,) = window.seen(1)
    assert (seen["scheme"], seen["key"]) == ("http", "")
    assert window.verdicts(1) == ["allow"]


def test_the_client_s_own_value_of_an_injected_header_is_replaced(station: Station) -> None:
    """No spelling and no duplicate of the header gets through beside ours."""
    window = station.window()
    headers = ("-H", "x-api-key: mine", "-H", "X-API-KEY: mine too")
    station.run("curl", "-sS", *headers, "https://allowed.test/")
    assert [seen["key"] for seen in window.seen(1)] == [KEY]


def test_answers_without_a_body_pass(station: Station) -> None:
    """HEAD, 204 and 304 leave the connection usable for what follows."""
    window = station.window()
    urls = ("https://allowed.test/empty", "https://allowed.test/same", "https://allowed.test/")
    done = station.run("curl", "-sS", "-w", "%{http_code} ", "-I", *urls)
    assert [word for word in done.stdout.split() if word in {"200", "204", "304"}].count("200") >= 1
    done = station.run("curl", "-sS", "-w", " %{http_code} ", *urls)
    assert done.stdout.split() == ["204", "304", "hello", "from", "allowed", "200"]
    assert window.verdicts(6) == ["allow"] * 6
