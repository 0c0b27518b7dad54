"""The record of every decision: events, the writer behind the proxy, and the reader behind `egress audit`."""

from __future__ import annotations

from egress.audit.asked import AskedRow
from egress.audit.event import AuditEvent, DecisionEvent, NoteEvent, OutcomeEvent
from egress.audit.event_rows import EventRow
from egress.audit.filters import Filter, FilterError, parse_filter, parse_since
from egress.audit.paging import Ends, Page, PagedReader
from egress.audit.reader import AuditReader, AuditRow
from egress.audit.repeats import Repeat, as_rows, repeats
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
    "Ends",
    "EventRow",
    "Filter",
    "FilterError",
    "NoteEvent",
    "OutcomeEvent",
    "Page",
    "PagedReader",
    "Repeat",
    "Retention",
    "Signer",
    "as_rows",
    "mask_query",
    "parse_filter",
    "parse_since",
    "printable",
    "repeats",
]
