"""OpenVINO, imported without its telemetry, and one core shared by the whole process.

OpenVINO reports each import and each conversion to a server of its makers, from a forked process. lithepose sends no
data anywhere, so it prevents the import of the telemetry package. OpenVINO has a stub for installations without this
package.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, cast

cast("dict[str, Any]", sys.modules).setdefault("openvino_telemetry", None)  # importing it raises ImportError

import openvino  # noqa: E402

__all__ = ["core", "openvino"]


_cores: list[openvino.Core] = []
_lock = threading.Lock()


def core() -> openvino.Core:
    """Return the core, which reads and compiles networks.

    There is one per process, and it is never released. Each core sets the signal stack of the calling thread and unmaps
    it on release. If several cores are released in another order or thread, a thread may keep an unmapped signal stack.
    The next signal, such as Ctrl-C, then ends the process with a segmentation fault.
    """
    with _lock:
        if not _cores:
            _cores.append(openvino.Core())
        return _cores[0]
