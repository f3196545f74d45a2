"""The system calls that a program in a sandbox is refused, as the kernel's filter wants them.

This stands beside the namespaces: what they hide, a flaw in the kernel may show, and most flaws are
reached through calls that no solution of a problem makes. seccomp(2) and bpf(4) of Linux.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

_ALLOW, _REFUSE, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS = 1, 38
_CLONE_THREAD, _AF_UNIX, _SOCK_DGRAM, _PR_SET_PDEATHSIG = 0x10000, 1, 2, 1
_F_SETOWN, _F_SETSIG, _F_SETOWN_EX = 8, 10, 15
_FIOSETOWN, _SIOCSPGRP = 0x8901, 0x8902
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _GIVE = 0x20, 0x15, 0x35, 0x45, 0x06

_MACHINES: Mapping[str, tuple[int, Mapping[str, int]]] = {
    # AUDIT_ARCH, and the numbers of the refused calls that differ between the two
    "x86_64": (
        0xC000003E,
        {
            "clone": 56, "socket": 41, "socketpair": 53, "prlimit64": 302, "fcntl": 72,
            "ioctl": 16, "fork": 57, "vfork": 58,
            "prctl": 157, "setsid": 112, "setpgid": 109, "kill": 62, "tkill": 200, "tgkill": 234,
            "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297,
            "ptrace": 101, "process_vm_readv": 310, "process_vm_writev": 311, "kcmp": 312,
            "unshare": 272, "setns": 308, "mount": 165, "umount2": 166, "pivot_root": 155,
            "chroot": 161, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240,
            "add_key": 248, "request_key": 249, "keyctl": 250, "bpf": 321,
            "perf_event_open": 298, "userfaultfd": 323, "memfd_create": 319,
        },
    ),
    "aarch64": (
        0xC00000B7,
        {
            "clone": 220, "socket": 198, "socketpair": 199, "prlimit64": 261, "fcntl": 25,
            "ioctl": 29,
            "prctl": 167, "setsid": 157, "setpgid": 154, "kill": 129, "tkill": 130, "tgkill": 131,
            "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
            "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272,
            "unshare": 97, "setns": 268, "mount": 40, "umount2": 39, "pivot_root": 41,
            "chroot": 51, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180,
            "add_key": 217, "request_key": 218, "keyctl": 219, "bpf": 280,
            "perf_event_open": 241, "userfaultfd": 282, "memfd_create": 279,
        },
    ),
}  # fmt: skip
_EVERYWHERE: Mapping[str, int] = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsmount": 432, "pidfd_getfd": 438, "mount_setattr": 442, "memfd_secret": 447,
}  # fmt: skip
_CLONE3 = 435
_DEPENDS = (
    # a call, the place of an argument, a test of it, and whether what meets it is let through
    ("clone", 0, _ANY_BIT, _CLONE_THREAD, True),
    ("prlimit64", 0, _EQUAL, 0, True),
    ("prctl", 0, _EQUAL, _PR_SET_PDEATHSIG, False),
    ("socketpair", 0, _EQUAL, _AF_UNIX, True),
    ("socketpair", 1, _ANY_BIT, _SOCK_DGRAM, False),  # it would send to any address
    # The owner of a file gets a signal when the file is ready.
    *(("fcntl", 1, _EQUAL, command, False) for command in (_F_SETOWN, _F_SETSIG, _F_SETOWN_EX)),
    *(("ioctl", 1, _EQUAL, request, False) for request in (_FIOSETOWN, _SIOCSPGRP)),
)


def seccomp_filter(machine: str) -> bytes:
    """The system calls that a program is refused, as a classic BPF program.

    A program starts no process (threads are fine), signals, limits and reads none, and stays in its
    process group. It opens no socket but pairs that are connected to each other, makes no
    namespace, mounts nothing, keeps no memory outside of its address space, and does not reach
    keys, bpf, io_uring, perf and userfaultfd. What is refused fails with EPERM.

    Raises:
        ValueError: the machine's call numbers are not known here.
    """
    if machine not in _MACHINES:
        raise ValueError(f"no system call filter for {machine!r}; there is one for {[*_MACHINES]}")
    architecture, numbers = _MACHINES[machine]
    number_at, architecture_at, arguments_at = 0, 4, 16
    program = [
        (_LOAD, 0, 0, architecture_at),
        (_EQUAL, 1, 0, architecture),
        (_GIVE, 0, 0, _KILL),
        (_LOAD, 0, 0, number_at),
        (_AT_LEAST, 0, 1, 0x40000000),  # the x32 calls of x86_64
        (_GIVE, 0, 0, _REFUSE | _EPERM),
        (_EQUAL, 0, 1, _CLONE3),  # its flags are out of a filter's reach: libc then uses clone
        (_GIVE, 0, 0, _REFUSE | _ENOSYS),
    ]
    for name, place, test, value, allowed in _DEPENDS:
        program += [
            (_EQUAL, 0, 4, numbers[name]),
            (_LOAD, 0, 0, arguments_at + 8 * place),
            (test, int(allowed), int(not allowed), value),
            (_GIVE, 0, 0, _REFUSE | _EPERM),
            (_LOAD, 0, 0, number_at),
        ]
    depends = {name for name, *_ in _DEPENDS}
    for name, number in {**numbers, **_EVERYWHERE}.items():
        if name not in depends:
            program += [(_EQUAL, 0, 1, number), (_GIVE, 0, 0, _REFUSE | _EPERM)]
    program += [(_GIVE, 0, 0, _ALLOW)]
    return b"".join(struct.pack("HBBI", *instruction) for instruction in program)
