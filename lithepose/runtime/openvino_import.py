"""OpenVINO, imported without its telemetry.

OpenVINO reports each import and each conversion to a server of its makers, from a process forked off the caller's.
lithepose sends nothing anywhere, so it keeps the package that does this from being imported; OpenVINO has a stub for
installations without it.
"""

from __future__ import annotations

import sys
from typing import Any, cast

cast("dict[str, Any]", sys.modules).setdefault("openvino_telemetry", None)  # its import raises ImportError

import openvino  # noqa: E402

__all__ = ["openvino"]
