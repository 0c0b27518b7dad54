"""One audit row as a line of text or JSON, as the commands print it: see `egress.audit.lines`."""

from __future__ import annotations

from egress.audit.lines import destination, json_line, moment, plain_line, rule_place, utc

__all__ = ["destination", "json_line", "moment", "plain_line", "rule_place", "utc"]
