"""The head parsers' public names: request and response heads from bytes, with their limits and framings."""

from __future__ import annotations

from egress.wire.fields import Fields, HeadLimits
from egress.wire.framing import Chunked, ContentLength, Framing, NoBody, UntilClose, Version
from egress.wire.outcome import NeedMore, Reject, RejectKind
from egress.wire.request import RequestHead, parse_repeated_head, parse_request_head
from egress.wire.response import ResponseHead, parse_response_head, response_framing
from egress.wire.target import Target, TargetForm

__all__ = [
    "Chunked",
    "ContentLength",
    "Fields",
    "Framing",
    "HeadLimits",
    "NeedMore",
    "NoBody",
    "Reject",
    "RejectKind",
    "RequestHead",
    "ResponseHead",
    "Target",
    "TargetForm",
    "UntilClose",
    "Version",
    "parse_repeated_head",
    "parse_request_head",
    "parse_response_head",
    "response_framing",
]
