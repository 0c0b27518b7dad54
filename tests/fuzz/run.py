"""`python -m fuzz.run`: run the fuzzers for a while, say what they found, keep an input of each kind.

`listener` is a proxy with the lanes that its policy needs, `listener-mitm` one whose every lane is the mitm lane; both
need root, as every end-to-end test does. `--keep` writes the corpus anew from what was seen: the smallest input of each
kind of answer, made smaller still.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from random import Random

from conformance.stage import Stage
from fuzz.engine import Report, Target, corpus_of, fuzz, write_corpus
from fuzz.listener import CONFIG, ListenerFuzz, Tally
from fuzz.mutation import smallest
from fuzz.targets import PARSERS

_BRANCH_BYTES = 300
LISTENERS = {"listener": None, "listener-mitm": "mitm"}


def main() -> int:
    """Run the named targets, or all; 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    names = (*PARSERS, *LISTENERS)
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(names)}; all without any")
    parser.add_argument("--seconds", type=float, default=300, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="printed, so that a run can be repeated")
    parser.add_argument("--keep", action="store_true", help="write the corpus anew")
    words = parser.parse_args()
    found = False
    for name in words.targets or names:
        found = (_parse if name in PARSERS else _listen)(name, words) or found
    return int(found)


def _parse(name: str, words: argparse.Namespace) -> bool:
    """Run the fuzzer of a parser; whether there was a finding."""
    target = PARSERS[name]()
    report = fuzz(target, words.seed, seconds=words.seconds)
    _tell(report, words)
    if words.keep:
        write_corpus(name, [*corpus_of(name), *_kept(target, report)])
    return bool(report.findings)


def _listen(name: str, words: argparse.Namespace) -> bool:
    """Likewise of a listener."""
    with tempfile.TemporaryDirectory() as folder:
        # Its way there must be open to the proxy's user, as pytest's folders are.
        Path(folder).chmod(0o755)
        with Stage(Path(folder) / "stage", LISTENERS[name], config=CONFIG) as stage:
            tally = ListenerFuzz(stage, words.seed).run(seconds=words.seconds)
            _tell(tally, words)
            if tally.findings:
                print(stage.proxy.log[-4000:], flush=True)  # noqa: T201 -- a command
    return bool(tally.findings)


def _tell(report: Report | Tally, words: argparse.Namespace) -> None:
    print(f"{report} (seed {words.seed}, {words.seconds:g} s)", flush=True)  # noqa: T201 -- a command


def _kept(target: Target, report: Report) -> list[bytes]:
    """One small input for each kind of answer, and what took a branch first, if it is not long."""

    def kind(data: bytes) -> str:
        try:
            return target.check(data, Random(0))  # noqa: S311 -- repeatable by intent
        except Exception:  # noqa: BLE001 -- a finding is kept as it is
            return "finding"

    kept = []
    for name, data in report.examples.items():
        if name.startswith("branch"):
            kept += [data] if len(data) <= _BRANCH_BYTES else []
            continue
        wanted = kind(data)
        kept.append(smallest(data, lambda part, wanted=wanted: kind(part) == wanted))  # type: ignore[misc]
    return kept


if __name__ == "__main__":
    sys.exit(main())
