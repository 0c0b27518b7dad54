"""The fuzzers in a test run: the committed corpus, then a bounded number of new inputs; `make fuzz` goes on.

The seed is fixed, so that a failure repeats.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from fuzz.coverage import Branches
from fuzz.engine import corpus_of, fuzz
from fuzz.listener import requests_in
from fuzz.targets import PARSERS

from egress.config.host_lists import parse_host_list
from egress.policy import parse_target, target_covers
from egress.policy.paths import compile_path
from egress.wire.head import RequestHead, parse_request_head
from egress.wire.socks import parse_greeting, parse_socks_request

SEED = 6
ROUNDS = 6_000
# Those that read whole files take longer for each input.
FEWER = {"host-lists": 600, "policies": 600, "dns-questions": 1_500}
ACCEPTED = {
    "request-heads": "request:",
    "response-heads": "response:",
    "chunked-bodies": "body:  True",
    "client-hellos": "hello:",
    "socks-openings": "greeting:",
    "dns-questions": "question:",
    "targets": "target:",
    "path-patterns": "pattern:",
    "host-lists": "list:",
    "policies": "policy:",
}


@pytest.mark.parametrize("name", PARSERS)
def test_committed_inputs_hold(name: str) -> None:
    """Each target has a corpus, and what once was worth keeping still holds."""
    target = PARSERS[name]()
    inputs = corpus_of(name)
    assert len(inputs) > 10
    for data in inputs:
        target.check(data, Random(SEED))  # noqa: S311 -- repeatable by intent


@pytest.mark.parametrize("name", PARSERS)
def test_new_inputs_hold(name: str) -> None:
    """No input raises, no prefix outruns its whole, no cut changes an answer, and the witnesses agree."""
    report = fuzz(PARSERS[name](), SEED, rounds=FEWER.get(name, ROUNDS))
    assert not report.findings, str(report)


@pytest.mark.parametrize("name", PARSERS)
def test_fuzzer_reaches_every_kind_of_answer(name: str) -> None:
    """A fuzzer that is always refused, or never, tests nothing."""
    rounds = FEWER.get(name, ROUNDS)
    kinds = fuzz(PARSERS[name](), SEED, rounds=rounds).kinds
    accepted = ACCEPTED[name]
    assert sum(count for kind, count in kinds.items() if kind.startswith(accepted)) > rounds / 100
    # A list with mistakes is a list too, that says so.
    others = sum(count for kind, count in kinds.items() if not kind.startswith(accepted) or "[]" not in kind)
    assert others > rounds / 10
    assert len(kinds) > 15


def test_fuzzer_finds_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a parser that reads a space before a colon as nothing, there are findings, and they are small."""

    def lenient(data: bytes | bytearray, *more: object, **named: object) -> object:
        return parse_request_head(bytes(data).replace(b" :", b":"), *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr("fuzz.heads.parse_request_head", lenient)
    report = fuzz(PARSERS["request-heads"](), SEED, rounds=ROUNDS)
    assert report.findings
    assert min(len(data) for data in report.findings.values()) < 80
    assert any(isinstance(lenient(data), RequestHead) for data in report.findings.values())


@pytest.mark.parametrize(
    ("name", "part", "wider"),
    [
        ("targets", "parse_target", lambda text, **named: parse_target(text.replace("*.", "."), **named)),
        ("targets", "target_covers", lambda own, host, port: target_covers(replace(own, port=None), host, port)),
        ("path-patterns", "compile_path", lambda text: compile_path(text.replace("/*", "/**"))),
        ("host-lists", "parse_host_list", lambda text, *more: parse_host_list(text.replace("api.", "."), *more)),
        ("policies", "_rules_in", lambda _: [("deny", "a.test")]),
    ],
)
def test_fuzzers_of_policies_find_what_is_wider_than_written(
    monkeypatch: pytest.MonkeyPatch, name: str, part: str, wider: object
) -> None:
    """A wildcard with its apex, a port forgotten, a segment that is several, a host that is all below, an odd rule."""
    monkeypatch.setattr(f"fuzz.policies.{part}", wider)
    assert fuzz(PARSERS[name](), SEED, rounds=300).findings


def _unreserved(data: bytes) -> object:
    return parse_socks_request(data[:2] + b"\0" + data[3:])


@pytest.mark.parametrize(
    ("name", "part", "other"),
    [
        ("socks-openings", "fuzz.socks.parse_greeting", lambda data: parse_greeting(data[:0] or b"\x05" + data[1:])),
        (
            "socks-openings",
            "fuzz.socks.parse_socks_request",
            _unreserved,
        ),
        ("dns-questions", "fuzz.questions.named", lambda _: (b"other",)),
    ],
)
def test_fuzzers_of_roads_find_what_is_read_otherwise(
    monkeypatch: pytest.MonkeyPatch, name: str, part: str, other: object
) -> None:
    """Another version, a reserved byte that is not looked at, another name than was asked for."""
    monkeypatch.setattr(part, other)
    assert fuzz(PARSERS[name](), SEED, rounds=300).findings


def test_a_branch_that_none_took_before_is_new() -> None:
    """Each way of a branch counts once."""
    with Branches() as branches:
        parse_target("never-seen.example.com")
        first = branches.count
        parse_target("never-seen.example.org")
        assert branches.count == first > 0
        parse_target("10.0.0.0/8")
        assert branches.count > first


@pytest.mark.parametrize(
    "received",
    [
        b"GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n",
        b"GET http://origin.test/ HTTP/1.1\r\nHost: origin.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\nX\0",
        b"POST / HTTP/1.1\r\nHost: origin.test\r\nTransfer-Encoding: chunked\r\n\r\ng\r\n",
        b"POST / HTTP/1.1\r\nHost: origin.test\r\nContent-Length: 1\r\n\r\na\0",
    ],
)
def test_listener_s_judge_of_what_origins_got_is_strict(received: bytes) -> None:
    """What no origin may be sent is a finding: another host, a URL, bytes between requests, a broken body."""
    with pytest.raises(AssertionError):
        requests_in(received)
    assert requests_in(b"GET / HTTP/1.1\r\nHost: origin.test\r\n\r\n" * 2) == 2
