"""Putting a generation in force: in all processes, or in none.

1. prepare   every process that judges reads the new generation, and goes on with the old one
2. commit    every one judges by the new generation from now on
3. cut       only now are connections cut that it denies: there is nobody left who would let them in again

A process that does not answer in time is ended, and begins anew with the new generation: it must not go on judging by
the old one. INVARIANT reload-is-atomic: nothing is cut, and no reload is said to be done, while a process that judges
by the old generation lives.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from egress.server.channel import Word

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.generation import Generation
    from egress.server.children import Child
    from egress.server.supervisor import Supervisor

logger = logging.getLogger(__name__)

# Compiling the largest policies takes seconds, and the processes share the processors.
_PREPARE_SECONDS: Final = 60.0
_COMMIT_SECONDS: Final = 5.0


def put_in_force(
    supervisor: Supervisor, number: int, descriptor: int, take_over: Callable[[], Generation]
) -> tuple[Generation, int]:
    """Put the generation of this number in force, which the descriptor holds (see `generations`).

    `take_over` gives the supervisor's own copy, with which begins what is started from now on; it is made while the
    others make theirs, and where it raises, nothing has changed. Returns the generation, and how many connections were
    cut.
    """
    asked = supervisor.judges
    _tell(supervisor, asked, Word.PREPARE, Word.PREPARED, number=number, descriptor=descriptor)
    generation = take_over()
    _wait(supervisor, asked, Word.PREPARED, _PREPARE_SECONDS)
    supervisor.generation = generation
    _tell(supervisor, asked, Word.COMMIT, Word.COMMITTED, number=number)
    _wait(supervisor, asked, Word.COMMITTED, _COMMIT_SECONDS)
    _tell(supervisor, asked, Word.CUT, Word.CUT, number=number)
    _wait(supervisor, asked, Word.CUT, _COMMIT_SECONDS)
    return generation, sum(child.said.get(Word.CUT, 0) for child in asked)


def _tell(
    supervisor: Supervisor,
    children: list[Child],
    word: Word,
    answer: Word,
    *,
    number: int,
    descriptor: int | None = None,
) -> None:
    for child in children:
        child.said.pop(answer, None)
        supervisor.tell(child, word, number, descriptor=descriptor)


def _wait(supervisor: Supervisor, children: list[Child], answer: Word, seconds: float) -> None:
    """Wait until each that lives has answered; who does not in time is ended."""

    def late() -> list[Child]:
        return [child for child in children if answer not in child.said and child in supervisor.judges]

    if not supervisor.until(lambda: not late(), seconds):
        for child in late():
            logger.error("the process `%s` does not take the new policy, and is ended", child.name)
            child.kill()
        supervisor.until(lambda: not late(), None)
