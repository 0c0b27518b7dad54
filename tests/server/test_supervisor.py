"""The supervisor: who is started when, what a death leads to, and in which order a reload and an end go."""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

TROUPE = Path(__file__).parent / "troupe.py"
ROOT = Path(__file__).parent.parent.parent


@cache
def played(scene: str) -> tuple[str, ...]:
    """What happens in a scene, a line each."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(TROUPE), scene],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=60,
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout
    return tuple(done.stdout.splitlines())


def order(scene: str, *lines: str) -> None:
    """These lines are there, each once or more, the first of each before the first of the next."""
    happened = played(scene)
    places = []
    for line in lines:
        assert line in happened, (line, happened)
        places.append(happened.index(line))
    assert places == sorted(places), happened


# start


def test_the_hub_is_there_before_any_worker() -> None:
    """Nothing may pass unrecorded, so nothing is accepted before there is who records."""
    for worker in ("worker 1", "worker 2", "worker 3"):
        order("reload", "hub starts 1", f"{worker} starts 1", "started")


def test_what_the_hub_cannot_open_is_the_error_of_the_start() -> None:
    """Kind, message and hint as if it had been opened here; no worker is started."""
    assert played("hub-fails") == ("hub starts 1", "AuditError it cannot be opened; mend it")


def test_a_worker_that_cannot_start_is_the_end() -> None:
    """At the start; later it is tried again."""
    assert any(line.startswith("StartError ") for line in played("worker-fails"))
    assert played("worker-fails").count("worker 1 starts 1") == 1


# death


def test_a_worker_that_dies_is_replaced_alone() -> None:
    """Another takes its place and has a channel to the hub; the others go on."""
    happened = played("worker-killed")
    assert happened.count("worker 1 starts 1") == 2
    assert happened.count("worker 1 link") == 2
    assert happened.count("worker 2 starts 1") == happened.count("worker 2 link") == 1
    assert "the process `worker 1` ended by signal 9" in happened


def test_a_hub_that_dies_is_replaced_and_joined_to_all() -> None:
    """Workers stay, and get a channel to the new one."""
    happened = played("hub-killed")
    assert happened.count("hub starts 1") == 2
    assert happened.count("worker 1 starts 1") == 1
    assert happened.count("worker 1 link") == happened.count("hub link") == 2


def test_the_mitm_process_is_replaced_on_need_only() -> None:
    """Until somebody hands it a connection, a dead one stays dead."""
    assert played("mitm-killed").count("mitm starts 1") == 1


def test_a_connection_that_waits_starts_the_mitm_process() -> None:
    """Started by what waits in the queue, not at the start; the connection is kept for it."""
    order("needed", "started", "mitm starts 1", "client waits")


def test_nothing_waits_for_a_mitm_process_that_cannot_start() -> None:
    """The connection is closed, and it is not tried again before somebody else needs it."""
    assert "client is told" in played("needed-in-vain")
    assert played("needed-in-vain").count("mitm starts 1") == 1


def test_a_process_that_does_not_listen_is_ended() -> None:
    """Its channel is full: whatever it does, it does not do what it is told."""
    order("does-not-listen", "the process `worker 1` does not listen, and is ended")
    assert played("does-not-listen").count("worker 1 starts 1") == 2


# reload


def test_reload_is_atomic() -> None:
    """Every process has prepared before one commits, and has committed before one cuts; all cuts are counted."""
    happened = [
        line.rpartition(" ")[2] for line in played("reload") if line.startswith("worker") and "link" not in line
    ]
    words = [word for word in happened if word in {"prepare", "commit", "cut"}]
    assert words == ["prepare"] * 3 + ["commit"] * 3 + ["cut"] * 3
    assert "cut 3" in played("reload")


@pytest.mark.parametrize("word", ["prepare", "commit", "cut"])
def test_who_does_not_take_a_new_policy_is_ended(word: str) -> None:
    """It must not go on judging by the old one: it is dead before the next step, and begins anew with the new."""
    scene = f"deaf-to-{word}"
    dead = "the process `worker 2` ended by signal 9"
    order(scene, f"worker 1 {word}", dead, "reloaded 2", "worker 2 starts 2")
    if word != "cut":
        order(scene, dead, "worker 1 cut")
    assert "worker 1 starts 2" not in played(scene)


def test_a_reload_goes_on_without_who_dies_of_it() -> None:
    """The replacement has the new generation."""
    order("dies-of-prepare", "the process `worker 2` ended with status 3", "worker 1 commit", "worker 2 starts 2")


def test_nobody_is_started_halfway_through_a_reload() -> None:
    """However long another takes: it would begin with the old generation, after all had been asked."""
    scene = "dies-while-another-is-slow"
    order(scene, "the process `worker 2` ended with status 3", "worker 1 cut", "reloaded 2", "worker 2 starts 2")
    assert played(scene).count("worker 2 starts 1") == 1


def test_the_mitm_process_is_not_started_halfway_through_a_reload() -> None:
    """It would be the one process that goes on with the old generation: it waits, and begins with the new."""
    order("needed-during-a-reload", "worker 1 prepare", "reloaded 2", "mitm starts 2")
    assert "mitm starts 1" not in played("needed-during-a-reload")


# end


def test_the_end_goes_from_those_who_need_to_those_who_are_needed() -> None:
    """Workers and the mitm process take nothing new from the same moment; workers end, then it, then the hub."""
    order("drain", "mitm drain", "worker 1 ends", "mitm end", "mitm ends", "hub end", "hub ends", "drained")
    order("drain", "worker 2 ends", "mitm end")


def test_a_fault_of_the_supervisor_lets_the_others_end_in_order() -> None:
    """They see that they are alone, and record what they can; who does not see it is ended, and nobody is left."""
    order("fault", "started", "hub is alone", "fault")
    order("fault", "worker 1 is alone", "fault")
    assert "worker 2 is alone" not in played("fault")


def test_who_does_not_end_is_ended() -> None:
    """The limit holds; the hub still gets to record what the others said."""
    order(
        "deaf-to-drain",
        "the process `worker 1` did not end in time",
        "the process `worker 1` ended by signal 9",
        "hub ends",
        "drained",
    )
