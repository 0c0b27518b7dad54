"""The law of swaps: a value goes to bound requests only, in declared places only, and no placeholder is left over."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.config import EnvSource, Placeholder, SecretDefinition
from egress.credentials import CredentialStore, Rendered, swapped
from egress.policy import (
    Decision,
    Host,
    Protocol,
    Reason,
    Refusal,
    Request,
    Swap,
    SwapPlace,
    Target,
    Verdict,
    parse_target,
)

HELD = "sk-egress-0123456789abcdef"
VALUE = "canary-value"
PLACES = ("header", "query", "path", "body", "nowhere")


def store(value: str = VALUE) -> CredentialStore:
    """One secret, bound to one host."""
    target = parse_target("a.test", verdict=Verdict.ALLOW)
    assert isinstance(target, Target)
    definition = SecretDefinition("key", EnvSource("KEY"), (target,), placeholder=Placeholder(value=HELD))
    return CredentialStore({"key": definition}, env={"KEY": value}, placeholders={"key": HELD})


def decided(*swaps: Swap) -> Decision:
    """An allow that swaps so."""
    return Decision(Verdict.ALLOW, Reason.RULE_ALLOW, "", (), swap=swaps)


def asked(places: set[str], host: str = "a.test", protocol: Protocol = Protocol.HTTPS) -> tuple[Request, bytes]:
    """A request with the placeholder in these places, and its body."""
    header = HELD if "header" in places else "x"
    query = f"key={HELD}" if "query" in places else "key=x"
    path = f"/{HELD}" if "path" in places else "/x"
    body = f'{{"key": "{HELD}"}}' if "body" in places else '{"key": "x"}'
    headers = (("X-Key", header), ("Content-Type", "application/json"))
    return Request("box", protocol, Host(host), 443, "POST", path, query, headers), body.encode()


@given(
    st.sets(st.sampled_from(PLACES)),
    st.sets(st.sampled_from(PLACES)),
    st.sampled_from(["a.test", "b.test"]),
    st.sampled_from([Protocol.HTTPS, Protocol.HTTP]),
)
def test_a_value_goes_to_bound_requests_only_in_declared_places_only(
    said: set[str], held: set[str], host: str, protocol: Protocol
) -> None:
    """Whatever is declared and whatever is sent: else it is refused, and nothing goes."""
    places = frozenset(SwapPlace(place) for place in said - {"header", "nowhere"})
    swap = Swap("key", ("X-Key",) if "header" in said else (), places)
    request, body = asked(held, host, protocol)
    held = held - {"nowhere"}
    found = swapped(store(), decided(swap), request, body, Rendered())
    if not held:
        assert found == Rendered()
    elif host != "a.test" or not held <= said:
        assert isinstance(found, Refusal)
        insecure = host == "a.test" and protocol is Protocol.HTTP
        assert found.reason is (Reason.CREDENTIAL_INSECURE if insecure else Reason.PLACEHOLDER_MISDIRECTED)
    elif protocol is Protocol.HTTP:
        assert isinstance(found, Refusal)
        assert found.reason is Reason.CREDENTIAL_INSECURE
    else:
        assert isinstance(found, Rendered)
        assert [name for name, _ in found.headers] == (["X-Key"] if "header" in held else [])
        assert (found.target is not None) == bool(held & {"query", "path"})
        assert (found.body is not None) == ("body" in held)
        whole = [value for _, value in found.headers] + [
            each for each in (found.target, found.body) if each is not None
        ]
        texts = [each.reveal() for each in whole]
        assert sum(text.count(VALUE) for text in texts) == len(held)
        assert not any(HELD in text for text in texts)
        assert VALUE not in repr(found)


@pytest.mark.parametrize("value", ["a/b", "a;b", "a%b", "a\\b", ".."])
def test_a_value_that_would_make_another_path_is_not_put_into_one(value: str) -> None:
    """The server would see other segments than those that were judged."""
    request, body = asked({"path"})
    swap = Swap("key", (), frozenset({SwapPlace.PATH}))
    found = swapped(store(value), decided(swap), request, body, Rendered())
    assert isinstance(found, Refusal)
    assert found.reason is Reason.CREDENTIAL_UNAVAILABLE


def test_a_body_that_is_not_here_is_not_sent_unread() -> None:
    """Where a rule swaps in it; elsewhere it is looked at as it passes."""
    request, _ = asked(set())
    in_body = swapped(store(), decided(Swap("key", (), frozenset({SwapPlace.BODY}))), request, None, Rendered())
    assert isinstance(in_body, Refusal)
    assert in_body.reason is Reason.LIMIT_BODY
    assert swapped(store(), decided(Swap("key", ("X-Key",))), request, None, Rendered()) == Rendered()


def test_a_header_that_is_there_twice_is_not_joined() -> None:
    """Two servers could take one or the other."""
    request = Request("box", Protocol.HTTPS, Host("a.test"), 443, "GET", "/", None, (("X-Key", HELD), ("x-key", "b")))
    found = swapped(store(), decided(Swap("key", ("X-Key",))), request, b"", Rendered())
    assert isinstance(found, Refusal)
    assert found.reason is Reason.REQUEST_MALFORMED
