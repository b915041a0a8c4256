"""The boundary for what comes from elsewhere: whatever a parser or a decoder raises becomes one `ReadError`.

Files of other programs are read by other people's parsers, which raise whatever they like on damaged or hostile bytes. Their
calls stand inside `guarded`; an array that reads when it is sliced is wrapped in `GuardedArray`.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from panimbus.core.errors import PanimbusError, ReadError
from panimbus.core.fov import Array, ArrayLike
from panimbus.core.keys import bounds

logger = logging.getLogger(__name__)
_LONGEST = 200


@contextmanager
def guarded(where: object, what: str = "the file cannot be read.", *, fix: str | None = None) -> Iterator[None]:
    """Turn any exception that is not ours into a `ReadError` about ``where``.

    Parameters
    ----------
    where
        The file, folder or address, as the user knows it.
    what
        What cannot be done with it.
    fix
        What to do about it.

    Raises
    ------
    ReadError
        With the kind of the exception and the first line of its message. The traceback is logged at level DEBUG.

    Examples
    --------
    >>> with guarded("a.tiff"):
    ...     int("many")
    Traceback (most recent call last):
    panimbus.core.errors.ReadError: a.tiff: the file cannot be read.
      got:       ValueError: invalid literal for int() with base 10: 'many'
    """
    try:
        yield
    except PanimbusError:
        raise
    except MemoryError as error:
        raise ReadError(
            f"{where}: it needs more memory than there is, or says that it does.", got=in_words(error), fix=fix
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # a full disk is no fault of what is read
            raise
        raise ReadError(f"{where}: {what}", got=in_words(error), fix=fix) from error
    except Exception as error:  # the one place: decoders raise errors of their own kinds (see above)
        logger.debug("%s", where, exc_info=True)
        raise ReadError(f"{where}: {what}", got=in_words(error), fix=fix) from error


def in_words(error: BaseException) -> str:
    """Kind of an exception and the first line of its message, shortened.

    Examples
    --------
    >>> in_words(KeyError("shape")), in_words(RecursionError())
    ("KeyError: 'shape'", 'RecursionError')
    """
    first = str(error).strip().partition("\n")[0]
    first = first if len(first) <= _LONGEST else f"{first[:_LONGEST]}..."
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class GuardedArray:
    """A lazy array whose reading is `guarded`.

    Parameters
    ----------
    array
        What is read.
    where
        The file it lies in, as the user knows it.
    """

    def __init__(self, array: ArrayLike, where: object) -> None:
        self.array = array
        self._where = str(where)

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return tuple(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a pixel."""
        return np.dtype(self.array.dtype)

    def __getitem__(self, key: Any, /) -> Array:
        bounds(key, self.shape)  # an index that is the caller's mistake is an IndexError, as of any array
        with guarded(self._where, "the pixels cannot be read.", fix="copy or export the file again"):
            return np.asarray(self.array[key])
