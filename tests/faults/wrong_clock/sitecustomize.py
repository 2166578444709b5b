"""Gives a process a wrong clock. Python imports this module first, from the directory that PYTHONPATH names.

The file that FAULTS_CLOCK names contains the number of seconds by which the clock is ahead. If the file does not
exist or contains no number, the clock is right. The file's number may change while the process runs.
`time.monotonic` stays unchanged, as it does if the clock of a real machine jumps.
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
"""The methods of the C class itself. A derived class would differ from the class of the dates that C code creates."""
_methods["now"], _methods["utcnow"] = classmethod(_now), classmethod(_utcnow)
ctypes.pythonapi.PyType_Modified(ctypes.py_object(dt.datetime))
