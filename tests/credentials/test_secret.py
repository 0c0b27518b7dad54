"""A secret shows itself through `reveal` and nothing else."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
import logging
import pickle
import pprint
import traceback
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from egress.credentials import Rendered, Secret

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "canary-Zm9vYmFy-4711"
SECRET = Secret("github", CANARY)

SHOWN: list[tuple[str, Callable[[], str]]] = [
    ("repr", lambda: repr(SECRET)),
    ("str", lambda: str(SECRET)),
    ("format", lambda: format(SECRET)),
    ("f-string", lambda: f"{SECRET}"),
    ("f-string with a width", lambda: f"{SECRET:>40}"),
    ("f-string that cuts", lambda: f"{SECRET:.3}"),
    ("f-string debug", lambda: f"{SECRET=}"),
    ("percent s", lambda: "%s" % SECRET),  # noqa: UP031  # this way of formatting is what is tested
    ("percent r", lambda: "%r" % SECRET),  # noqa: UP031  # likewise
    ("percent a", lambda: "%a" % SECRET),  # noqa: UP031  # likewise
    ("in a list", lambda: str([SECRET])),
    ("in a dict", lambda: str({"x": SECRET})),
    ("in a dataclass", lambda: repr(Rendered((("authorization", SECRET),), ("github",)))),
    ("pretty printed", lambda: pprint.pformat({"x": [SECRET]})),
    ("as a JSON default", lambda: json.dumps({"x": SECRET}, default=str)),
    ("in an exception", lambda: "".join(traceback.format_exception(ValueError("bad", SECRET)))),
    ("in its attributes", lambda: str([getattr(SECRET, name, "") for name in dir(SECRET) if not name.startswith("_")])),
]


@pytest.mark.parametrize("show", [row[1] for row in SHOWN], ids=[row[0] for row in SHOWN])
def test_secret_confinement_in_text(show: Callable[[], str]) -> None:
    """However it is turned into text, the name shows and no part of the value does."""
    text = show()
    assert CANARY not in text
    assert "canary" not in text
    if "attributes" not in text:
        assert "github" in text


def test_secret_confinement_in_a_log(caplog: pytest.LogCaptureFixture) -> None:
    """Arguments of a log call are formatted late, and by others."""
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("x").warning("sent %s %r", SECRET, {"a": SECRET})
    assert "<secret github>" in caplog.text
    assert CANARY not in caplog.text


def test_secret_confinement_in_a_traceback_with_locals() -> None:
    """Crash reporters print the locals of each frame, by `repr`."""

    def fail(secret: Secret) -> None:
        raise ValueError(secret)

    try:
        fail(SECRET)
    except ValueError as error:
        text = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "<secret github>" in text
    assert CANARY not in text


REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("pickle", lambda: pickle.dumps(SECRET)),
    ("old pickle", lambda: pickle.dumps(SECRET, protocol=0)),
    ("copy", lambda: copy.copy(SECRET)),
    ("deepcopy", lambda: copy.deepcopy(SECRET)),
    ("asdict", lambda: dataclasses.asdict(Rendered((("authorization", SECRET),), ("github",)))),
    ("json", lambda: json.dumps(SECRET)),
    ("iter", lambda: list(SECRET)),  # type: ignore[call-overload]
    ("unpack", lambda: [*SECRET]),  # type: ignore[misc]
    ("in", lambda: "canary" in SECRET),  # type: ignore[operator]
    ("len", lambda: len(SECRET)),  # type: ignore[arg-type]
    ("index", lambda: SECRET[0]),  # type: ignore[index]
    ("slice", lambda: SECRET[:3]),  # type: ignore[index]
    ("bytes", lambda: bytes(SECRET)),  # type: ignore[call-overload]
    ("truth", lambda: bool(SECRET)),
    ("vars", lambda: vars(SECRET)),
    ("getstate", SECRET.__getstate__),
    ("concatenate", lambda: "Bearer " + SECRET),  # type: ignore[operator]
    ("join", lambda: ",".join([SECRET, SECRET])),  # type: ignore[list-item]  # noqa: FLY002  # join is what is tested
    ("write", lambda: io.StringIO().write(SECRET)),  # type: ignore[arg-type]
    ("order", lambda: sorted([SECRET, SECRET])),  # type: ignore[operator]
]


@pytest.mark.parametrize("attempt", [row[1] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_a_secret_is_not_taken_apart(attempt: Callable[[], object]) -> None:
    """What would move the value elsewhere, or a part of it, raises, and the error does not hold it either."""
    with pytest.raises(TypeError) as caught:
        attempt()
    assert "canary" not in str(caught.value)


def test_a_secret_does_not_change() -> None:
    """Neither assigned nor deleted, and nothing is added."""
    secret = Secret("a", "b")
    for change in (
        lambda: setattr(secret, "_value", "x"),
        lambda: setattr(secret, "other", "x"),
        lambda: delattr(secret, "_value"),
    ):
        with pytest.raises(AttributeError):
            change()
    assert secret.reveal() == "b"


@given(name=st.text(), other=st.text(), one=st.text(), two=st.text())
def test_equality_is_by_name_and_value_and_the_hash_by_name(name: str, other: str, one: str, two: str) -> None:
    """Equal secrets have equal hashes; the hash says nothing of the value; a string is never equal."""
    assert (Secret(name, one) == Secret(other, two)) is ((name, one) == (other, two))
    assert hash(Secret(name, one)) == hash(Secret(name, two))
    assert Secret(name, one) != one
