"""
Run a program that starts uv, and kill uv, or both, when uv changes a file. Linux on x86-64 only.

uv is no Python program, so that no audit hook sees its changes. This traces its system calls, with ptrace.
"""

from __future__ import annotations

import ctypes
import os
import signal
import struct
import sys
from collections.abc import Iterator
from pathlib import Path

TRACEME, CONT, SETOPTIONS, SYSCALL, GET_SYSCALL_INFO = 0, 7, 0x4200, 24, 0x420E
#: Stops at system calls are marked; forks, threads and programs that the program starts are traced too.
OPTIONS = 0x1 | 0x2 | 0x4 | 0x8 | 0x10 | 0x100000
EXEC = 4
ALL = 0x40000000  # waitpid: threads too
ENTRY = 1
#: System calls that change files, each with the arguments of its paths: the folder or None, and the path.
CHANGES: dict[int, list[tuple[int | None, int]]] = {
    82: [(None, 0), (None, 1)],  # rename
    83: [(None, 0)],  # mkdir
    84: [(None, 0)],  # rmdir
    86: [(None, 0), (None, 1)],  # link
    87: [(None, 0)],  # unlink
    257: [(0, 1)],  # openat
    258: [(0, 1)],  # mkdirat
    263: [(0, 1)],  # unlinkat
    264: [(0, 1), (2, 3)],  # renameat
    265: [(0, 1), (2, 3)],  # linkat
    316: [(0, 1), (2, 3)],  # renameat2
}
OPENAT, WRITES = 257, os.O_WRONLY | os.O_RDWR

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request: int, pid: int, address: int = 0, data: int | ctypes.Array[ctypes.c_char] = 0) -> None:
    if libc.ptrace(request, pid, address, data) < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def changed(thread: int) -> Iterator[str]:
    """Return the paths of the files that the system call which a thread begins changes."""
    info = ctypes.create_string_buffer(88)
    ptrace(GET_SYSCALL_INFO, thread, len(info), info)
    kind, number, *arguments = struct.unpack("=B23xQ6Q", info.raw[:80])
    if kind != ENTRY or (number == OPENAT and not arguments[2] & WRITES):
        return
    for folder, path in CHANGES.get(number, ()):
        with open(f"/proc/{thread}/mem", "rb", buffering=0) as memory:
            memory.seek(arguments[path])
            text = os.fsdecode(memory.read(4096).partition(b"\0")[0])
        at = "cwd" if folder is None or arguments[folder] & 0x80000000 else f"fd/{arguments[folder]}"
        yield os.path.join(os.readlink(f"/proc/{thread}/{at}"), text)


def run(words: list[str], within: str, at: int, both: bool) -> tuple[int, int]:
    """Run a program; return its exit code, and the number of changes that uv makes in a folder."""
    program = os.fork()
    if not program:
        ptrace(TRACEME, 0)
        os.kill(os.getpid(), signal.SIGSTOP)
        os.execv(words[0], words)
    os.waitpid(program, 0)
    ptrace(SETOPTIONS, program, 0, OPTIONS)
    ptrace(CONT, program)
    known, uvs, count, code = {program}, set[int](), 0, 0
    while True:
        try:
            thread, status = os.waitpid(-1, ALL)
        except ChildProcessError:
            return code, count
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status) if thread == program else code
            continue
        number, event = status >> 8 & 0xFF, status >> 16
        try:
            process = int(Path(f"/proc/{thread}/status").read_text().split("Tgid:")[1].split()[0])
            if event == EXEC and Path(os.readlink(f"/proc/{process}/exe")).name == "uv":
                uvs.add(process)
            if number == signal.SIGTRAP | 0x80 and any(path.startswith(within) for path in changed(thread)):
                count += 1
                if count == at:
                    for pid in [*([program] if both else []), process]:
                        os.kill(pid, signal.SIGKILL)
            deliver = 0 if event or number in (signal.SIGTRAP, signal.SIGTRAP | 0x80) else number
            if thread not in known:  # a new thread or process stops first
                known.add(thread)
                deliver = 0 if deliver == signal.SIGSTOP else deliver
            ptrace(SYSCALL if process in uvs else CONT, thread, 0, deliver)
        except (OSError, IndexError):  # it was killed meanwhile
            continue


if __name__ == "__main__":
    folder, moment, whom, *command = sys.argv[1:]
    exit_code, changes = run(command, folder, int(moment), whom == "both")
    sys.stdout.write(f"{changes}\n")
    sys.exit(exit_code if exit_code >= 0 else 128 - exit_code)
