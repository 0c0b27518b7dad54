"""A secret's binding: how it is written, what it covers, and that a policy can narrow it and never widen it."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config import Binding, binding_of, binding_text, is_bound, narrowed, read_binding, target_text, wide_hosts
from egress.errors import ConfigError
from egress.policy import Host, Protocol, Request, parse_host

HOSTS = (
    "example.com",
    "api.example.com",
    "*.example.com",
    ".example.com",
    "*.api.example.com",
    ".api.example.com",
    "badexample.com",
    "api.example.com:8443",
    "*.example.com:8443",
    "api.example.com:443",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.3",
    "10.1.2.3:8443",
    "2001:db8::/32",
    "[2001:db8::1]:443",
)
ASKED = (
    "example.com",
    "api.example.com",
    "v1.api.example.com",
    "badexample.com",
    "10.1.2.3",
    "10.2.0.1",
    "2001:db8::1",
)
METHODS = ("GET", "POST", "DELETE")
PATTERNS = ("/", "/v1", "/v1/*", "/v1/**", "/**", "/v2/a")
PATHS = (None, "/", "/v1", "/v1/a", "/v1/a/b", "/v2/a", "/v1/../v2/a", "/v1%2fa", "//")

BINDINGS = st.builds(
    read_binding,
    st.lists(st.sampled_from(HOSTS), min_size=1, max_size=4),
    st.lists(st.sampled_from(METHODS), max_size=2),
    st.lists(st.sampled_from(PATTERNS), max_size=2),
)


def host(text: str) -> Host:
    """Give a host as it is judged."""
    found = parse_host(text)
    assert isinstance(found, Host)
    return found


REQUESTS = st.builds(
    Request,
    st.just("default"),
    st.just(Protocol.HTTPS),
    st.sampled_from(ASKED).map(host),
    st.sampled_from((443, 8443, 80)),
    st.sampled_from((None, *METHODS, "get")),
    st.sampled_from(PATHS),
)


@given(BINDINGS, BINDINGS, REQUESTS)
def test_what_two_bindings_come_to_covers_what_both_cover(one: Binding, other: Binding, request: Request) -> None:
    """So a policy never widens what the owner of the secret allowed, and takes no more away than it says."""
    assert narrowed(one, other).covers(request) == (one.covers(request) and other.covers(request))
    assert narrowed(other, one).covers(request) == (one.covers(request) and other.covers(request))


def test_each_two_hosts_come_to_what_both_name(subtests: pytest.Subtests) -> None:
    """Each pair of kinds: a name, those below, both, an address, a range, a port."""
    asked = [(host(text), port) for text in ASKED for port in (443, 8443, 80)]
    for one, other in product(HOSTS, HOSTS):
        first, second = read_binding([one]), read_binding([other])
        both = narrowed(first, second)
        with subtests.test(f"{one} and {other}"):
            for place, port in asked:
                wanted = is_bound(first.hosts, place, port) and is_bound(second.hosts, place, port)
                assert is_bound(both.hosts, place, port) == wanted


@given(BINDINGS, BINDINGS, BINDINGS, REQUESTS)
def test_narrowing_again_only_narrows(one: Binding, other: Binding, third: Binding, request: Request) -> None:
    """In whatever order files are read."""
    both = narrowed(narrowed(one, other), third)
    assert both.covers(request) == all(each.covers(request) for each in (one, other, third))


@given(BINDINGS)
def test_a_binding_is_spelt_in_one_way_and_read_back(binding: Binding) -> None:
    """The text is authenticated with the value, so it must not depend on an order."""
    text = binding_text(binding)
    again = binding_of(text)
    assert binding_text(again) == text
    assert (set(again.hosts), again.methods) == (set(binding.hosts), binding.methods)
    assert {frozenset(group) for group in again.paths} == {frozenset(group) for group in binding.paths}


def test_a_binding_without_hosts_covers_nothing() -> None:
    """As two that have none in common come to."""
    one, other = read_binding(["a.example.com"]), read_binding(["b.example.com"])
    assert narrowed(one, other).hosts == ()
    assert not narrowed(one, other).covers(Request("default", Protocol.HTTPS, host("a.example.com"), 443, "GET", "/"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (([], [], []), "--host: a secret is bound to one host at least, write `--host api.example.com`"),
        (([], ["GET"], []), "--host: a secret is bound to one host at least"),
        ((["*.com"], [], []), "--host: `*.com` covers names that anyone can register"),
        ((["*.co.uk"], [], []), "--host: `*.co.uk` covers names that anyone can register"),
        ((["**"], [], []), "--host: a secret is bound to hosts that are named, not to any"),
        ((["https://a.example.com"], [], []), "--host: `https://a.example.com` is a URL"),
        ((["${sandbox.name}.example.com"], [], []), "--host: "),
        ((["a.example.com"], ["get"], []), "--method: methods are upper-case"),
        ((["a.example.com"], ["TRACE"], []), "--method: `TRACE` makes a server send back"),
        ((["a.example.com"], [], ["v1"]), "--path: `v1` does not start with a slash, write `/v1`"),
        ((["a.example.com"], [], ["/${sandbox.name}/**"]), "--path: `/${sandbox.name}/**` is a template"),
        (([f"h{number}.example.com" for number in range(101)], [], []), "--host: more than 100 of them"),
    ],
)
def test_what_binds_to_nothing_or_to_anything_is_refused(words: tuple[list[str], ...], message: str) -> None:
    """By the policy's own parser, with what to write."""
    with pytest.raises(ConfigError) as error:
        read_binding(*words)
    assert message in str(error.value)


def test_every_mistake_is_told_at_once() -> None:
    """Like those of a file."""
    with pytest.raises(ConfigError) as error:
        read_binding(["*.com", "a b"], ["get"], ["x"])
    assert [problem.file for problem in error.value.problems] == ["--host", "--host", "--method", "--path"]


@pytest.mark.parametrize("text", ["{}", "[]", '{"hosts":[],"methods":[],"paths":[]}', "x", '{"hosts":7}'])
def test_text_that_is_no_binding_is_refused(text: str) -> None:
    """With an error of its own kind."""
    with pytest.raises(ValueError, match=r"no binding|Expecting value"):
        binding_of(text)


def test_hosts_that_are_more_than_one_are_told() -> None:
    """For a warning."""
    binding = read_binding([*HOSTS])
    assert set(wide_hosts(binding)) == {text for text in HOSTS if text[0] in ".*" or "/" in text}


def test_a_narrowed_binding_has_no_spelling() -> None:
    """It is never stored: only what an owner said is."""
    one, other = read_binding(["a.example.com"], [], ["/a"]), read_binding(["a.example.com"], [], ["/b"])
    with pytest.raises(ValueError, match="narrowed"):
        binding_text(narrowed(one, other))


@pytest.mark.parametrize("text", HOSTS)
def test_a_host_is_spelt_as_it_is_written(text: str) -> None:
    """Its port too."""
    assert target_text(read_binding([text]).hosts[0]) == text
