"""The filter of system calls, decided here as the kernel decides (bpf(4)), for both machines."""

from __future__ import annotations

import struct

import pytest

from rlstep.scoring.programs.sandbox_filter import seccomp_filter

X86, ARM = ("x86_64", 0xC000003E), ("aarch64", 0xC00000B7)
ALLOWED, EPERM, ENOSYS, KILLED = 0x7FFF0000, 0x00050001, 0x00050026, 0x80000000


def verdict(machine: tuple[str, int], number: int, first: int = 0, second: int = 0) -> int:
    """Run the program over struct seccomp_data {nr, arch, instruction pointer, args[6]}."""
    name, architecture = machine
    data = struct.pack("IIQ6Q", number, architecture, 0, first, second, *[0] * 4)
    at, accumulator, code = 0, 0, seccomp_filter(name)
    while True:
        operation, yes, no, value = struct.unpack_from("HBBI", code, 8 * at)
        at += 1
        if operation == 0x06:  # return
            return value
        if operation == 0x20:  # load a word
            (accumulator,) = struct.unpack_from("I", data, value)
            continue
        tests = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: accumulator & value}
        at += yes if tests[operation] else no


@pytest.mark.parametrize(
    ("machine", "number", "first", "wanted"),
    [
        (X86, 0, 0, ALLOWED),  # read
        (X86, 9, 0, ALLOWED),  # mmap
        (X86, 59, 0, ALLOWED),  # execve
        (X86, 57, 0, EPERM),  # fork
        (X86, 58, 0, EPERM),  # vfork
        (X86, 56, 0x11, EPERM),  # clone as fork does it: SIGCHLD
        (X86, 56, 0x10000000 | 0x11, EPERM),  # with CLONE_NEWUSER
        (X86, 56, 0x3D0F00, ALLOWED),  # as pthread_create does it
        (X86, 435, 0, ENOSYS),  # clone3
        (X86, 41, 1, EPERM),  # socket(AF_UNIX)
        (X86, 41, 2, EPERM),  # socket(AF_INET)
        (X86, 41, 16, EPERM),  # socket(AF_NETLINK)
        (X86, 53, 1, ALLOWED),  # socketpair(AF_UNIX)
        (X86, 53, 30, EPERM),  # socketpair(AF_TIPC)
        (X86, 62, 1, EPERM),  # kill
        (X86, 302, 0, ALLOWED),  # prlimit64 of itself, which setrlimit is
        (X86, 302, 7, EPERM),
        (X86, 157, 38, ALLOWED),  # prctl(PR_SET_NO_NEW_PRIVS)
        (X86, 157, 1, EPERM),  # prctl(PR_SET_PDEATHSIG)
        (X86, 112, 0, EPERM),  # setsid
        (X86, 101, 0, EPERM),  # ptrace
        (X86, 321, 0, EPERM),  # bpf
        (X86, 0x40000000 | 57, 0, EPERM),  # fork by x32's number
        (ARM, 63, 0, ALLOWED),  # read
        (ARM, 220, 0x11, EPERM),  # clone as fork does it
        (ARM, 220, 0x3D0F00, ALLOWED),
        (ARM, 435, 0, ENOSYS),
        (ARM, 198, 2, EPERM),
        (ARM, 198, 1, EPERM),
        (ARM, 129, 1, EPERM),
        (ARM, 157, 0, EPERM),
        (ARM, 57, 0, ALLOWED),  # close, which is fork's number elsewhere
        (ARM, 117, 0, EPERM),
        (("x86_64", 0x40000003), 2, 0, KILLED),  # fork by the number of 32-bit programs
    ],
)
def test_what_is_let_through(machine: tuple[str, int], number: int, first: int, wanted: int):
    assert verdict(machine, number, first) == wanted


@pytest.mark.parametrize(
    ("call", "second", "wanted"),
    [
        ("fcntl", 0, ALLOWED),  # F_DUPFD
        ("fcntl", 4, ALLOWED),  # F_SETFL
        ("fcntl", 8, EPERM),  # F_SETOWN
        ("fcntl", 10, EPERM),  # F_SETSIG
        ("fcntl", 15, EPERM),  # F_SETOWN_EX
        ("fcntl", 1 << 32 | 8, EPERM),  # the kernel looks at 32 bits
        ("fcntl", 1030, ALLOWED),  # F_DUPFD_CLOEXEC
        ("ioctl", 0x5401, ALLOWED),  # TCGETS
        ("ioctl", 0x8901, EPERM),  # FIOSETOWN
        ("ioctl", 0x8902, EPERM),  # SIOCSPGRP
        ("socketpair", 1 | 0x80000, ALLOWED),  # SOCK_STREAM | SOCK_CLOEXEC
        ("socketpair", 2 | 0x80000, EPERM),  # SOCK_DGRAM, which sends to any address
        ("socketpair", 3, EPERM),  # SOCK_RAW, the same
    ],
)
def test_what_depends_on_the_second_argument(call: str, second: int, wanted: int):
    x86 = {"fcntl": 72, "ioctl": 16, "socketpair": 53}
    arm = {"fcntl": 25, "ioctl": 29, "socketpair": 199}
    assert verdict(X86, x86[call], 1, second) == wanted
    assert verdict(ARM, arm[call], 1, second) == wanted


def test_every_path_ends():
    for machine in (X86, ARM):
        for number in range(600):
            assert verdict(machine, number) in (ALLOWED, EPERM, ENOSYS)


def test_another_machine_is_refused():
    with pytest.raises(ValueError, match="no system call filter for 'sparc'; there is one for"):
        seccomp_filter("sparc")
