"""Which case is run by what: every id is in exactly one place."""

from __future__ import annotations

from corpus_runner import (
    plays_audit,
    plays_dns,
    plays_exec,
    plays_faults,
    plays_load,
    plays_names,
    plays_positive,
    plays_reflection,
    plays_resolver,
    plays_roads,
    plays_sandboxes,
    plays_socks,
    plays_start,
    plays_upstream,
    plays_wire,
)
from corpus_runner.cases import CASES
from corpus_runner.scripts import SCRIPTS
from corpus_runner.waiting import WAITING_IDS
from corpus_runner.wire import PLAYS

# Importing a module of scripts registers what it has.
PARTS = (
    plays_audit,
    plays_dns,
    plays_exec,
    plays_faults,
    plays_load,
    plays_names,
    plays_positive,
    plays_reflection,
    plays_resolver,
    plays_roads,
    plays_sandboxes,
    plays_socks,
    plays_start,
    plays_upstream,
    plays_wire,
)


def wire_ids() -> list[str]:
    """The cases that test_wire_cases.py runs as they are written."""
    return [case.id for case in CASES.values() if case.kind in PLAYS and case.id not in WAITING_IDS | set(SCRIPTS)]


def unit_ids() -> list[str]:
    """The cases that test_unit_cases.py runs against the pure core."""
    return [case.id for case in CASES.values() if case.level == "unit" and case.id not in WAITING_IDS]


def script_ids() -> list[str]:
    """The cases that test_script_cases.py runs, each by a function written for it."""
    return sorted(SCRIPTS)


# Cases whose point is a real client: they are run with it, by the end-to-end tests named here.
BY_CLIENTS: dict[str, str] = {
    "POSITIVECO-001": "test_clients_pip.py::test_pip_installs_through_the_proxy",
    "POSITIVECO-002": "test_clients_npm.py::test_npm_installs_through_the_proxy",
    "POSITIVECO-003": "test_clients_git.py::test_git_clones_and_pushes_through_the_proxy",
    "POSITIVECO-004": "test_clients_git.py::test_git_clones_and_pushes_through_the_proxy",
    "POSITIVECO-005": "test_clients_streams.py::test_server_sent_events_arrive_one_by_one",
    "POSITIVECO-006": "test_clients_streams.py::test_websocket_messages_pass_both_ways",
    "POSITIVECO-010": "test_clients_curl.py::test_curl_passes_and_is_denied",
    "POSITIVECO-012": "test_clients_bulk.py::test_a_gigabyte_up_passes_in_constant_memory",
    "POSITIVECO-018": "test_clients_python.py::test_python_clients_pass_and_are_denied",
}
