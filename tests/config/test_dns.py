"""`dns` in the server's configuration: what it means, what is wrong with it, and that the guide is true."""

from __future__ import annotations

from datetime import UTC, datetime
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from documents import ROOT, blocks, prose

from egress.config import DnsAnswers, DnsConfig, DnsLimits, ServerOverrides, load_policy, load_server_config
from egress.config.dns_model import DnsLimitsModel, DnsModel, DnsRangesModel
from egress.config.sources import PolicySource
from egress.errors import ConfigError
from egress.policy import Rate, Scope
from egress.review.lint import check_loaded

if TYPE_CHECKING:
    from pathlib import Path

GUIDE = ROOT / "docs" / "guides" / "dns.md"


def load(folder: Path, text: str, flag: str | None = None) -> DnsConfig:
    """What a file and a flag come to."""
    path = folder / "egress.yaml"
    path.write_text(text)
    return load_server_config(path, ServerOverrides(dns=flag), {}).dns


def test_without_it_nobody_is_answered(tmp_path: Path) -> None:
    """And nothing is given out."""
    found = load(tmp_path, "workers: 1\n")
    assert (found, found.gives) == (DnsConfig(), False)


def test_all_of_it(tmp_path: Path) -> None:
    """Every key, as it is meant."""
    text = """dns:
  listen: [127.0.0.1:5353, "[::1]:0"]
  answers: real
  ranges: {ipv4: 10.200.0.0/16, ipv6: false}
  keep: 7200
  ttl: 5
  servers: [10.0.0.53, "10.0.0.54:5353", "fd00::53", "[fd00::54]:5353"]
  zones: {Corp.Example: 10.0.0.55}
  limits: {queries: 10/s, parent_queries: 20/min, parent_names: 30/day}
"""
    assert load(tmp_path, text) == DnsConfig(
        listen=(("127.0.0.1", 5353), ("::1", 0)),
        answers=DnsAnswers.REAL,
        ipv4=ip_network("10.200.0.0/16"),  # type: ignore[arg-type]
        ipv6=None,
        keep_seconds=7_200,
        ttl=5,
        servers=(("10.0.0.53", 53), ("10.0.0.54", 5353), ("fd00::53", 53), ("fd00::54", 5353)),
        zones={"corp.example": (("10.0.0.55", 53),)},
        limits=DnsLimits(Rate(10, 1), Rate(20, 60), Rate(30, 86_400)),
    )


def test_the_flag_wins(tmp_path: Path) -> None:
    """It says where; all else stays the file's."""
    found = load(tmp_path, "dns: {listen: 127.0.0.1:5353, ttl: 7}\n", "127.0.0.1:5399")
    assert (found.listen, found.ttl) == ((("127.0.0.1", 5399),), 7)


def test_a_sandbox_may_be_told_by_the_listener_that_it_asks(tmp_path: Path) -> None:
    """Of the resolver as of the proxy; what nobody listens on is an error there, too."""
    path = tmp_path / "egress.yaml"
    path.write_text("dns: {listen: ['127.0.0.1:53']}\nsandboxes: {a: {listener: '127.0.0.1:53'}}\n")
    config = load_server_config(path, ServerOverrides(), {})
    assert config.sandboxes[0].listener == ("127.0.0.1", 53)
    assert ("127.0.0.1", 53) in config.doors
    path.write_text("dns: {listen: ['127.0.0.1:54']}\nsandboxes: {a: {listener: '127.0.0.1:53'}}\n")
    with pytest.raises(ConfigError, match="does not listen there"):
        load_server_config(path, ServerOverrides(), {})


WRONG = [
    ("dns: []", "dns: should be a mapping"),
    ("dns: {answer: real}", "dns.answer: unknown key, did you mean `answers`?"),
    ("dns: {answers: fake}", "dns.answers: unknown word `fake`"),
    ("dns: {listen: 5353}", "dns.listen: should be a list"),
    ("dns: {listen: 0.0.0.0:53}", "dns.listen: all addresses are no place to answer from"),
    ("dns: {listen: localhost:53}", "dns.listen: `localhost:53` is not an address and port"),
    ("dns: {listen: 127.0.0.1:70000}", "dns.listen: `127.0.0.1:70000` is not an address and port"),
    ("dns: {listen: '::1:53'}", "dns.listen: `::1:53` is not an address and port"),
    ("dns: {ranges: {ipv4: 8.8.0.0/16}}", "dns.ranges.ipv4: 8.8.0.0/16 is public"),
    ("dns: {ranges: {ipv4: 0.0.0.0/0}}", "dns.ranges.ipv4: 0.0.0.0/0 is public"),
    ("dns: {ranges: {ipv4: 0.0.0.0/1}}", "dns.ranges.ipv4: 0.0.0.0/1 is public"),
    ("dns: {ranges: {ipv4: 192.0.0.0/2}}", "dns.ranges.ipv4: 192.0.0.0/2 is public"),
    ("dns: {ranges: {ipv6: '::/0'}}", "dns.ranges.ipv6: ::/0 is public"),
    ("dns: {ranges: {ipv4: 198.18.0.0/30}}", "dns.ranges.ipv4: 198.18.0.0/30 is too small"),
    ("dns: {ranges: {ipv4: 'fd00::/64'}}", "dns.ranges.ipv4: `fd00::/64` is not such a range"),
    ("dns: {ranges: {ipv6: 198.18.0.0/15}}", "dns.ranges.ipv6: `198.18.0.0/15` is not such a range"),
    (
        "dns: {listen: 127.0.0.1:53, ranges: {ipv4: false, ipv6: false}}",
        "dns.ranges: there is no address to answer with",
    ),
    ("dns: {keep: 60}", "dns.keep: should be greater than or equal to 3600"),
    ("dns: {ttl: 0}", "dns.ttl: should be greater than or equal to 1"),
    ("dns: {servers: []}", "dns.servers: there is nobody to ask"),
    ("dns: {servers: ns.corp.example}", "dns.servers: `ns.corp.example` is not an address and port"),
    ("dns: {servers: '10.0.0.53:0'}", "dns.servers: port 0 is no port to ask"),
    ("dns: {listen: 127.0.0.1:53, servers: 127.0.0.1}", "dns.servers: this is where we answer ourselves"),
    ("dns: {zones: {10.0.0.1: 10.0.0.53}}", 'dns.zones["10.0.0.1"]: is not a domain'),
    ("dns: {zones: {corp.example: []}}", 'dns.zones["corp.example"]: there is nobody to ask'),
    ("dns: {limits: {queries: many}}", "dns.limits.queries: `many` is not a number of requests in a time"),
]


@pytest.mark.parametrize(("text", "told"), WRONG)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, text: str, told: str) -> None:
    """Nothing starts with it."""
    with pytest.raises(ConfigError) as raised:
        load(tmp_path, f"{text}\n")
    assert f"egress.yaml:1: {told}" in str(raised.value)


@pytest.mark.parametrize("flag", ["5353", "0.0.0.0:53", "localhost:53", "unix:/tmp/x"])
def test_a_flag_that_is_wrong_is_named(tmp_path: Path, flag: str) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigError, match=r"^--dns: "):
        load(tmp_path, "workers: 1\n", flag)


def test_the_guide_names_every_key() -> None:
    """What is not in the guide does not exist for its readers."""
    text = GUIDE.read_text()
    keys = {key for model in (DnsModel, DnsRangesModel, DnsLimitsModel) for key in model.model_fields}
    assert {key for key in keys if key not in text} == set()
    config = (ROOT / "docs" / "guides" / "configuration.md").read_text()
    assert {key for key in keys if f"{key}:" not in config} == set()


def test_the_defaults_are_those_that_the_guides_tell(tmp_path: Path) -> None:
    """Every figure is the one that holds without a file."""
    limits = DnsConfig().limits
    for key, told in (("queries", "3000/min"), ("parent_queries", "600/min"), ("parent_names", "500/h")):
        assert f"| `{key}` | `{told}` |" in prose(GUIDE)
        assert load(tmp_path, f"dns: {{limits: {{{key}: {told}}}}}\n").limits == limits
    found = load(
        tmp_path, 'dns: {ranges: {ipv4: 198.18.0.0/15, ipv6: "fd65:6772:6573:7300::/64"}, keep: 86400, ttl: 60}\n'
    )
    assert found == DnsConfig()


def test_the_examples_of_the_guide_load(tmp_path: Path) -> None:
    """Configurations and policies, without a warning."""
    for number, block in enumerate(blocks(GUIDE, "yaml")):
        if not block.text.startswith("version:"):
            assert load(tmp_path, block.text) != DnsConfig()
            continue
        path = tmp_path / f"policy{number}.yaml"
        path.write_text(block.text)
        loaded = load_policy([PolicySource(Scope.SANDBOX, path)])
        assert check_loaded(loaded, now=datetime.now(UTC)).findings == ()
