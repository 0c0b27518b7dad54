"""Make `schema-1.6.0.json`: what OCSF 1.6.0 says of the classes, the profile and the objects that the export uses.

    git clone --branch 1.6.0 https://github.com/ocsf/ocsf-schema && python digest.py ocsf-schema schema-1.6.0.json

Names, types, requirements, values of enumerations and constraints; no descriptions. The schema is under the Apache
License 2.0, https://github.com/ocsf/ocsf-schema.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

CLASSES = ("dns_activity", "http_activity", "network_activity")
PROFILES = ("security_control",)
OBJECTS = (
    *("dns_answer", "dns_query"),
    *("firewall_rule", "http_request", "http_response", "metadata", "network_connection_info", "network_endpoint"),
    *("network_traffic", "policy", "product", "tls", "url"),
)


def read(folder: Path, place: str) -> dict[str, Any]:
    """One file of the schema."""
    content: dict[str, Any] = json.loads((folder / f"{place}.json").read_text())
    return content


def merged(folder: Path, kind: str, name: str) -> dict[str, Any]:
    """An object or class with what it inherits: attributes, constraints, and the number of the class."""
    own = read(folder, f"{kind}/{name}")
    found = (
        merged(folder, kind if own["extends"] != "base_event" else "events", own["extends"]) if "extends" in own else {}
    )
    attributes = dict(found.get("attributes", {}))
    for attribute, stated in own["attributes"].items():
        if not attribute.startswith("$"):
            enum = {**attributes.get(attribute, {}).get("enum", {}), **stated.get("enum", {})}
            attributes[attribute] = attributes.get(attribute, {}) | stated | ({"enum": enum} if enum else {})
    constraints = own.get("constraints", found.get("constraints", {}))
    return {"attributes": attributes, "constraints": constraints, "uid": own.get("uid")}


def short(dictionary: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """Attributes with type, requirement, and the numbers that they may have."""
    found = {}
    for name, stated in attributes.items():
        known = dictionary["attributes"][name] | stated
        enum = {**dictionary["attributes"][name].get("enum", {}), **stated.get("enum", {})}
        found[name] = {
            "type": known["type"] if known["type"] != "object_t" else f"object:{known['object_type']}",
            "requirement": known.get("requirement", "optional"),
        }
        if known.get("is_array"):
            found[name]["array"] = True
        if enum:
            found[name]["enum"] = {value: enum[value]["caption"] for value in sorted(enum)}
    return found


def digest(folder: Path) -> dict[str, Any]:
    """All of it."""
    dictionary = read(folder, "dictionary")
    made: dict[str, Any] = {"version": read(folder, "version")["version"], "classes": {}, "objects": {}, "profiles": {}}
    for name in CLASSES:
        found = merged(folder, "events/network", name)
        made["classes"][name] = {
            "uid": found["uid"],
            "constraints": found["constraints"],
            "attributes": short(dictionary, found["attributes"]),
        }
    for name in OBJECTS:
        found = merged(folder, "objects", name)
        made["objects"][name] = {
            "constraints": found["constraints"],
            "attributes": short(dictionary, found["attributes"]),
        }
    for name in PROFILES:
        made["profiles"][name] = short(dictionary, read(folder, f"profiles/{name}")["attributes"])
    made["types"] = {
        name: {key: value for key, value in stated.items() if key in {"type", "regex", "range", "max_len", "values"}}
        for name, stated in dictionary["types"]["attributes"].items()
    }
    return made


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(digest(Path(sys.argv[1])), indent=1, sort_keys=True) + "\n")
