"""Starts Ray on this machine or joins a cluster, without statistics, dashboard and log messages."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import OutputError

# Every process of Ray reads these when it starts. No data leaves the machines of the cluster.
SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# On a busy machine Ray may start more slowly than its default limit, and its workers would have low priority.
DEFAULTS = {"RAY_raylet_start_wait_time_s": "180", "RAY_worker_niceness": "0"}
MEMORY = 100_000_000  # bytes of Ray's object store on this machine: small, since tasks carry only names

os.environ |= SETTINGS
for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)

# These imports must come after the settings.
import ray  # noqa: E402
from ray.exceptions import RayError, RayTaskError  # noqa: E402, F401


@contextmanager
def cluster(address: str, cpus: int) -> Iterator[None]:
    """Run Ray until the end of the block; a cluster that was joined keeps running.

    Args:
        address: as in :class:`lithepose.cluster.config.Machines`.
        cpus: least number of CPUs of a Ray that is started.

    Raises:
        OutputError: there is no cluster at the address.
    """
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    folder = ""
    if not address:
        # It holds Ray's logs and is removed at the end. TMPDIR may be too long a path for the names of Ray's sockets.
        short = "/tmp" if os.path.isdir("/tmp") else None
        folder = tempfile.mkdtemp(prefix="lithepose-ray-", dir=short)
        options |= {"include_dashboard": False, "_temp_dir": folder, "object_store_memory": MEMORY}
        options |= {"num_cpus": max(len(_cores()), cpus), "address": "local"}
    else:
        options["address"] = address
    # Ray replaces these handlers and does not restore them.
    in_main = threading.current_thread() is threading.main_thread()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)} if in_main else {}
    ours = not ray.is_initialized()
    try:
        if ours:
            try:
                ray.init(**options)
            except ConnectionError as error:
                text = f"--address {address}: no Ray cluster found ({error}); run `ray start`, or omit --address"
                raise OutputError(text) from error
        for number, handler in handlers.items():
            signal.signal(number, handler)
        with _quiet():
            yield
    finally:
        if ours:
            ray.shutdown()
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if folder:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress Ray's messages about workers and machines that end, which its options do not turn off."""
    from ray._private import worker

    before = getattr(worker, "print_to_stdstream", None)
    if before is None:
        yield
        return
    worker.print_to_stdstream = lambda *_, **__: None
    try:
        yield
    finally:
        worker.print_to_stdstream = before


def _cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return list(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def room(cpus: int) -> int:
    """Number of workers that fit on the machines of the cluster, whether they are busy or not."""
    return sum(int(node["Resources"].get("CPU", 0)) // cpus for node in ray.nodes() if node["Alive"])
