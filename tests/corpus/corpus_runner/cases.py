"""The corpus as values, and its placeholders filled in."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

FILE = Path(__file__).parent.parent / "bypass_cases.json"
CANARY = "egress-canary-9c51d27f3a4b"


@dataclass(frozen=True)
class Case:
    """One record of the corpus, as written there."""

    id: str
    kind: str
    level: str
    mode: str
    policy: str
    attempt: str
    expected: str
    why: str
    spec: dict[str, object]
    asserts: tuple[str, ...]

    @property
    def port(self) -> int:
        """The origins' port: 443 wherever TLS or a tunnel is meant, else 80, so that no port rule answers for us."""
        return 80 if self.mode == "explicit" and "https://" not in self.attempt else 443

    def fill(self, text: str) -> str:
        """`text` with the placeholders replaced."""
        ports = text.replace("{P}", str(self.port)).replace("{S}", str(self.port))
        return ports.replace("CANARY", CANARY)

    @property
    def segments(self) -> list[bytes]:
        """The bytes to send, a TCP segment each."""
        written = self.spec["segments"]
        assert isinstance(written, list)
        return [self.fill(segment).encode("latin-1") for segment in written]

    def text(self, key: str) -> str | None:
        """A text of the spec, filled in."""
        value = self.spec.get(key)
        return None if value is None else self.fill(str(value))


def load() -> dict[str, Case]:
    """Every case by id."""
    found = (
        Case(
            id=record["id"],
            kind=record["spec"]["kind"],
            level=record["level"],
            mode=record["mode"],
            policy=record["policy"],
            attempt=record["attempt"],
            expected=record["expected"],
            why=record["why"],
            spec=record["spec"],
            asserts=tuple(record["asserts"]),
        )
        for record in json.loads(FILE.read_text())
    )
    return {case.id: case for case in found}


CASES = load()


def slug(case: Case) -> str:
    """A name for test ids."""
    return re.sub(r"[^A-Za-z0-9-]", "-", case.id)
