"""The words of the matrix: roads, what becomes of TLS, what a cell may say, and a client as one row of data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from itertools import product
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Mapping


class Road(StrEnum):
    """How the client's connections come to the proxy."""

    EXPLICIT = "explicit"
    SOCKS = "socks"
    TRANSPARENT = "transparent"


class Tls(StrEnum):
    """What the proxy does with the client's TLS."""

    INSPECTED = "inspected"
    TUNNELLED = "tunnelled"


class Result(StrEnum):
    """What a cell says."""

    WORKS = "works"
    BY_HTTP = "by HTTP"
    FAILS = "fails"
    NEVER = "-"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of the matrix."""

    road: Road
    tls: Tls

    def __str__(self) -> str:
        return f"{self.road}-{self.tls}"


COLUMNS = tuple(Column(road, tls) for road, tls in product(Road, Tls))


@dataclass(frozen=True, slots=True)
class Expected:
    """What is expected of some columns, and the reason where it is not `works`: why, and what to do."""

    result: Result
    why: str

    @classmethod
    def fails(cls, why: str) -> Self:
        """It is run, and fails."""
        return cls(Result.FAILS, why)

    @classmethod
    def never(cls, why: str) -> Self:
        """It is not run: the client has no such thing."""
        return cls(Result.NEVER, why)

    @classmethod
    def by_http(cls, why: str) -> Self:
        """It is run with the variables for SOCKS, and comes through the HTTP proxy."""
        return cls(Result.BY_HTTP, why)


@dataclass(frozen=True, slots=True, eq=False)
class Client:
    """One row. `sh` is run by `sh -eu` in an empty folder, and has to print what the stand-in server says.

    Its variables: URL and HOST of the server, WORK its folder, BUILT what `build` made once, in a folder of that name,
    and PYTHON, NODE and the like for what `needs` found. `needs`: programs, and `python:MODULE`. `more` are needed for
    single roads. `version` prints it; the first number counts. `says` is what to know where it works. `everywhere`: the
    tests run it, on every machine that has its programs.
    """

    name: str
    slug: str
    needs: tuple[str, ...]
    version: str
    sh: str
    build: str = ""
    says: str = ""
    everywhere: bool = False
    more: Mapping[Road, str] = field(default_factory=dict)
    expected: Mapping[Road | Column, Expected] = field(default_factory=dict)

    def at(self, column: Column) -> Expected:
        """What is expected there."""
        works = Expected(Result.WORKS, "")
        return self.expected.get(column) or self.expected.get(column.road) or works

    def host(self, column: Column) -> str:
        """The server's name for this cell alone, so that the audit tells which cell a row is of."""
        return f"{self.slug}-{column.road}.{column.tls}.test"
