"""Gives a process a wrong clock: Python imports this first, from the directory that PYTHONPATH names.

The file that FAULTS_CLOCK names says by how many seconds the clock is ahead; no file, no number: it is right. It may
change while the process runs. `time.monotonic` goes on as it is, as it does where a machine's clock leaps.
"""

import ctypes
import datetime as dt
import gc
import os
import time
from pathlib import Path

_FILE = Path(os.environ.get("FAULTS_CLOCK", os.devnull))
_right = time.time


def _wrong() -> float:
    try:
        return _right() + float(_FILE.read_text() or 0)
    except (OSError, ValueError):
        return _right()


def _now(cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
    return cls.fromtimestamp(time.time(), tz)


def _utcnow(cls: type[dt.datetime]) -> dt.datetime:
    return cls.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)


time.time = _wrong
(_methods,) = gc.get_referents(dt.datetime.__dict__)
"""Of the class itself, which is made in C: a class derived from it would not be the one of the dates that C makes."""
_methods["now"], _methods["utcnow"] = classmethod(_now), classmethod(_utcnow)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
