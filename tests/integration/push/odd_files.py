"""What makes a tree hard to copy, added to an environment on a host."""

from __future__ import annotations

import os
from pathlib import Path

MODES = (0o400, 0o444, 0o600, 0o644, 0o664, 0o666, 0o755, 0o775, 0o777, 0o4755, 0o2755)
NAMES = (
    b"with blank",
    b" leading and trailing ",
    b"new\nline",
    b"carriage\rreturn",
    b"-rf",
    b"--delete",
    b"#comment",
    b";comment",
    b":(colon",
    b"~tilde",
    b"*",
    b"\xff\xfe-not-utf-8",
    b"\xe9t\xe9",
    b"back\\slash",
    b"quote's",
    b"L" * 255,
    b"\xc3\xa9" * 127,
)
PATH_MAX = 4096


def add_odd_files(environment: Path, visible: str) -> None:
    """`visible` is the environment's own path on its host, for absolute links."""
    top = environment / "share/odd"
    top.mkdir(parents=True)
    for mode in MODES:
        _write(top / f"mode-{mode:o}", b"%o\n" % mode, mode)
    for number, name in enumerate(NAMES):
        (top / os.fsdecode(name)).write_bytes(b"%d\n" % number)
    for number, stamp in enumerate((1, 123_456_789, 1_600_000_000_123_456_789)):
        _write(top / f"stamp-{number}", b"stamp\n", 0o644)
        os.utime(top / f"stamp-{number}", ns=(stamp, stamp))
    _write(top / "empty", b"", 0o644)
    _directories(top)
    _links(top, visible)
    _groups(top)
    _near_the_longest_path(top, len(visible) - len(str(environment)))


def _directories(top: Path) -> None:
    for name in ("empty-directory", "closed", "sticky", "open"):
        (top / name).mkdir()
    _write(top / "closed/inside", b"in a directory without write permission\n", 0o644)
    (top / "closed").chmod(0o555)
    (top / "sticky").chmod(0o1775)
    (top / "open").chmod(0o777)
    os.utime(top / "empty-directory", ns=(5, 987_654_321))


def _links(top: Path, visible: str) -> None:
    (top / "link-relative").symlink_to("empty")
    (top / "link-absolute").symlink_to(f"{visible}/share/odd/empty")
    (top / "link-outside").symlink_to("/etc/hostname")
    (top / "link-dangling").symlink_to("/nonexistent/there")
    (top / "link-to-directory").symlink_to("open")
    (top / "link-to-directory-outside").symlink_to("/usr")
    (top / "link-to-itself").symlink_to("link-to-itself")
    os.utime(top / "link-dangling", ns=(7, 7_000_000_007), follow_symlinks=False)


def _groups(top: Path) -> None:
    """Three names in two directories, one of them read-only; a second group of equal bytes."""
    _write(top / "group-a", b"one file\n", 0o444)
    os.link(top / "group-a", top / "group-b")
    os.link(top / "group-a", top / "open/group-c")
    _write(top / "other-a", b"one file\n", 0o644)
    os.link(top / "other-a", top / "other-b")


def _near_the_longest_path(top: Path, shift: int) -> None:
    """As long as the source can name it: 1 byte below the kernel's limit.

    `shift` is how much longer the path is on the host than as the test process sees it.
    """
    left = PATH_MAX - 1 - len(os.fsencode(top)) - shift - 1
    fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    while left > 255:
        name = "p" * min(200, left - 100)
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd, left = below, left - len(name) - 1
    leaf = os.open("f" * left, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=fd)
    os.write(leaf, b"as deep as it goes\n")
    os.close(leaf)
    os.close(fd)


def _write(path: Path, content: bytes, mode: int) -> None:
    path.write_bytes(content)
    path.chmod(mode)
