"""What the record says beside decisions and outcomes: the kinds of rows in `events`, and how their details are put.

A detail is one sentence for people: names, digests and counts, never a secret's value and never bytes of the wire.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping


class Kind(StrEnum):
    """What a row of `events` is about; `docs/guides/audit.md` has a line for each."""

    START = "start"
    STOP = "stop"
    RELOAD = "reload"
    RELOAD_REFUSED = "reload-refused"
    POLICY_LAST_GOOD = "policy-last-good"
    CUT = "cut"
    SANDBOX_ADD = "sandbox-add"
    SANDBOX_RM = "sandbox-rm"
    SANDBOX_EXPIRE = "sandbox-expire"
    CA_ROTATED = "ca-rotated"
    SECRET_SET = "secret-set"  # noqa: S105 -- a kind of row
    SECRET_ROTATED = "secret-rotated"  # noqa: S105 -- as above
    SECRET_REMOVED = "secret-removed"  # noqa: S105 -- as above
    SECRET_FIRST_USE = "secret-first-use"  # noqa: S105 -- as above
    GAP = "gap"
    REPLACED = "replaced"
    DUPLICATE_ID = "duplicate-id"


class Note(NamedTuple):
    """A row of `events` to be."""

    kind: Kind
    detail: str


def started(listening: Iterable[str], digest: str) -> Note:
    """The proxy serves. `digest` is that of the policy in force."""
    return Note(Kind.START, f"listening on {', '.join(listening)}; policy {digest}")


def reloaded(before: str, after: str, who: Iterable[str], cut: int) -> Note:
    """A policy was put in force in place of another, or of the same."""
    return Note(Kind.RELOAD, f"{before} to {after}; by {_who(who)}; {count_of(cut)} cut")


def reload_refused(kept: str, who: Iterable[str], problems: Iterable[str]) -> Note:
    """The policy was kept, because what should take its place does not load."""
    first, *rest = [*problems] or ["no reason is known"]
    more = f" (and {len(rest)} more)" if rest else ""
    return Note(Kind.RELOAD_REFUSED, f"kept {kept}; by {_who(who)}; {first}{more}")


def cut(count: int, why: str) -> Note:
    """Connections that were let pass before were ended."""
    return Note(Kind.CUT, f"{count_of(count)} cut: {why}")


def secrets_changed(before: Mapping[str, Hashable], after: Mapping[str, Hashable], who: str) -> list[Note]:
    """What became of the secrets of a store between two readings of it: a note for each that is new, changed or gone.

    Both give the version of each secret by name: a counter, a time or a keyed digest, whatever differs once the value
    does. Never the value itself, nor a plain hash of it, from which a short one could be guessed.
    """
    notes = [
        Note(Kind.SECRET_ROTATED if name in before else Kind.SECRET_SET, f"{name}; by {who}")
        for name in sorted(after)
        if name not in before or before[name] != after[name]
    ]
    return notes + [Note(Kind.SECRET_REMOVED, f"{name}; by {who}") for name in sorted(set(before) - set(after))]


def ca_rotated(before: str, after: str, until: str) -> Note:
    """Another CA signs: the SHA-256 of both certificates, and until when clients trust the old one; empty: no more."""
    kept = f"the old one is trusted until {until}" if until else "the old one is trusted no more"
    return Note(Kind.CA_ROTATED, f"{before} to {after}; {kept}")


def first_use(secret: str, sandbox: str, decision_id: str) -> Note:
    """A secret was sent for a sandbox for the first time in this run."""
    return Note(Kind.SECRET_FIRST_USE, f"{secret} for sandbox {sandbox}, in {decision_id}")


def count_of(connections: int) -> str:
    """`1 connection`, `2 connections`."""
    return f"{connections} connection{'' if connections == 1 else 's'}"


def _who(who: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(who)) or "nobody who said so"
