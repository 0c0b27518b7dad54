"""Writes plain values as YAML that reads back as the same values, in the layout of `egress policy fmt`."""

from __future__ import annotations

from io import StringIO

from ruamel.yaml import YAML


def yaml_text(values: object) -> str:
    """Mappings, lists, text and numbers as one YAML document. What YAML would take for something else is quoted."""
    # The round-trip dumper keeps the order of keys; its resolver is that of YAML 1.2, as ours is.
    yaml = YAML(typ="rt", pure=True)
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.width = 120
    yaml.allow_unicode = False
    out = StringIO()
    yaml.dump(values, out)
    return out.getvalue()
