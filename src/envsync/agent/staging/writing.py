"""Writes entries into a tree that nobody else uses yet.

Every file is created anew: nothing that exists is ever opened for writing, so no byte that a
process has open or mapped changes, and no inode is shared.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from typing import Optional, Set

from envsync.agent.server.filesystem import clone
from envsync.agent.server.reading import READ_FLAGS
from envsync.agent.trees.directory_read import ParentDirectory
from envsync.agent.trees.file_hash import READ_BYTES, SMALL_FILE_BYTES, hash_open_file
from envsync.agent.trees.removal import remove_tree
from envsync.agent.trees.written_digests import WrittenDigests
from envsync.agent.wire.frames import write_all
from envsync.tree.entry import MODE_MASK, Entry, split

_PERMISSIONS = MODE_MASK & 0o777
_HOLE_BYTES_MIN = 64 << 10
_ZEROS = bytes(1 << 20)
_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class TreeWriter:
    """Writes below one open directory. `written` has the digests of what was written."""

    def __init__(self, top_fd: int) -> None:
        self.top_fd = top_fd
        self.written = WrittenDigests()
        self._parent = ParentDirectory(top_fd)
        self._buffer = bytearray(READ_BYTES)
        # False once cloning was refused, as it then usually is for every file.
        self._can_clone = True
        # Modes of which new files lacked something, as the umask took it away.
        self._cut_modes: Set[int] = set()

    def close(self) -> None:
        self._parent.close()

    def begin_file(self, path: bytes, entry: Entry) -> int:
        """Return a descriptor of a new, empty file at `path`, replacing any file there.

        It has the entry's permissions at once, as far as the umask allows, but is always readable
        and writable by its owner, as some network filesystems refuse writes to read-only files.
        """
        directory, name = split(path)
        parent_fd = self._parent.opened(directory)
        mode = entry.mode & _PERMISSIONS | 0o600
        try:
            return os.open(name, _NEW_FILE, mode, dir_fd=parent_fd)
        except FileExistsError:
            os.unlink(name, dir_fd=parent_fd)
            return os.open(name, _NEW_FILE, mode, dir_fd=parent_fd)

    def end_file(self, fd: int, path: bytes, entry: Entry, digest: bytes) -> bool:
        """Set mode and mtime, and close; if `digest` is not the entry's, remove it, return False.

        An entry of an outline has no digest yet, and accepts any.
        """
        try:
            if entry.content and digest != entry.content:
                self.remove_file(path)
                return False
            mode = entry.mode & MODE_MASK
            if mode in self._cut_modes:
                os.fchmod(fd, mode)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            s = os.fstat(fd)
            if stat.S_IMODE(s.st_mode) != mode:
                self._cut_modes.add(mode)
                os.fchmod(fd, mode)
                s = os.fstat(fd)
        finally:
            os.close(fd)
        self.written.add(path, s, digest)
        return True

    def copy_file(self, source_fd: int, source: bytes, path: bytes, entry: Entry) -> bool:
        """Copy the file at `source`, hashing it; False if it is unreadable or not the entry's."""
        try:
            old = os.open(source, READ_FLAGS, dir_fd=source_fd)
        except OSError:
            return False
        try:
            status = os.fstat(old)
            if not stat.S_ISREG(status.st_mode) or status.st_size != entry.size_bytes:
                return False
            content: Optional[bytes] = None
            if entry.size_bytes <= SMALL_FILE_BYTES:
                content = _content(old, entry)
                if content is None:
                    return False
            return self._finish_copy(old, content, path, entry)
        finally:
            os.close(old)

    def _finish_copy(self, old: int, content: Optional[bytes], path: bytes, entry: Entry) -> bool:
        """Write the entry's `content` or, if that is None, copy all of the file `old`."""
        new = self.begin_file(path, entry)
        try:
            if content is None:
                digest = self._copy(old, new)
            else:
                write_all(new, content)
                digest = entry.content
        except BaseException:
            os.close(new)
            self.remove_file(path)
            raise
        return self.end_file(new, path, entry, digest)

    def _copy(self, old: int, new: int) -> bytes:
        """Copy all bytes and return their digest, or b"" if the file cannot be read."""
        if self._can_clone and clone(old, new):
            try:
                return hash_open_file(new)
            except OSError:
                return b""  # unreadable here, so the source sends it
        self._can_clone = False
        os.ftruncate(new, 0)  # a refused clone may have left something where a hole will be
        state = hashlib.sha256()
        view = memoryview(self._buffer)
        while True:
            try:
                count = os.readv(old, [self._buffer])
            except OSError:
                return b""  # unreadable here, so the source sends it
            if not count:
                os.ftruncate(new, os.lseek(new, 0, os.SEEK_CUR))
                return state.digest()
            state.update(view[:count])
            write_or_skip(new, view[:count])

    def make_directory(self, path: bytes) -> None:
        """Make a directory unless there is one; replace other entries, such as an unlisted pipe."""
        directory, name = split(path)
        parent_fd = self._parent.opened(directory)
        try:
            os.mkdir(name, 0o700, dir_fd=parent_fd)
        except FileExistsError:
            if not stat.S_ISDIR(os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_mode):
                os.unlink(name, dir_fd=parent_fd)
                os.mkdir(name, 0o700, dir_fd=parent_fd)

    def make_symlink(self, path: bytes, entry: Entry) -> None:
        directory, name = split(path)
        parent_fd = self._parent.opened(directory)
        try:
            os.symlink(entry.content, name, dir_fd=parent_fd)
        except FileExistsError:
            os.unlink(name, dir_fd=parent_fd)
            os.symlink(entry.content, name, dir_fd=parent_fd)
        self.stamp(path, entry)

    def make_link(self, path: bytes, leader: bytes) -> None:
        """Make a hard link to the file `leader` of this tree; none if it did not arrive."""
        directory, name = split(path)
        top_fd, parent_fd = self.top_fd, self._parent.opened(directory)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=parent_fd)
        with contextlib.suppress(FileNotFoundError):
            os.link(leader, name, src_dir_fd=top_fd, dst_dir_fd=parent_fd, follow_symlinks=False)

    def stamp(self, path: bytes, entry: Entry) -> None:
        """Set an entry's mode and mtime, unless it has them already."""
        directory, name = split(path)
        parent_fd = self._parent.opened(directory)
        status = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        mode = entry.mode & MODE_MASK
        has_mode = stat.S_ISLNK(status.st_mode) or stat.S_IMODE(status.st_mode) == mode
        if has_mode and status.st_mtime_ns == entry.mtime_ns:
            return
        if not has_mode:
            os.chmod(name, mode, dir_fd=parent_fd)
        times = (entry.mtime_ns, entry.mtime_ns)
        with contextlib.suppress(NotImplementedError):
            os.utime(name, ns=times, dir_fd=parent_fd, follow_symlinks=False)

    def status(self, path: bytes) -> Optional[os.stat_result]:
        """Return an entry's status, not following symlinks; None if nothing is there."""
        directory, name = split(path)
        try:
            return os.stat(name, dir_fd=self._parent.opened(directory), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def unlock_directory(self, path: bytes) -> None:
        """Make a directory writable while building; OSError if another user owns it."""
        os.chmod(path or b".", 0o700, dir_fd=self.top_fd)

    def remove_file(self, path: bytes) -> None:
        """Remove anything but a directory; it may be absent."""
        self.written.drop(path)
        directory, name = split(path)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._parent.opened(directory))

    def remove_directory(self, path: bytes) -> None:
        """Remove a directory with what is left in it; it may be absent."""
        directory, name = split(path)
        with contextlib.suppress(FileNotFoundError):
            parent_fd = self._parent.opened(directory)
            try:
                os.rmdir(name, dir_fd=parent_fd)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # Entries that are in no manifest: pipes, sockets, leftovers of NFS.
                remove_tree(name, parent_fd)


def _content(fd: int, entry: Entry) -> Optional[bytes]:
    """Return the content of a small file; None if it is unreadable or not the entry's."""
    try:
        content = os.read(fd, entry.size_bytes + 1)
    except OSError:
        return None
    return content if hashlib.sha256(content).digest() == entry.content else None


def write_or_skip(fd: int, data: memoryview) -> None:
    """Write every byte of a large new file's next part, or leave a hole if all are zeros.

    So the large holes of a sparse file stay holes. Set the file's size at its end: it may be one.
    """
    if len(data) >= _HOLE_BYTES_MIN and _is_zeros(data):
        os.lseek(fd, len(data), os.SEEK_CUR)
    else:
        write_all(fd, data)


def _is_zeros(data: memoryview) -> bool:
    # Nearly all others are told by their ends. Comparing views takes a hundred times as long.
    return not data[0] and not data[-1] and bytes(data) == _ZEROS[: len(data)]
