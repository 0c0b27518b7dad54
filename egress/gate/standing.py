"""Connections that stand idle towards a destination: allowed once by their CONNECT, with no request under way.

A reload that would not let them in any more ends them, on record, as it ends what is under way: a client must not find
out with its next request only that it speaks to nobody.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.exchange import Client
    from egress.policy import Request


@dataclass(frozen=True, slots=True)
class Standing:
    """One such connection: who asked, for what (as its CONNECT was judged), and what ends it with a reason code.

    `bound` False: it leads nowhere, since its client speaks to the proxy itself; only who that is counts.
    """

    client: Client
    request: Request
    cut: Callable[[str], None]
    bound: bool = True
