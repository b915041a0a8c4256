"""Commands and machines, measured."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
from pathlib import Path


def machine() -> dict:
    cpu = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    flags = set(next((line for line in cpu.splitlines() if line.startswith("flags")), "").split())
    return {
        "cpu": next(
            (
                line.split(":")[1].strip()
                for line in cpu.splitlines()
                if line.startswith("model name")
            ),
            platform.processor(),
        ),
        "isa": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def timed(command: list[str]) -> dict:
    """Run a command; its wall and CPU seconds, peak memory of the largest process in it, and the
    JSON of its last line."""
    with tempfile.TemporaryFile("w+") as out:
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        lines = out.read().strip().splitlines()
    found = {
        "rc": process.returncode,
        "wall_s": wall,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mb": used.ru_maxrss / 1024,
    }
    if process.returncode:
        found["error"] = (
            lines[-1] if lines else ""
        )  # what stands above it names paths of this machine
    elif lines and lines[-1].startswith("{"):
        found["result"] = json.loads(lines[-1])
    return found


def row(run: dict) -> str:
    """Wall seconds, CPU seconds and peak memory as cells of a table."""
    return f"{run['wall_s']:.1f} | {run['cpu_s']:.1f} | {run['peak_mb']:.0f}"
