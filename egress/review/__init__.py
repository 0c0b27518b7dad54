"""What a policy would say, without a proxy and without any network: to one request, to cases, beside another policy."""

from __future__ import annotations

from egress.review.changes import Changes, Group, Kind
from egress.review.destination import Destination, parse_url
from egress.review.diff import Comparison, compare
from egress.review.explain import explain, explain_reason, judge
from egress.review.explanation import Explanation, dialable
from egress.review.lane import lane_text
from egress.review.question import DECISION_ID, MAX_LINE_BYTES, Question, make_question, read_lines, read_question
from egress.review.replay import Recorded, Replay, replay
from egress.review.show import effective
from egress.review.spelling import limits_values, signing_text
from egress.review.tried import Outcome, ScopeTried, Tried, tried
from egress.review.verify import CaseResult, FileResult, Mismatch, results_json, verify

__all__ = [
    "DECISION_ID",
    "MAX_LINE_BYTES",
    "CaseResult",
    "Changes",
    "Comparison",
    "Destination",
    "Explanation",
    "FileResult",
    "Group",
    "Kind",
    "Mismatch",
    "Outcome",
    "Question",
    "Recorded",
    "Replay",
    "ScopeTried",
    "Tried",
    "compare",
    "dialable",
    "effective",
    "explain",
    "explain_reason",
    "judge",
    "lane_text",
    "limits_values",
    "make_question",
    "parse_url",
    "read_lines",
    "read_question",
    "replay",
    "results_json",
    "signing_text",
    "tried",
    "verify",
]
