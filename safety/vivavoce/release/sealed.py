"""Types that are proofs: who holds one knows what happened to it, since only this package can make one.

Python cannot stop a determined insider; it can stop every accident. Construction without this package's token,
subclassing, copying with changes and unpickling all fail, and a lint refuses the constructor's name elsewhere.
"""

from __future__ import annotations

from typing import NoReturn

TOKEN = object()


class OnlyHere:
    """Base of the proofs. A dataclass on it takes the token as its `made_by`."""

    def __init_subclass__(cls) -> None:
        """Refuse a subclass of a proof, which could skip the check below and still be taken for the proof."""
        if cls.__mro__[1] is not OnlyHere:
            raise TypeError(f"{cls.__mro__[1].__name__} is final")

    def __post_init__(self, made_by: object) -> None:
        """Refuse whoever has no token."""
        if made_by is not TOKEN:
            raise TypeError(f"{type(self).__name__} is made by vivavoce.release alone")

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: an unpickled proof would have been made by nobody."""
        raise TypeError(f"{type(self).__name__} does not travel")
