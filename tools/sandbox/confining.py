"""Take everything from this process but computing: limits by the kernel, then a list of the few system calls that remain.

Whatever is not on the list (open, socket, fork, exec, kill, ptrace, stat, memfd, io_uring ...) is refused with EPERM, which
Python raises as PermissionError. The filter is libseccomp's, through pyseccomp or the bindings of the distribution; it cannot
be taken off again, and there is no process below this one that could be without it.
"""

import ctypes
import importlib
import os
import resource
import signal
import sys
from typing import Any

ALLOWED = (
    "brk", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "exit", "exit_group", "futex", "getcpu", "getpid",
    "getppid", "getrandom", "getrusage", "gettid", "gettimeofday", "lseek", "madvise", "mmap",
    "mprotect", "mremap", "munmap", "nanosleep",
    "poll", "ppoll", "pselect6", "read", "restart_syscall", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sched_getaffinity",
    "sched_yield", "select", "sigaltstack", "time", "times", "write", "writev",
)  # fmt: skip
EPERM = 1
DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG
MODULES = ("pyseccomp", "seccomp")


def bindings() -> Any:
    """The bindings of libseccomp. ImportError or OSError where there are none."""
    for name in MODULES:
        try:
            return importlib.import_module(name)
        except (ImportError, OSError, RuntimeError):
            continue
    raise ImportError("neither pyseccomp (pip install 'locus-agent[code]') nor python3-seccomp can be loaded")


def missing() -> str:
    """Why no process can be confined here; empty where it can."""
    if sys.platform != "linux":
        return f"a process can be confined on Linux only, and this is {sys.platform}"
    try:
        bindings()
    except ImportError as error:
        return str(error)
    return ""


def confine(seconds: float, memory: int, keep: int) -> None:
    """Give up everything: files, network, other processes, more memory than so many bytes, more time. keep: the one open file.

    OSError where the kernel refuses a limit or the filter; then nothing of a planner's may be run.
    """
    ctypes.CDLL(None, use_errno=True).prctl(DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.closerange(3, keep)
    os.closerange(keep + 1, 4096)
    held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
    for what, limit in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, keep + 1),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_AS, held + memory),
        (resource.RLIMIT_CPU, int(seconds) + 5),
    ):
        resource.setrlimit(what, (limit, limit))
    seccomp = bindings()
    rules = seccomp.SyscallFilter(seccomp.ERRNO(EPERM))
    for name in ALLOWED:
        try:
            rules.add_rule(seccomp.ALLOW, name)
        except (OSError, RuntimeError, ValueError):
            continue  # no such call on this kind of processor
    rules.load()
