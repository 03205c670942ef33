"""
Runs one program and sees to its end, whatever becomes of whoever asked for it.

This file is a program of its own (standard library only, started by ``managed.ManagedProcess``), the leader
of a session that it shares with the program it runs. Its standard input is a pipe that its parent holds open:
when the parent closes it, or dies in any way, ``SIGKILL`` included, the program is told to stop, and after a
grace period the whole process group is killed.

Arguments: the number of the stop signal, the grace in seconds, the user to run as (or ``-``), the command.
The exit code is the program's, 128 + n where signal n ended it; 127 when it could not be started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading


def main(arguments: list[str]) -> int:
    """
    Run the program to its end, or to the parent's.

    :param arguments: as the module describes them.
    :return: the exit code; never returns once the parent is gone.
    """
    stop, grace, user, *command = arguments
    # Handlers rather than SIG_IGN, which the program would inherit.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, lambda *_: None)
    try:
        if user == "-":
            program = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        else:
            program = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, user=user, group=_group(user), extra_groups=[]
            )
    except OSError as error:
        sys.stderr.write(f"{command[0]}: {error.strerror}\n")
        return 127
    orphaned = threading.Event()

    def watch() -> None:
        while os.read(0, 1024):
            pass
        orphaned.set()
        os.killpg(0, int(stop))
        with contextlib.suppress(subprocess.TimeoutExpired):
            program.wait(float(grace))
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    code = program.wait()
    if orphaned.is_set():
        os.killpg(0, signal.SIGKILL)
    return code if code >= 0 else 128 - code


def _group(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


if __name__ == "__main__":
    # Not sys.exit: it would wait for the watching thread's lock on standard input.
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
