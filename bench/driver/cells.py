"""What is measured of a contender in each lane, as data: one cell is one row of the load generator's arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from bench.driver.contenders import Contender, Lane
from bench.driver.machine import ALLOWED, DENIED
from bench.driver.origin import SIZES

if TYPE_CHECKING:
    from bench.driver.origin import Origin


@dataclass(frozen=True, slots=True)
class Cell:
    """One kind of work. `bulk`: what counts is bytes, not answers. `peers_only`: the origin itself refuses nothing."""

    lane: Lane
    name: str
    arguments: tuple[str, ...]
    bulk: bool = False
    refused: bool = False
    one: bool = False

    @property
    def key(self) -> str:
        """Its name among all."""
        return f"{self.lane}: {self.name}"

    def applies(self, contender: Contender) -> bool:
        """Whether this contender is measured by it."""
        return self.lane in contender.lanes and not (self.refused and contender.program is None)

    def command(self, contender: Contender, origin: Origin) -> list[str]:
        """The generator's arguments."""
        port = origin.plain_port if self.lane is Lane.PLAIN else origin.tls_port
        words = [*contender.proxy, "-p", str(port), *self.arguments]
        if self.lane is not Lane.PLAIN:
            opened = self.lane is Lane.INSPECTED and contender.program is not None
            words += ["-t", str(contender.ca_file if opened else origin.ca_file)]
        return words if "-H" in self.arguments else [*words, "-H", ALLOWED]


def _get(size: str) -> tuple[str, ...]:
    return ("-u", f"/{size}", "-l", str(SIZES[size]))


def _post(size: str) -> tuple[str, ...]:
    return ("-u", "/sink", "-b", str(SIZES[size]))


def _lane(lane: Lane) -> list[Cell]:
    cells = [
        Cell(lane, "kept connections", ("-c", "16", *_get("small"))),
        Cell(lane, "new connections", ("-c", "16", "-n", *_get("small"))),
        Cell(lane, "one connection", ("-c", "1", *_get("small")), one=True),
    ]
    if lane is not Lane.PLAIN:
        cells += [
            Cell(lane, "GET 100 KB", ("-c", "8", *_get("100k")), bulk=True),
            Cell(lane, "POST 100 KB", ("-c", "8", *_post("100k")), bulk=True),
            Cell(lane, "GET 100 MB", ("-c", "2", *_get("100m")), bulk=True),
            Cell(lane, "POST 100 MB", ("-c", "2", *_post("100m")), bulk=True),
        ]
    refused = ("-c", "16", "-r", "-u", "/denied") if lane is Lane.INSPECTED else ("-c", "16", "-r", "-H", DENIED)
    where = {Lane.PLAIN: "denied", Lane.TUNNEL: "CONNECT denied", Lane.INSPECTED: "denied inside"}[lane]
    return [*cells, Cell(lane, where, refused, refused=True)]


CELLS: Final = tuple(cell for lane in (Lane.TUNNEL, Lane.INSPECTED, Lane.PLAIN) for cell in _lane(lane))


def cell(lane: Lane, name: str) -> Cell:
    """The cell of that name."""
    return next(cell for cell in CELLS if cell.lane is lane and cell.name == name)


# A contender that passes these enforces the policy; one that does not is not measured.
def probes(contender: Contender, origin: Origin) -> list[tuple[str, list[str]]]:
    """What must succeed before a contender is measured: an answer from the origin, and refusals."""
    ask = ("-c", "1", "-q", "3")
    found: list[tuple[str, list[str]]] = []
    for lane in sorted(contender.lanes):
        path = "/checked" if lane is Lane.INSPECTED and contender.program else "/small"
        found.append((f"{lane}: allowed", Cell(lane, "", (*ask, "-u", path)).command(contender, origin)))
        if contender.program is None:
            continue
        if lane is Lane.INSPECTED:
            arguments = (*ask, "-r", "-u", "/denied")
            found.append((f"{lane}: path denied", Cell(lane, "", arguments).command(contender, origin)))
        arguments = (*ask, "-r", "-H", DENIED, "-u", "/small")
        found.append((f"{lane}: host denied", Cell(lane, "", arguments).command(contender, origin)))
    return found
