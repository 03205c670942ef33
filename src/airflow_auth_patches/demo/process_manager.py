"""
Run one program, and stop it when the parent process ends in any way.

``managed.ManagedProcess`` starts this file as a separate program; it uses only the standard library. It is
the leader of a session that it shares with the program that it runs. Its standard input is a pipe that the
parent keeps open. When the parent closes the pipe or dies, even by ``SIGKILL``, the program gets the stop
signal, and after a grace period the whole process group is killed.

Arguments: the number of the stop signal, the grace period in seconds, the user to run as (or ``-``), the
command. The exit code is that of the program; 128 + n if signal n ended it, 127 if it could not be started.
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
    Run the program until it ends, or until the parent ends.

    :param arguments: see the docstring of the module.
    :return: the exit code; does not return if the parent ended.
    """
    stop, grace, user, *command = arguments
    # Install handlers, because the program would inherit SIG_IGN.
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
    # Not sys.exit, which would wait for the lock of the watching thread on standard input.
    code = main(sys.argv[1:])
    sys.stderr.flush()
    os._exit(code)
