"""Namespaces of a sandbox's own, made with system calls alone. Linux 5.12 or later.

The order matters: `separate` gives the calling process a user namespace, and the processes that it
starts from then on a process namespace, in which the first one calls `enter`. That one sees nothing
but a few read-only folders and a private /tmp, has no network, and is nobody.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path

_NEW_MOUNTS, _NEW_UTS, _NEW_IPC = 0x20000, 0x4000000, 0x8000000
_NEW_USER, _NEW_PIDS, _NEW_NETWORK = 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x2, 0x4, 0x1000, 0x4000, 0x40000
_MNT_DETACH = 2
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID = 0x1, 0x2
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_MOUNT_SETATTR = 442
_NOBODY = 65534
_OUTSIDE = "/.outside"


def _checked(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _unshare(flags: int) -> None:
    _checked(_libc().unshare(flags), "unshare")


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    result = _libc().mount(*texts, ctypes.c_ulong(flags), os.fsencode(data) or None)
    _checked(result, f"mount {target}")


def separate() -> None:
    """Enter a new user namespace; the next child is the first process of a new process namespace.

    Root becomes root and nobody there (`enter` drops to nobody, for whom the limit on processes
    holds), anyone else nobody.

    Raises:
        OSError: the kernel, or its configuration, does not allow it.
    """
    root = os.geteuid() == 0
    own = {"uid_map": os.geteuid(), "gid_map": os.getegid()}
    maps = {
        name: f"0 0 1\n{_NOBODY} {_NOBODY} 1" if root else f"{_NOBODY} {number} 1"
        for name, number in own.items()
    }
    target = Path("/proc", str(os.getpid()))

    def write_maps() -> None:
        if not root:
            (target / "setgroups").write_text("deny")
        for name, text in maps.items():
            (target / name).write_text(text)

    helper = _Helper(write_maps)  # only a process outside may map root and nobody
    _unshare(_NEW_USER | _NEW_PIDS)
    helper.go()


class _Helper:
    """A child that does one thing once it is told to, and nothing if it never is."""

    def __init__(self, work: Callable[[], None]) -> None:
        told, self._tell = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._tell)
            status = 1
            try:
                if os.read(told, 1):
                    work()
                    status = 0
            finally:
                os._exit(status)
        os.close(told)

    def go(self) -> None:
        os.write(self._tell, b"!")
        if os.waitpid(self._pid, 0)[1] != 0:
            raise OSError("the ids of the user namespace could not be mapped")


def enter(shown: Sequence[str], tmp_mb: int) -> None:
    """Leave the machine behind: new mounts, network, IPC and host name; no privileges.

    Args:
        shown: absolute paths of folders and files to be seen, read-only; absent ones are left out.
        tmp_mb: size of the private /tmp, which is also the current folder then.

    Raises:
        OSError: a call is refused; the message names it.
    """
    _unshare(_NEW_MOUNTS | _NEW_NETWORK | _NEW_IPC | _NEW_UTS)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    _mount("tmpfs", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=755,size=1m")
    os.mkdir(f"/tmp{_OUTSIDE}")
    call = _PIVOT_ROOT[os.uname().machine]
    _checked(_libc().syscall(call, b"/tmp", os.fsencode(f"/tmp{_OUTSIDE}")), "pivot_root")
    os.chdir("/")
    for path in shown:
        _show(path)
    os.makedirs("/tmp", exist_ok=True)
    _checked(_libc().umount2(os.fsencode(_OUTSIDE), _MNT_DETACH), "umount")
    os.rmdir(_OUTSIDE)
    _make_read_only()
    options = f"mode=1777,size={tmp_mb}m,nr_inodes=4096"
    _mount("tmpfs", "/tmp", "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    os.chdir("/tmp")
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    # What privileges are left in the namespace end with the next exec.


def _show(path: str) -> None:
    source = _OUTSIDE + path
    if os.path.islink(source):  # /bin -> usr/bin
        os.symlink(os.readlink(source), path)
        return
    if os.path.isdir(source):
        os.makedirs(path, exist_ok=True)
    elif os.path.exists(source):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    else:
        return
    _mount(source, path, None, _MS_BIND | _MS_REC)


def _make_read_only() -> None:
    """Everything that is mounted now. (mount_setattr adds flags; a remount must repeat them.)"""
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID, 0, 0, 0)
    result = _libc().syscall(
        _MOUNT_SETATTR, _AT_FDCWD, b"/", _AT_RECURSIVE, attributes, ctypes.c_size_t(32)
    )
    _checked(result, "mount_setattr")
