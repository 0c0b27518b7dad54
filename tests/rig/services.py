"""Stand-ins for services that ask for a credential: TLS origins that answer requests by host, and take notes.

A service is a function of what was asked. What asks for the credential wraps another service: `behind`.
"""

from __future__ import annotations

import gzip
import os
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from harness.origins import Head, Stream

type Service = Callable[[Asked], Answer]


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as a service got it: `host` without its port, `fields` by lower-case name, the body unchunked."""

    host: str
    method: str
    path: str
    query: str
    fields: Mapping[str, str]
    body: bytes = b""

    @property
    def credential(self) -> str:
        """What stands in Authorization; empty without it."""
        return self.fields.get("authorization", "")

    def __str__(self) -> str:
        return f"{self.method} {self.host}{self.path}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service says."""

    status: int = 200
    body: bytes = b""
    fields: Mapping[str, str] = field(default_factory=dict)


NOT_FOUND = Answer(404, b"not here", {"Content-Type": "text/plain"})


@dataclass(slots=True)
class Services:
    """The services of an origin by host, and all that they were asked. `behave` is an origin's behaviour."""

    hosts: Mapping[str, Service]
    asked: list[Asked] = field(default_factory=list)

    def behave(self, stream: Stream) -> None:
        """Answer one connection's requests."""
        while head := stream.request():
            if head.values(b"expect"):
                stream.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            asked = _asked(head, _unchunked(head, stream.body(head)))
            self.asked.append(asked)
            answer = self.hosts.get(asked.host, lambda _: NOT_FOUND)(asked)
            bare = asked.method == "HEAD" or answer.status == 304
            fields = {"Content-Length": str(len(answer.body)), **answer.fields}
            rows = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
            stream.send(f"HTTP/1.1 {answer.status} Said\r\n{rows}\r\n".encode() + (b"" if bare else answer.body))

    def to(self, host: str) -> list[Asked]:
        """What one host was asked."""
        return [each for each in self.asked if each.host == host]


def behind(service: Service, *credentials: str, challenge: str = 'Basic realm="members"') -> Service:
    """The service for whoever sends one of these in Authorization; 401 and a challenge for all others."""

    def guarded(asked: Asked) -> Answer:
        if asked.credential in credentials:
            return service(asked)
        return Answer(401, b"who are you?", {"WWW-Authenticate": challenge, "Content-Type": "text/plain"})

    return guarded


def zipped(service: Service) -> Service:
    """The service, whose answers are in gzip whether that was asked for or not."""

    def coded(asked: Asked) -> Answer:
        answer = service(asked)
        return Answer(answer.status, gzip.compress(answer.body), {**answer.fields, "Content-Encoding": "gzip"})

    return coded


def shelf(files: Mapping[str, Answer]) -> Service:
    """A service that reads answers by path, and gives parts of them on request, as servers of files do."""

    def serve(asked: Asked) -> Answer:
        answer = files.get(asked.path, NOT_FOUND)
        fields = {**answer.fields, "Accept-Ranges": "bytes"}
        wanted = asked.fields.get("range", "")
        if answer.status != 200 or not wanted.startswith("bytes="):
            return Answer(answer.status, answer.body, fields)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        part = answer.body[int(first) : int(last) + 1 if last else None]
        place = f"bytes {first}-{int(first) + len(part) - 1}/{len(answer.body)}"
        return Answer(206, part, {**fields, "Content-Range": place})

    return serve


def repositories(root: Path) -> Service:
    """Git's own server (`git http-backend`) for the bare repositories below a folder, each at its path."""

    def serve(asked: Asked) -> Answer:
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "HOME": str(root),
            "REQUEST_METHOD": asked.method,
            "PATH_INFO": asked.path,
            "QUERY_STRING": asked.query,
            "CONTENT_TYPE": asked.fields.get("content-type", ""),
            "HTTP_CONTENT_ENCODING": asked.fields.get("content-encoding", ""),
            "GIT_PROTOCOL": asked.fields.get("git-protocol", ""),
            "REMOTE_USER": "somebody",
        }
        done = subprocess.run(["git", "http-backend"], input=asked.body, capture_output=True, env=env, check=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        fields = dict(row.split(": ", 1) for row in head.decode().split("\r\n"))
        return Answer(int(fields.pop("Status", "200").split(" ")[0]), body, fields)

    return serve


def bare_repository(root: Path, name: str) -> None:
    """An empty repository that takes pushes."""
    for words in (["init", "-q", "--bare", "-b", "main"], ["-C", "config", "http.receivepack", "true"]):
        command, path = ["git", *words], str(root / name)
        where = command.index("-C") + 1 if "-C" in command else len(command)
        command.insert(where, path)
        subprocess.run(command, check=True, capture_output=True)


def _asked(head: Head, body: bytes) -> Asked:
    method, target, _ = head.line.decode().split(" ")
    path, _, query = target.partition("?")
    fields = {name.decode(): value.decode("latin-1") for name, value in head.fields}
    host = fields["host"].partition(":")[0]
    return Asked(host, method, path, query, fields, body)


def _unchunked(head: Head, data: bytes) -> bytes:
    if not head.values(b"transfer-encoding"):
        return data
    parts, at = [], 0
    while True:
        line = data.index(b"\r\n", at)
        size = int(data[at:line].split(b";")[0], 16)
        if not size:
            return b"".join(parts)
        parts.append(data[line + 2 : line + 2 + size])
        at = line + 2 + size + 2
