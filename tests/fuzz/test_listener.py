"""The listener's fuzzer in a test run: a bounded number of sessions against a real proxy, by lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from conformance.stage import Stage
from fuzz.listener import CONFIG, ListenerFuzz
from harness.namespace import HarnessError

if TYPE_CHECKING:
    from pathlib import Path

SEED = 6
SESSIONS = {None: 600, "mitm": 150}


@pytest.mark.parametrize("lane", SESSIONS)
def test_sessions_without_meaning_do_no_harm(tmp_path: Path, lane: str | None) -> None:
    """Each ends; the process lives and logs no error; nothing goes where no rule leads; all is given back."""
    try:
        stage = Stage(tmp_path / "stage", lane, config=CONFIG)
    except HarnessError as problem:
        pytest.exit(str(problem), returncode=2)
    with stage:
        tally = ListenerFuzz(stage, SEED).run(count=SESSIONS[lane])
    assert not tally.findings, str(tally)
    assert tally.kinds.total() == SESSIONS[lane]
    # A fuzzer whose sessions are all refused at the door tests nothing behind it.
    assert min(tally.requests, tally.tunnels) > SESSIONS[lane] / 50
