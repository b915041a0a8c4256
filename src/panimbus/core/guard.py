"""Turn the errors of third-party parsers and decoders into one `ReadError`.

On damaged or hostile files, parsers raise exceptions of any type. Calls to them stand inside
`guarded`; an array that is read when it is sliced is wrapped in `GuardedArray`.
"""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from panimbus.core.errors import PanimbusError, ReadError
from panimbus.core.fov import ArrayLike
from panimbus.core.indexing import normalize_index
from panimbus.core.lazy import ArrayWrapper
from panimbus.core.types import Array

logger = logging.getLogger(__name__)
_LONGEST = 200
# messages of C++, OpenVINO, torch (CPU and CUDA), Python threads and the loader of libraries
_NO_MEMORY = (
    "bad_alloc", "allocate memory", "can't alloc", "cannot alloc", "out of memory",
    "not enough memory", "failed to allocate", "insufficient memory", "start new thread",
    "resource temporarily unavailable", "failed to map segment",
)  # fmt: skip


@contextmanager
def guarded(
    source: object, problem: str = "the file cannot be read.", *, fix: str | None = None
) -> Iterator[None]:
    """Context manager that turns any foreign exception into a `ReadError` about ``source``.

    Parameters
    ----------
    source
        The file, folder or address, as the user gave it.
    problem
        What failed.
    fix
        How the user can fix it.

    Raises
    ------
    ReadError
        With the type of the exception and the first line of its message. The traceback is logged at
        level DEBUG.

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
    except Exception as error:  # decoders raise errors of any type (see above)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise  # a full disk is not a problem of this file
        if out_of_memory(error):
            problem = "it needs (or claims to need) more memory than there is."
            fix = "free some memory, or raise its limit"
        logger.debug("%s", source, exc_info=True)
        raise ReadError(f"{source}: {problem}", got=describe_error(error), fix=fix) from error


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, also in the wording of C++ libraries.

    Examples
    --------
    >>> out_of_memory(MemoryError()), out_of_memory(RuntimeError("std::bad_alloc"))
    (True, True)
    >>> out_of_memory(RuntimeError("no"))
    False
    """
    error = _first_of(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, OSError) and error.errno == errno.ENOMEM
    ):
        return True
    if isinstance(error, RuntimeError | OSError | ImportError) and any(
        words in str(error).lower() for words in _NO_MEMORY
    ):
        return True
    return isinstance(error, RuntimeError | SystemError | ImportError) and _at_the_limit()


def _at_the_limit() -> bool:
    """Whether the peak address space exceeded 80 % of its limit (``ulimit -v``).

    Near the limit, libraries fail with arbitrary messages.
    """
    try:
        import resource  # not on Windows

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        peak = re.search(
            r"VmPeak:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii")
        )
    except (ImportError, OSError, ValueError):
        return False
    return (
        limit != resource.RLIM_INFINITY and peak is not None and int(peak[1]) * 1024 > 0.8 * limit
    )


def _first_of(error: BaseException) -> BaseException:
    """The first exception of a group: Zarr 3.4 reads in tasks, which raise groups."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def describe_error(error: BaseException) -> str:
    """Type of an exception and the first line of its message, shortened.

    Examples
    --------
    >>> describe_error(KeyError("shape")), describe_error(RecursionError())
    ("KeyError: 'shape'", 'RecursionError')
    >>> describe_error(ExceptionGroup("tasks", [KeyError("shape")]))
    "KeyError: 'shape'"
    """
    error = _first_of(error)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    first = next(
        (line for line in lines if not line.startswith("Exception from ")), "".join(lines[:1])
    )  # OpenVINO puts source locations first
    first = first if len(first) <= _LONGEST else f"{first[:_LONGEST]}..."
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


class GuardedArray(ArrayWrapper):
    """A lazy array whose reading is `guarded`.

    Parameters
    ----------
    array
        The array to read from.
    source
        Its file, as the user gave it.
    """

    def __init__(self, array: ArrayLike, source: object) -> None:
        super().__init__(array)
        self._source = str(source)

    def __getitem__(self, key: Any, /) -> Array:
        normalize_index(key, self.shape)  # a wrong index is an IndexError, as for any array
        with guarded(
            self._source, "the pixels cannot be read.", fix="copy or export the file again"
        ):
            return np.asarray(self.array[key])
