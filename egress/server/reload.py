"""A reload: one generation for all processes, or none.

1. load      a file that does not load changes nothing
2. prepare   every process that judges reads the new generation, and goes on with the old one
3. commit    every one judges by the new generation from now on
4. cut       only now are connections cut that it denies: there is nobody left who would let them in again

A process that does not answer in time is ended, and begins anew with the new generation: it must not go on judging by
the old one. INVARIANT reload-is-atomic: nothing is cut, and no reload is said to be done, while a process that judges
by the old generation lives.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Final

from egress.errors import ConfigError, EgressError
from egress.server.channel import Word
from egress.server.generations import write_generation

if TYPE_CHECKING:
    from collections.abc import Callable

    from egress.gate.generation import Generation
    from egress.server.children import Child
    from egress.server.supervisor import Supervisor

logger = logging.getLogger(__name__)

# Compiling the largest policies takes seconds, and the processes share the processors.
_PREPARE_SECONDS: Final = 60.0
_COMMIT_SECONDS: Final = 5.0


def reload(supervisor: Supervisor, load: Callable[[Generation], Generation]) -> None:
    """Put the files as they are now in force. `load` gives the generation after the one given."""
    before = supervisor.generation
    try:
        generation = load(before)
        descriptor = write_generation(generation)
    except EgressError as error:
        problems = error.problems if isinstance(error, ConfigError) else (error,)
        told = "\n".join(str(problem) for problem in problems)
        logger.error("reload: the policy was kept, because its files do not load:\n%s", told)  # noqa: TRY400 - the problems say it all
        supervisor.note("reload-refused", f"kept {before.policy.digest}")
        return
    except Exception:
        logger.exception("reload: the policy was kept")
        return
    asked = supervisor.judges
    try:
        _ask(
            *(supervisor, asked, Word.PREPARE, Word.PREPARED),
            number=generation.number,
            seconds=_PREPARE_SECONDS,
            descriptor=descriptor,
        )
    finally:
        os.close(descriptor)
    supervisor.generation = generation
    _ask(supervisor, asked, Word.COMMIT, Word.COMMITTED, number=generation.number, seconds=_COMMIT_SECONDS)
    _ask(supervisor, asked, Word.CUT, Word.CUT, number=generation.number, seconds=_COMMIT_SECONDS)
    cut = sum(child.said.get(Word.CUT, 0) for child in asked)
    supervisor.note("reload", f"{before.policy.digest} to {generation.policy.digest}; {cut} connections cut")
    logger.warning("reload: policy generation %d is in force, %d connections cut", generation.number, cut)


def _ask(
    supervisor: Supervisor,
    children: list[Child],
    word: Word,
    answer: Word,
    *,
    number: int,
    seconds: float,
    descriptor: int | None = None,
) -> None:
    """Tell them all, and wait until each that lives has answered; who does not is ended."""
    for child in children:
        child.said.pop(answer, None)
        supervisor.tell(child, word, number, descriptor=descriptor)

    def late() -> list[Child]:
        return [child for child in children if answer not in child.said and child in supervisor.judges]

    if not supervisor.until(lambda: not late(), seconds):
        for child in late():
            logger.error("the process `%s` does not take the new policy, and is ended", child.name)
            child.kill()
        supervisor.until(lambda: not late(), None)
