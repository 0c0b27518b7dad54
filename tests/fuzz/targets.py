"""The fuzz targets by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz.bodies import ChunkedBodies
from fuzz.heads import RequestHeads, ResponseHeads
from fuzz.hellos import ClientHellos
from fuzz.policies import Lists, Paths, Policies, Targets
from fuzz.questions import Questions
from fuzz.socks import SocksOpenings

if TYPE_CHECKING:
    from collections.abc import Callable

    from fuzz.engine import Target

PARSERS: dict[str, Callable[[], Target]] = {
    "request-heads": RequestHeads,
    "response-heads": ResponseHeads,
    "chunked-bodies": ChunkedBodies,
    "client-hellos": ClientHellos,
    "socks-openings": SocksOpenings,
    "dns-questions": Questions,
    "targets": Targets,
    "path-patterns": Paths,
    "host-lists": Lists,
    "policies": Policies,
}
