"""Sessions of upstreams: looked at as seldom as they are of use, and bounded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import pytest

from egress.proxy import sessions as sessions_module
from egress.proxy.sessions import Sessions

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True)
class Session:
    """As much of a session as is looked at."""

    name: str
    has_ticket: bool = True
    timeout: int = 1000


@dataclass
class Wrapped:
    """A connection of a server. `looks`: how often its session was asked for."""

    given: Session | None
    session_reused: bool = False
    looks: list[None] = field(default_factory=list)

    @property
    def session(self) -> Session | None:
        """Costs memory in some versions of Python."""
        self.looks.append(None)
        return self.given


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 5000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


def remember(known: Sessions[str], place: str, wrapped: Wrapped) -> int:
    """How often it was looked at."""
    known.remember(place, cast("ssl.SSLSocket", wrapped))
    return len(wrapped.looks)


def test_a_session_that_serves_is_looked_at_again_after_half_its_life() -> None:
    """Until then each connection resumes by the one that is kept."""
    clock = Clock()
    known: Sessions[str] = Sessions(None, clock)
    assert known.of("a") is None
    assert remember(known, "a", Wrapped(Session("first"))) == 1
    for _ in range(5):
        assert remember(known, "a", Wrapped(Session("other"), session_reused=True)) == 0
        assert known.of("a") == Session("first")
    clock.now += 500
    assert remember(known, "a", Wrapped(Session("second"), session_reused=True)) == 1
    assert known.of("a") == Session("second")
    assert known.of("b") is None


def test_a_session_that_was_declined_gives_way() -> None:
    """The server began anew."""
    known: Sessions[str] = Sessions(None, Clock())
    remember(known, "a", Wrapped(Session("first")))
    assert remember(known, "a", Wrapped(Session("second"))) == 1
    assert known.of("a") == Session("second")


@pytest.mark.parametrize("given", [None, Session("none", has_ticket=False)])
def test_a_server_without_tickets_is_asked_again_later(given: Session | None) -> None:
    """Not at each connection."""
    clock = Clock()
    known: Sessions[str] = Sessions(None, clock)
    assert [remember(known, "a", Wrapped(given)) for _ in range(4)] == [1, 0, 0, 0]
    assert known.of("a") is None
    clock.now += 300
    assert remember(known, "a", Wrapped(Session("now"))) == 1
    assert known.of("a") == Session("now")


def test_where_a_look_costs_memory_they_are_counted() -> None:
    """INVARIANT bounded: also where every server declines, or is another one each time."""
    known: Sessions[str] = Sessions(3, Clock())
    assert [remember(known, str(number), Wrapped(Session("x"))) for number in range(6)] == [1, 1, 1, 0, 0, 0]
    assert remember(known, "0", Wrapped(Session("y"))) == 0
    assert known.of("0") == Session("x")


def test_places_are_bounded() -> None:
    """The one that was used longest ago goes."""
    known: Sessions[int] = Sessions(None, Clock())
    for number in range(sessions_module._PLACES_AT_MOST + 1):
        known.remember(number, cast("ssl.SSLSocket", Wrapped(Session(str(number)))))
        known.remember(0, cast("ssl.SSLSocket", Wrapped(Session("again"), session_reused=True)))
    assert (known.of(0), known.of(1), known.of(2)) == (Session("0"), None, Session("2"))


VERSIONS = [((3, 12, 7), True), ((3, 12, 8), False), ((3, 13, 0), True), ((3, 13, 1), False), ((3, 14, 0), False)]


@pytest.mark.parametrize(("version", "copies"), VERSIONS)
def test_the_versions_that_keep_copies_are_known(version: tuple[int, ...], copies: bool) -> None:  # noqa: FBT001 -- a table
    """As the fix was released."""
    assert sessions_module._keeps_copies(version) is copies
