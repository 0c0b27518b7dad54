"""The load generator, built and run: what it counts as an answer, and what it does not."""

from __future__ import annotations

import shutil
import socketserver
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from bench.driver import load

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.driver.load import Sample

ANSWERS = {
    "/ten": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
    "/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\n012\r\n7\r\n3456789\r\n0\r\nA: b\r\n\r\n",
    "/early": b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
    "/close": b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789",
    "/denied": b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno",
    "/broken": b"HTTP/1.1 502 Bad\r\nContent-Length: 2\r\n\r\nno",
    "/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n01234",
    "/nonsense": b"220 mail.example ready\r\n\r\n",
}
CLOSING = {"/close", "/cut", "/nonsense"}


class Answering(socketserver.StreamRequestHandler):
    """Answers each head by its path; reads a body of a stated length first."""

    def handle(self) -> None:
        """One connection."""
        while line := self.rfile.readline().split():
            length, path = 0, line[1].decode()
            while (field := self.rfile.readline().strip()) != b"":
                name, _, value = field.partition(b":")
                length = int(value) if name.lower() == b"content-length" else length
            self.rfile.read(length)
            self.wfile.write(ANSWERS[path])
            if path in CLOSING:
                return


class Server(socketserver.ThreadingTCPServer):
    """Its threads end with the test."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """The generator leaves in the middle of a request when its time is up."""


def has_openssl() -> bool:
    """Whether there is a compiler, and it finds the headers, wherever they are."""
    command = ["cc", "-fsyntax-only", "-x", "c", "-"]
    source = b"#include <openssl/ssl.h>"
    return shutil.which("cc") is not None and not subprocess.run(command, input=source, check=False).returncode


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, built."""
    if not has_openssl():
        pytest.skip("cannot run here: no C compiler, or no headers of OpenSSL")
    return load.build(tmp_path_factory.mktemp("load"))


@pytest.fixture
def port() -> Iterator[str]:
    """Where the server listens."""
    with Server(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield str(server.server_address[1])
        server.shutdown()
        thread.join()


def run(generator: Path, port: str, *arguments: str) -> Sample:
    """Three answers, or a third of a second."""
    return load.run(generator, ["-p", port, "-c", "2", "-q", "3", *arguments], lambda: 0.0, 0.3)


@pytest.mark.parametrize("path", ["/ten", "/chunked", "/early", "/close"])
@pytest.mark.parametrize("more", [[], ["-n"], ["-b", "100000"]], ids=["kept", "new", "post"])
def test_a_whole_answer_of_the_right_length_counts(generator: Path, port: str, path: str, more: list[str]) -> None:
    """However it is framed, and however the connection is used."""
    sample = run(generator, port, "-u", path, "-l", "10", *more)
    assert sample.answered >= 3, sample
    assert not sample.failed, sample


WRONG = [
    (["-u", "/ten", "-l", "9"], "another length"),
    (["-u", "/denied"], "a refusal"),
    (["-u", "/broken"], "an error"),
    (["-u", "/cut"], "half a body"),
    (["-u", "/nonsense"], "no HTTP"),
    (["-u", "/ten", "-r"], "an answer where a refusal was asked for"),
    (["-u", "/broken", "-r"], "an error where a refusal was asked for"),
]


@pytest.mark.parametrize(("arguments", "what"), WRONG, ids=[what for _, what in WRONG])
def test_what_was_not_asked_for_is_an_error(generator: Path, port: str, arguments: list[str], what: str) -> None:
    """It is never an answer, and the first one is described."""
    sample = run(generator, port, *arguments)
    assert not sample.answered, what
    assert sample.failed
    assert sample.error


def test_a_refusal_counts_where_one_was_asked_for(generator: Path, port: str) -> None:
    """A 4xx is."""
    sample = run(generator, port, "-u", "/denied", "-r")
    assert sample.answered >= 3
    assert not sample.failed


def test_bodies_are_counted_both_ways(generator: Path, port: str) -> None:
    """What was sent and what came."""
    sample = load.run(generator, ["-p", port, "-c", "1", "-q", "1", "-u", "/ten", "-b", "5000"], lambda: 0.0, 5.0)
    assert sample.bytes_moved == 5_010
