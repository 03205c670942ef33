"""Measure the memory of a program and all its child processes, on Linux."""

from __future__ import annotations

from pathlib import Path

PROCESSES = Path("/proc")
#: Index of the process group in ``/proc/PID/stat``, counted after the name.
GROUP = 2


def resident(group: int) -> int:
    """
    Return the total resident memory of the processes in a process group.

    :param group: the id of the group.
    :return: bytes; 0 if no process of the group is running.
    """
    return sum(_resident(process, group) for process in PROCESSES.iterdir() if process.name.isdigit())


def _resident(process: Path, group: int) -> int:
    try:
        # The name is in parentheses and can contain parentheses.
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        status = (process / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # the process ended
    if int(fields[GROUP]) != group:
        return 0
    sizes = [int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
    return sum(sizes) * 1024  # a zombie process has no VmRSS
