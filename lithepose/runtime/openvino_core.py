"""OpenVINO, imported without its telemetry, and the one core that all of a process share.

OpenVINO reports each import and each conversion to a server of its makers, from a process forked off the caller's.
lithepose sends nothing anywhere, so it keeps the package that does this from being imported; OpenVINO has a stub for
installations without it.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, cast

cast("dict[str, Any]", sys.modules).setdefault("openvino_telemetry", None)  # its import raises ImportError

import openvino  # noqa: E402

__all__ = ["core", "openvino"]


_cores: list[openvino.Core] = []
_lock = threading.Lock()


def core() -> openvino.Core:
    """What reads and compiles networks.

    One a process, never released: each sets the stack on which the calling thread handles signals, and unmaps it when
    it is released. With several cores, released in another order or thread, a thread may keep a signal stack that has
    been unmapped; the next signal, such as Ctrl-C, then ends the process by a segmentation fault.
    """
    with _lock:
        if not _cores:
            _cores.append(openvino.Core())
        return _cores[0]
