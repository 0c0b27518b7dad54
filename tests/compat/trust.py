"""The roots that clients have: ours, as `egress env` gives them, and that of the stand-ins in place of public ones.

A stand-in's certificate has a private root. Clients that replace their roots get it in the bundle, with `upstream.ca`.
Clients that add to their own, which they bring along, would know a public root by themselves; this one is added.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from egress.confine.environment import CA_VARIABLES

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_theirs(variables: Mapping[str, str], folder: Path, theirs: Path) -> Mapping[str, str]:
    """The same, with the stand-ins' root beside ours where a client adds to its own."""
    folder.mkdir(exist_ok=True)
    ours = Path(variables[CA_VARIABLES[0]]).read_text()
    (folder / "ca.pem").write_text(ours)
    (folder / "theirs.pem").write_text(theirs.read_text())
    both = folder / "both.pem"
    both.write_text(ours + theirs.read_text())
    return {**variables, **dict.fromkeys(CA_VARIABLES, str(both))}
