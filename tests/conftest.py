"""What holds for every test: a skip is a failure, and what starts real programs is marked `e2e`.

A test that the machine truly cannot run (no root, no network namespaces) skips with a reason that starts with
`cannot run here:`; those are printed at the end, so that none is skipped silently. Any other skip fails the run.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest
import typer.testing
from hypothesis import settings
from tools.run_suite import FOLDERS

ACCEPTED = "cannot run here:"
E2E = Path(__file__).parent / "e2e"
SKIPS = pytest.StashKey[list[tuple[str, str]]]()

# A time limit for each example measures the machine, not the code; pytest-timeout stops what hangs.
settings.register_profile("egress", deadline=None, print_blob=True)
settings.load_profile("egress")

# A test's runner makes all commands anew for each line that it runs, which takes ten times as long as most lines.
typer.testing._get_command = cache(typer.testing._get_command)


def pytest_configure(config: pytest.Config) -> None:
    """Start with no skip seen."""
    config.stash[SKIPS] = []
    config.pluginmanager.register(SkipRecorder(config.stash[SKIPS]))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what stands under tests/e2e or takes its network namespace, which `make check` leaves out; and the parts."""
    for item in items:
        if E2E in item.path.parents or "world" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.e2e)
        for mark, folders in FOLDERS.items():
            if not set(folders).isdisjoint(item.path.parents):
                item.add_marker(mark)


class SkipRecorder:
    """Notes each skipped test or module with its reason."""

    def __init__(self, skips: list[tuple[str, str]]) -> None:
        self.skips = skips

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take skips of set-up and of the test itself."""
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Take skips of whole modules."""
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self.skips.append((report.nodeid, reason.removeprefix("Skipped: ")))


def refused(config: pytest.Config) -> list[tuple[str, str]]:
    """Give the skips whose reason is not that this machine cannot run the test."""
    return [(test, reason) for test, reason in config.stash[SKIPS] if not reason.startswith(ACCEPTED)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run that would pass, if it skipped what it could have run."""
    passing = {pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED}
    if session.exitstatus in passing and refused(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print every skip: those that fail the run, and those that this machine forced."""
    for test, reason in config.stash[SKIPS]:
        if reason.startswith(ACCEPTED):
            terminalreporter.write_line(f"{test}: {reason}", yellow=True)
    for test, reason in refused(config):
        terminalreporter.write_line(f"{test}: skipped, which fails the run: {reason}", red=True)
