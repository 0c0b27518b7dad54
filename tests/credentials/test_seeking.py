"""Whatever way a placeholder is written down, it is found; harmless bytes are not taken for one."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials.seeking import LOOKED_AT, BodyLook, Seeker

TEXT = "sk-egress-0123456789abcdefABCDEF"
SEEKER = Seeker({"model": TEXT, "other": "ghp_egress0123456789"})

FORMS = {
    "plain": TEXT,
    "percent-encoded": "".join(f"%{ord(char):02X}" for char in TEXT),
    "percent-encoded in part": "%73" + TEXT[1:],
    "percent-encoded twice": quote("".join(f"%{ord(char):02x}" for char in TEXT)),
    "JSON": json.dumps(TEXT),
    "JSON, escaped": "".join(f"\\u{ord(char):04x}" for char in TEXT),
    "JSON, escaped and percent-encoded": quote("\\u0073" + TEXT[1:]),
    "hexadecimal": TEXT.encode().hex(),
    "hexadecimal, upper": TEXT.encode().hex().upper(),
}


@pytest.mark.parametrize("form", sorted(FORMS))
def test_a_form_is_found_amid_other_text(form: str) -> None:
    """By its secret's name."""
    assert SEEKER.names_in(f"before {FORMS[form]} after".encode()) == ("model",)


@pytest.mark.parametrize("coding", ["utf-16", "utf-16-be", "utf-32"])
def test_a_placeholder_in_wide_characters_is_found(coding: str) -> None:
    """JSON may come so; nothing else of a text does."""
    assert SEEKER.names_in(json.dumps({"key": TEXT}).encode(coding)) == ("model",)
    look = BodyLook(SEEKER)
    pieces = [bytes([byte]) for byte in TEXT.encode(coding)]
    assert any(look.finds(piece) for piece in pieces)


@given(st.binary(max_size=40), st.binary(max_size=40), st.booleans())
def test_base64_is_found_wherever_it_begins(before: bytes, after: bytes, url: bool) -> None:  # noqa: FBT001 - a property
    """As in HTTP Basic, where a user's name stands before it; in both alphabets."""
    encode = base64.urlsafe_b64encode if url else base64.b64encode
    assert "model" in SEEKER.names_in(encode(before + TEXT.encode() + after))


@given(st.binary(max_size=2_000))
def test_any_bytes_can_be_looked_at(data: bytes) -> None:
    """Nothing raises, and what holds no placeholder has none."""
    assert SEEKER.names_in(data) == ()


def test_all_that_are_there_are_named_once() -> None:
    """In one text."""
    assert set(SEEKER.names_in(f"{TEXT} ghp_egress0123456789 {TEXT}".encode())) == {"model", "other"}


@given(st.data())
def test_a_form_is_found_however_the_body_is_cut(data: st.DataObject) -> None:
    """The piece with its end does not pass, nor any after it."""
    form = FORMS[data.draw(st.sampled_from(sorted(FORMS)))]
    body = data.draw(st.binary(max_size=300)) + b" " + form.encode() + b" " + data.draw(st.binary(max_size=50))
    look = BodyLook(SEEKER)
    passed = b""
    at = 0
    while at < len(body):
        size = data.draw(st.integers(1, 60))
        piece = body[at : at + size]
        at += size
        if look.finds(piece):
            break
        passed += piece
    assert look.found == ("model",)
    assert form.encode() not in passed
    assert look.finds(b"harmless")


def test_only_the_beginning_of_a_body_is_looked_at() -> None:
    """64 KB, and it says when it is done."""
    look = BodyLook(SEEKER)
    assert not look.finds(b"x" * (LOOKED_AT - 1))
    assert not look.done
    assert not look.finds(b"xx")
    assert look.done
    assert not look.finds(TEXT.encode())
