"""The JSON Schema of a policy file, for editors: made from the models, so that it cannot say anything else."""

from __future__ import annotations

import json
from typing import Final

from egress.config.policy_model import PolicyModel

SCHEMA_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


def policy_schema() -> dict[str, object]:
    """The schema as plain values (JSON Schema 2020-12)."""
    schema = PolicyModel.model_json_schema(mode="validation")
    cleaned = _without_null(schema)
    if not isinstance(cleaned, dict):
        raise TypeError("a schema is an object")
    cleaned |= {"$schema": SCHEMA_DIALECT, "title": "egress policy"}
    return cleaned


def policy_schema_text() -> str:
    """The schema as it is committed and printed: sorted, indented, with a final newline."""
    return json.dumps(policy_schema(), indent=2, sort_keys=True) + "\n"


def _without_null(node: object) -> object:
    """The models know "not given" as None; a file says it by leaving the key out, and a bare `ports:` is an error."""
    if isinstance(node, list):
        return [_without_null(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {key: _without_null(value) for key, value in node.items() if not (key == "default" and value is None)}
    if isinstance(node.get("title"), str):
        del out["title"]
    options = out.get("anyOf")
    if isinstance(options, list):
        kept = [option for option in options if option != {"type": "null"}]
        if len(kept) == 1 and isinstance(kept[0], dict):
            del out["anyOf"]
            out = kept[0] | out
        else:
            out["anyOf"] = kept
    return out
