"""The record of every decision: events, the writer behind the proxy, and the reader behind `egress audit`."""

from __future__ import annotations

from egress.audit.asked import AskedRow
from egress.audit.event import AuditEvent, DecisionEvent, OutcomeEvent
from egress.audit.filters import Filter, FilterError, parse_filter, parse_since
from egress.audit.reader import AuditReader, AuditRow
from egress.audit.retention import Retention
from egress.audit.signing import Signer
from egress.audit.text import mask_query, printable
from egress.audit.writer import AuditWriter

__all__ = [
    "AskedRow",
    "AuditEvent",
    "AuditReader",
    "AuditRow",
    "AuditWriter",
    "DecisionEvent",
    "Filter",
    "FilterError",
    "OutcomeEvent",
    "Retention",
    "Signer",
    "mask_query",
    "parse_filter",
    "parse_since",
    "printable",
]
