"""Which metrics there are: what the status of the proxy says, as families. docs/guides/metrics.md has a line for each.

INVARIANT bounded: no label takes a value that a sandbox makes up: no host, path, address or text from the wire.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from egress.server.metrics import Family, Type, histogram, many, single
from egress.server.process_usage import open_files
from egress.server.tally import BOUNDS, OTHER, SANDBOXES_AT_MOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


_NO_TIMES: Final[Mapping[str, Any]] = {"counts": [0] * (len(BOUNDS) + 1), "total": 0.0}


def families(told: Mapping[str, Any]) -> Iterator[Family]:
    """All of them. `told`: what `Status.ask_metrics` gives."""
    yield from _about(told)
    yield from _policy(told["policy"], told["reload"])
    hub = told["measured"]["hub"]
    yield from _traffic(told, hub.get("tally", {}))
    yield from _audit(told, hub)
    yield from _services(hub)
    yield from _processes(told)


def _about(told: Mapping[str, Any]) -> Iterator[Family]:
    yield single("egress_build", Type.INFO, "The version that runs.", 1, version=told["version"])
    yield single("egress_ready", Type.GAUGE, "1 if the proxy is ready, as /readyz tells.", told["ready"])
    checks = (({"check": name}, holds) for name, holds in told["checks"].items())
    yield many("egress_ready_check", Type.GAUGE, "1 if this part of readiness holds.", checks)
    yield single("egress_uptime_seconds", Type.GAUGE, "Seconds since the proxy started.", told["uptime"])


def _policy(policy: Mapping[str, Any], last: Mapping[str, Any] | None) -> Iterator[Family]:
    yield single("egress_policy", Type.INFO, "The policy in force.", 1, digest=policy["digest"])
    yield single("egress_policy_generation", Type.GAUGE, "Counts the policies of this start.", policy["generation"])
    loaded = float(policy["loaded"])
    yield single("egress_policy_loaded_timestamp_seconds", Type.GAUGE, "When the policy was put in force.", loaded)
    last_good = policy["last_good"] is not None
    yield single(
        "egress_policy_last_good", Type.GAUGE, "1 if the files do not load, and an older policy is in force.", last_good
    )
    scopes = policy["scopes"]
    rules = [({"scope": scope["scope"]}, scope["rules"]) for scope in scopes]
    yield many("egress_policy_rules", Type.GAUGE, "Rules of each scope.", rules)
    # A sandbox may have files of its own, of a scope that the common ones have not.
    known_scopes = dict.fromkeys([*(scope["scope"] for scope in scopes), *policy["reporting"]])
    reporting = [({"scope": scope}, scope in policy["reporting"]) for scope in known_scopes]
    yield many(
        "egress_policy_report_mode",
        Type.GAUGE,
        "1 if this scope records what it would refuse, and lets it pass.",
        reporting,
    )
    known = policy["sandboxes"]
    yield single("egress_sandboxes", Type.GAUGE, "Sandboxes that clients are told apart as.", known)
    done = None if last is None else last["done"]
    yield single("egress_reload_last_success", Type.GAUGE, "1 if the last reload was put in force.", done)


def _traffic(told: Mapping[str, Any], tally: Mapping[str, Any]) -> Iterator[Family]:
    decisions = [
        ({"verdict": verdict, "reason": reason, "lane": lane}, count)
        for verdict, reason, lane, count in tally.get("decisions", ())
    ]
    yield many("egress_decisions", Type.COUNTER, "Decisions on requests, tunnels and questions.", decisions)
    by_sandbox = [
        ({"sandbox": name, "verdict": verdict}, count)
        for name, verdicts in tally.get("sandboxes", {}).items()
        for verdict, count in verdicts.items()
    ]
    yield many("egress_sandbox_decisions", Type.COUNTER, "Decisions by sandbox.", by_sandbox)
    yield single("egress_finished", Type.COUNTER, "Requests and tunnels that have ended.", tally.get("outcomes"))
    up, down = tally.get("bytes", (0, 0))
    carried = [({"direction": "up"}, up), ({"direction": "down"}, down)]
    yield many("egress_bytes", Type.COUNTER, "Bytes of bodies and tunnels that ended, from and to clients.", carried)
    for name, key, text in (
        ("egress_duration_seconds", "durations", "How long requests and tunnels took."),
        ("egress_first_byte_seconds", "first_bytes", "How long the first byte of an answer took."),
    ):
        times = tally.get(key, _NO_TIMES)
        yield histogram(name, text, BOUNDS, times["counts"], times["total"])
    yield many("egress_connections", Type.GAUGE, "Open connections of clients.", _by_process(told, "connections"))
    yield many("egress_open", Type.GAUGE, "Requests and tunnels under way.", _by_process(told, "open"))
    yield many("egress_tasks", Type.GAUGE, "Steps under way at once, as asyncio counts.", _by_process(told, "tasks"))
    sandboxes = _bounded(told["measured"]["sandboxes"])
    yield many("egress_sandbox_connections", Type.GAUGE, "Open connections by sandbox.", sandboxes)


def _audit(told: Mapping[str, Any], hub: Mapping[str, Any]) -> Iterator[Family]:
    counters = told["counters"]
    yield single("egress_audit_rows", Type.COUNTER, "Rows recorded.", counters["recorded"])
    yield single(
        "egress_audit_refused_rows", Type.COUNTER, "Rows turned away, and their traffic with them.", counters["refused"]
    )
    waiting = told["measured"]["waiting"]
    yield single(
        "egress_audit_waiting_rows", Type.GAUGE, "Rows on their way to the database, in all processes.", waiting
    )
    yield single(
        "egress_audit_lag_seconds", Type.GAUGE, "How long the oldest of them has waited at the hub.", hub.get("lag")
    )
    yield single(
        "egress_audit_writable",
        Type.GAUGE,
        "1 if the audit could be written last.",
        not hub["problem"] if hub else None,
    )
    kinds = [({"kind": kind}, count) for kind, count in hub.get("tally", {}).get("kinds", {}).items()]
    yield many("egress_events", Type.COUNTER, "What happened to the proxy, by kind of the row in `events`.", kinds)


def _services(hub: Mapping[str, Any]) -> Iterator[Family]:
    fetches = hub.get("fetches", {})
    by_result = [({"result": result}, fetches.get(result, 0)) for result in ("fetched", "failed")] if hub else []
    yield many("egress_secret_fetches", Type.COUNTER, "Values of secrets that were asked for.", by_result)
    lookups = hub.get("lookups", {})
    by_result = [({"result": result}, lookups.get(result, 0)) for result in ("answered", "failed")] if hub else []
    yield many("egress_name_lookups", Type.COUNTER, "Names that were resolved, from the cache too.", by_result)


def _processes(told: Mapping[str, Any]) -> Iterator[Family]:
    up = [({"process": process["name"]}, process["state"] == "ready") for process in told["processes"]]
    yield many("egress_process_up", Type.GAUGE, "1 if the process serves and answers.", up)
    processes = {"supervisor": told["measured"]["own"], **told["measured"]["processes"]}
    for key, kind, name, text in (
        ("cpu", Type.COUNTER, "egress_process_cpu_seconds", "Processor seconds."),
        ("rss", Type.GAUGE, "egress_process_resident_memory_bytes", "Resident memory, what is shared included."),
    ):
        yield many(
            name, kind, text, [({"process": each}, used[key]) for each, used in processes.items() if key in used]
        )
    own = told["measured"]["own"]
    yield single("process_cpu_seconds", Type.COUNTER, "Processor seconds of the supervisor.", own.get("cpu"))
    yield single("process_resident_memory_bytes", Type.GAUGE, "Resident memory of the supervisor.", own.get("rss"))
    yield single("process_start_time_seconds", Type.GAUGE, "When the supervisor started.", own.get("started"))
    used, limit = open_files()
    yield single("process_open_fds", Type.GAUGE, "Open descriptors of the supervisor.", used)
    yield single("process_max_fds", Type.GAUGE, "How many a process of the proxy may have.", limit)


def _by_process(told: Mapping[str, Any], key: str) -> list[tuple[dict[str, str], float]]:
    return [({"process": each["name"]}, each[key]) for each in told["processes"] if each.get(key) is not None]


def _bounded(counts: Mapping[str, int]) -> list[tuple[dict[str, str], float]]:
    """So many sandboxes by name, those with most first; the rest together."""
    ranked = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    rest = sum(count for _, count in ranked[SANDBOXES_AT_MOST:])
    named = [*ranked[:SANDBOXES_AT_MOST], *([(OTHER, rest)] if rest else [])]
    return [({"sandbox": name}, count) for name, count in named]
