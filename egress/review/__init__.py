"""What a policy would say, without a proxy and without any network."""

from __future__ import annotations

from egress.review.destination import Destination, parse_url
from egress.review.explain import Explanation, explain, explain_reason
from egress.review.lane import lane_text
from egress.review.question import MAX_LINE_BYTES, Question, make_question, read_lines, read_question

__all__ = [
    "MAX_LINE_BYTES",
    "Destination",
    "Explanation",
    "Question",
    "explain",
    "explain_reason",
    "lane_text",
    "make_question",
    "parse_url",
    "read_lines",
    "read_question",
]
