"""A value that does not show itself: not in a log, a traceback, a dump, a copy or a comparison's failure message.

INVARIANT secret-confinement: the text leaves this type through `reveal` alone, so that a search for that word finds
every place where a secret becomes text.
"""

from __future__ import annotations

import hmac
from typing import NoReturn, final


@final
class Secret:
    """The value of a credential, under the name it has in the policy.

    Two are equal if name and value are; the comparison takes the same time wherever they differ, and the hash is the
    name's.
    """

    __slots__ = ("_name", "_value")
    _name: str
    _value: str

    def __init__(self, name: str, value: str) -> None:
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_value", value)

    @property
    def name(self) -> str:
        """The secret's name, which may be shown."""
        return self._name

    def reveal(self) -> str:
        """The value itself. Only for the bytes of a request to a host that the secret is bound to."""
        return self._value

    def __repr__(self) -> str:
        return f"<secret {self._name}>"

    __str__ = __repr__

    def __format__(self, format_spec: str) -> str:
        # The format is ignored: `{secret:.3}` must not become a way to cut, and then to print.
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        same = hmac.compare_digest(self._value.encode(), other._value.encode())
        return same and self._name == other._name

    def __hash__(self) -> int:
        return hash((Secret, self._name))

    def __setattr__(self, attribute: str, value: object) -> NoReturn:
        raise AttributeError("a secret does not change")

    def __delattr__(self, attribute: str) -> NoReturn:
        raise AttributeError("a secret does not change")

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f"{self!r} can be neither copied, pickled nor taken apart")

    # Pickles go to disk, to queues and to other processes; copies end up where nobody looks for secrets.
    __reduce__ = _refuse
    __reduce_ex__ = _refuse
    __getstate__ = _refuse
    __copy__ = _refuse
    __deepcopy__ = _refuse
    # Without these, a list() or a join() over a secret would only fail by luck.
    __iter__ = _refuse
    __len__ = _refuse
    __getitem__ = _refuse
    __bytes__ = _refuse
    # A secret in a condition is a mistake for `is None`.
    __bool__ = _refuse
