"""Grants: spent once, for one destination, within their time."""

from __future__ import annotations

from ipaddress import ip_address

import pytest

from egress.gate.grant import GRANTS_AT_MOST, Grant, GrantBook

ADDRESS = ip_address("192.0.2.1")


def grant(number: int = 1, *, host: str = "a.test", port: int = 443, tls: bool = True, expires: float = 100.0) -> Grant:
    """A grant to one destination."""
    return Grant(f"id-{number}", host, port, tls, (ADDRESS,), expires=expires)


def test_a_grant_is_spent_once() -> None:
    """The second dial on one grant gets nothing."""
    book = GrantBook()
    book.add(grant())
    assert book.spend("a.test", 443, tls=True, now=0) == grant()
    assert book.spend("a.test", 443, tls=True, now=0) is None
    assert len(book) == 0


@pytest.mark.parametrize(
    ("host", "port", "tls"),
    [
        ("b.test", 443, True),
        ("A.test", 443, True),
        ("a.test.", 443, True),
        ("sub.a.test", 443, True),
        ("a.test", 80, True),
        ("a.test", 443, False),
        ("192.0.2.1", 443, True),
        ("", 443, True),
    ],
)
def test_a_grant_holds_for_its_destination_only(*, host: str, port: int, tls: bool) -> None:
    """Another host, port or way of carrying finds no grant, and leaves the grant where it is."""
    book = GrantBook()
    book.add(grant())
    assert book.spend(host, port, tls=tls, now=0) is None
    assert len(book) == 1


@pytest.mark.parametrize(("now", "holds"), [(99.9, True), (100.0, False), (100.1, False), (1e9, False)])
def test_a_grant_expires(*, now: float, holds: bool) -> None:
    """At its last moment it holds no more, and it is gone from the book."""
    book = GrantBook()
    book.add(grant(expires=100.0))
    assert (book.spend("a.test", 443, tls=True, now=now) is not None) == holds
    assert len(book) == 0


def test_the_oldest_grant_is_spent_first() -> None:
    """Two requests to one destination spend their grants in the order in which they were admitted."""
    book = GrantBook()
    book.add(grant(1))
    book.add(grant(2))
    spent = [book.spend("a.test", 443, tls=True, now=0) for _ in range(2)]
    assert [one.decision_id for one in spent if one] == ["id-1", "id-2"]


def test_an_expired_grant_does_not_stand_in_the_way() -> None:
    """The one that still holds behind it is found."""
    book = GrantBook()
    book.add(grant(1, expires=10))
    book.add(grant(2, expires=100))
    found = book.spend("a.test", 443, tls=True, now=50)
    assert found is not None
    assert found.decision_id == "id-2"


def test_a_dropped_grant_cannot_be_spent() -> None:
    """Dropping takes the grant of that decision, and no other's."""
    book = GrantBook()
    book.add(grant(1))
    book.add(grant(2))
    book.drop("id-1")
    found = book.spend("a.test", 443, tls=True, now=0)
    assert found is not None
    assert found.decision_id == "id-2"
    assert book.spend("a.test", 443, tls=True, now=0) is None


def test_a_book_is_bounded() -> None:
    """It says that it is full at its limit, not one grant later."""
    book = GrantBook()
    for number in range(GRANTS_AT_MOST):
        assert not book.full
        book.add(grant(number))
    assert book.full
