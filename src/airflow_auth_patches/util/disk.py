"""Measure the disk space that folders use, also when other folders have hard links to the same files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: The unit of `st_blocks` in bytes, on every file system.
BLOCK = 512


@dataclass(frozen=True)
class Use:
    """
    The disk usage of some folders, in bytes of whole blocks.

    :param own: the bytes that become free when the folders are removed.
    :param shared: the bytes of files that also have a hard link elsewhere, such as in uv's cache. Each file
        counts once.
    """

    own: int
    shared: int


def used(folders: Iterable[Path]) -> Use:
    """
    Return the disk usage of folders together.

    A file with one link counts as own. A file with several links counts once: as own if all its links are in
    the folders, and as shared otherwise, because it stays when the folders are removed. If uv clones files
    (Btrfs, XFS) or copies them, there are no hard links and every file counts as own. A cloned file then
    counts for more than it uses.

    :param folders: the folders. One that is missing, or is removed during the call, counts as empty.
    :return: the usage in bytes.
    """
    own = 0
    linked: dict[tuple[int, int], list[int]] = {}  # by inode: bytes, links, links found
    waiting = [str(folder) for folder in folders]
    while waiting:
        folder = waiting.pop()
        try:
            own += os.lstat(folder).st_blocks * BLOCK
            with os.scandir(folder) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                        continue
                    told = entry.stat(follow_symlinks=False)
                    size = told.st_blocks * BLOCK
                    if told.st_nlink == 1:
                        own += size
                    else:
                        linked.setdefault((told.st_dev, told.st_ino), [size, told.st_nlink, 0])[2] += 1
        except (FileNotFoundError, NotADirectoryError):
            continue
    own += sum(size for size, links, found in linked.values() if found >= links)
    return Use(own, sum(size for size, links, found in linked.values() if found < links))
