"""A tiny program that becomes another: gives up root, ties its life to its parent, then replaces itself.

Run by path with `python -I -S launch.py PARENT SIGNAL UID GID COMMAND…`; standard library only. Doing this in a program
of its own, and not in Popen's `preexec_fn`, keeps it safe in a process that has threads. UID and GID -1 keep the
caller's. The request to die with the parent comes after the change of user, which would erase it.

Exit codes of its own: 125 the parent was gone already, 127 the command cannot be started.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> int:
    """Returns only when the command did not start."""
    parent, death, uid, gid = (int(value) for value in arguments[:4])
    command = arguments[4:]
    if uid >= 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, death, 0, 0, 0) != 0:
        sys.stderr.write(f"The kernel refused to tie this process to its parent: {os.strerror(ctypes.get_errno())}.\n")
        return 127
    if os.getppid() != parent:  # It died between the fork and the request: nobody would ever end us.
        return 125
    try:
        os.execv(command[0], command)  # noqa: S606 - no shell on purpose
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be started: {error.strerror}.\n")
    return 127


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
