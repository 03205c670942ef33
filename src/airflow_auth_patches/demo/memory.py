"""How much memory a program and all that it started have, as Linux tells it."""

from __future__ import annotations

from pathlib import Path

PROCESSES = Path("/proc")
#: Where the group of a process is in its ``stat``, counted from behind its name.
GROUP = 2


def resident(group: int) -> int:
    """
    Add up the resident memory of the processes of a group.

    :param group: its id.
    :return: bytes; 0 where no process of it runs.
    """
    return sum(_resident(process, group) for process in PROCESSES.iterdir() if process.name.isdigit())


def _resident(process: Path, group: int) -> int:
    try:
        # The name is in brackets, and may hold any of them itself.
        told = (process / "stat").read_text().rpartition(")")[2].split()
        status = (process / "status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has just ended
    if int(told[GROUP]) != group:
        return 0
    sizes = [int(line.split()[1]) for line in status if line.startswith("VmRSS:")]
    return sum(sizes) * 1024  # none of one that has ended and was not waited for yet
