"""What the models of secrets' sources have in common: the file says some keys, the source has the rest."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from egress.config.fields import wrong
from egress.config.wording import quoted


class SourceModel(BaseModel):
    """No unknown keys, no conversions, and no key without a value."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, arbitrary_types_allowed=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _nothing_empty(cls, value: object) -> object:
        """A key with nothing after it is not the same as no key."""
        empty = [key for key, item in value.items() if item is None] if isinstance(value, dict) else []
        if empty:
            raise wrong(f"nothing stands after {quoted(empty[0])}", "give it a value, or remove it")
        return value

    def problem(self) -> tuple[str, str, str] | None:
        """What is wrong with the keys together: a key, a message and a hint."""
        return None

    def stated(self) -> dict[str, Any]:
        """What the file says, by key: lists as tuples, mappings as pairs in order of their names."""
        found: dict[str, Any] = {}
        for name in self.model_fields_set:
            value = getattr(self, name)
            if isinstance(value, list):
                value = tuple(value)
            elif isinstance(value, dict):
                value = tuple(sorted(value.items()))
            found[name] = value
        return found
