"""A generation as bytes: the same decisions, the same secrets, and a memory that nobody can change or find."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from egress.config import PolicySource, load_policy
from egress.credentials import CredentialStore, Rendered
from egress.gate.generation import Generation
from egress.policy import Host, Protocol, Reason, Refusal, Request, Scope
from egress.server.generations import read_generation, write_generation

SECRET = "canary-0123456789-never-seen"
POLICY = """
version: 1
secrets:
  token: {env: TOKEN, hosts: [api.test]}
  filed: {file: secret.txt, hosts: [filed.api.test]}
  gone: {env: NOT_SET, hosts: [api.test]}
rules:
  - {allow: api.test, paths: ["/v1/**"], methods: [GET], inject: {X-Key: "Key ${token}"}, remove: [Cookie]}
  - {allow: filed.api.test, inject: {X-Key: "${filed}"}}
  - {deny: "*.evil.test", name: never}
  - {allow: "**", ports: [8000-8010], addresses: [10.0.0.0/8], tls: tunnel}
"""


@pytest.fixture
def generation(tmp_path: Path) -> Generation:
    """A generation with every kind of rule and secret."""
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    (tmp_path / "secret.txt").write_text("filed-value\n")
    loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
    return Generation(7, loaded.policy, CredentialStore(loaded.secrets, env={"TOKEN": SECRET}))


def ask(host: str, path: str = "/v1/x", method: str | None = "GET", port: int = 443) -> Request:
    """A request."""
    return Request("default", Protocol.HTTPS, Host(host), port, method, None if method is None else path)


REQUESTS = [
    ask("api.test"),
    ask("api.test", "/v2"),
    ask("api.test", method="POST"),
    ask("a.evil.test"),
    ask("else.test"),
    ask("else.test", port=8001, method=None),
]


def test_it_decides_as_before(generation: Generation) -> None:
    """Number, digest and every decision, with rule, file and line."""
    read = read_generation(write_generation(generation))
    assert (read.number, read.policy.digest) == (7, generation.policy.digest)
    for request in REQUESTS:
        assert read.policy.decide_request(request) == generation.policy.decide_request(request)
        assert read.policy.decide_name(request) == generation.policy.decide_name(request)


def test_its_secrets_are_the_same(generation: Generation) -> None:
    """The value of a variable that is long gone, a file, and the reason why there is no value; bound as before."""
    read = read_generation(write_generation(generation))
    for request in REQUESTS[:1]:
        inject = read.policy.decide_request(request).inject
        rendered = read.credentials.render(inject, request, verified_tls=True)
        assert isinstance(rendered, Rendered)
        assert [value.reveal() for _, value in rendered.headers] == [f"Key {SECRET}"]
        unverified = read.credentials.render(inject, request, verified_tls=False)
        assert isinstance(unverified, Refusal)
        assert unverified.reason is Reason.CREDENTIAL_INSECURE
    assert read.credentials.problems() == generation.credentials.problems()
    assert {secret.name for secret in read.credentials.known()} == {"token", "filed"}


def test_it_can_be_read_by_several_processes(generation: Generation) -> None:
    """Each has a copy of the descriptor, and none reads past what another has read."""
    descriptor = write_generation(generation)
    others = [os.dup(descriptor) for _ in range(3)]
    for copy in (descriptor, *others):
        assert read_generation(copy).policy.digest == generation.policy.digest
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_nobody_can_change_it_nor_find_it(generation: Generation) -> None:
    """No name in any folder, no write, no other size."""
    descriptor = write_generation(generation)
    place = str(Path(f"/proc/self/fd/{descriptor}").readlink())
    assert place.startswith("/memfd:")
    assert place.endswith("(deleted)")
    with pytest.raises(PermissionError):
        os.pwrite(descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        os.ftruncate(descriptor, 1)
    os.close(descriptor)
