"""The first generation of a start: from the policy files, or, where these do not load, from the last good policy.

1. The last good policy is used only for what the files say wrong, and never silently: the log has every problem, the
   banner, the audit and `egress status` say that it is in use.
2. It has to come to the digest that it had. One that does not, that is damaged, or that anybody else could have
   written is ignored with a warning, and the start is refused as if there were none.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from egress.config import recorded
from egress.config.recorded import Record
from egress.errors import ConfigError, EgressError, StateError
from egress.gate.build import load_generation
from egress.server import last_good
from egress.server.watch import add_unread

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from egress.config import SandboxDefinition, ServerConfig
    from egress.gate.generation import Generation
    from egress.server.last_good import Kept

type Registered = tuple[SandboxDefinition, ...]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Begun:
    """The generation to begin with, and what was read for it.

    `kept`: the last good policy, if it is that; `problems` are then those of the files.
    """

    generation: Generation
    record: Record
    kept: Kept | None = None
    problems: tuple[str, ...] = field(default=())

    @property
    def warning(self) -> str:
        """What people are told if the last good policy is in use, in a sentence; else empty."""
        if self.kept is None:
            return ""
        since = datetime.fromtimestamp(self.kept.moment, UTC).isoformat(sep=" ", timespec="seconds")
        return f"the policy files do not load; the last good policy is in force, {self.kept.digest} of {since}"


def begin(config: ServerConfig, env: MutableMapping[str, str], registered: Registered | None = None) -> Begun:
    """Load the first generation. Raises EgressError if there is none to begin with."""
    record = Record()
    try:
        with recorded.recording(record):
            generation = load_generation(config, env, registered=registered)
        add_unread(record, generation.files)
    except ConfigError as error:
        kept = _find(config) if config.last_known_good else None
        reloaded = None if kept is None else _load(config, env, kept, registered)
        if kept is None or reloaded is None:
            raise
        add_unread(record, kept.texts)
        problems = tuple(str(problem) for problem in error.problems)
        begun = Begun(reloaded, record, kept, problems)
        logger.error("%s\n%s", begun.warning, "\n".join(problems))  # noqa: TRY400 - the problems say it all
        return begun
    return Begun(generation, record)


def keep_first(config: ServerConfig, begun: Begun) -> None:
    """The first generation is in force: keep it, unless it is itself what was kept."""
    if begun.kept is not None:
        return
    stage(config, begun.generation, begun.record)
    keep_staged(config)
    # It may be large, and nobody looks at it again.
    begun.record.contents.clear()


def stage(config: ServerConfig, generation: Generation, record: Record) -> None:
    """Write down what is about to be in force. What cannot be written is said, and not kept."""
    sources = last_good.sources_of(config.sources)
    try:
        last_good.stage(config.own_dir, sources, record.contents, generation.files_digest)
    except OSError as error:
        logger.warning("the policy cannot be kept for a later start: %s", error.strerror)


def keep_staged(config: ServerConfig) -> None:
    """What was staged is in force. What cannot be kept takes away what was kept before: it is not the last any more."""
    try:
        last_good.keep(config.own_dir)
    except OSError as error:
        logger.warning("the policy is not kept for a later start: %s", error.strerror)
        try:
            last_good.drop(config.own_dir)
        except OSError as left:
            # Said loudly: a start whose files do not load would use it.
            logger.error("an older policy stays kept, remove `last-good` by hand: %s", left.strerror)  # noqa: TRY400 - it says it all


def _find(config: ServerConfig) -> Kept | None:
    try:
        return last_good.find(config.own_dir, last_good.sources_of(config.sources))
    except StateError as error:
        logger.warning("the last good policy is not used: %s", error.message)
        return None


def _load(
    config: ServerConfig, env: MutableMapping[str, str], kept: Kept, registered: Registered | None
) -> Generation | None:
    try:
        with recorded.replaying(kept.texts):
            generation = load_generation(config, env, kept=True, registered=registered)
    except EgressError as error:
        logger.warning("the last good policy is not used: it does not load any more: %s", error)
        return None
    if generation.files_digest != kept.digest:
        # Not what was in force: what it refers to has changed, or what reads it.
        logger.warning("the last good policy is not used: it comes to another digest than it had")
        return None
    return generation
