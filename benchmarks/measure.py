"""Clocks, memory, and the machine's own speed."""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import psutil
import torch


@dataclass(frozen=True)
class Seconds:
    """Processor and wall time of the same work. With one thread they differ by what others took of the machine."""

    cpu: float
    wall: float

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.cpu + other.cpu, self.wall + other.wall)


class Stopwatch:
    """Both clocks, running from now."""

    def __init__(self) -> None:
        self._cpu, self._wall = time.process_time(), time.perf_counter()

    def lap(self) -> Seconds:
        """Time since the start or the last lap."""
        cpu, wall = time.process_time(), time.perf_counter()
        lap = Seconds(cpu - self._cpu, wall - self._wall)
        self._cpu, self._wall = cpu, wall
        return lap


@dataclass(frozen=True)
class Timing:
    """Median and range of repeated measurements, in seconds."""

    middle: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float], times: float = 1.0) -> Timing:
        """Of a list, scaled."""
        return cls(median(values) * times, min(values) * times, max(values) * times)

    def __str__(self) -> str:
        return f"{self.middle:.2f} ({self.low:.2f} to {self.high:.2f})"


def matrix_rate(size: int = 2048) -> float:
    """Floating-point operations per processor second of a large matrix product, with the threads in use."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    out = torch.empty(size, size)
    torch.mm(a, b, out=out)
    watch = Stopwatch()
    torch.mm(a, b, out=out)
    return 2 * size**3 / watch.lap().cpu


def reset_peak() -> None:
    """Hand freed memory back and let the resident set's high-water mark start again, where the system allows it."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_bytes() -> int:
    """The resident set's high-water mark."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident_bytes() -> int:
    """The resident set now."""
    return int(psutil.Process().memory_info().rss)


def machine() -> str:
    """Processor, cores and system, as they name themselves."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    memory = psutil.virtual_memory().total / 2**30
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB, {platform.system()}"
