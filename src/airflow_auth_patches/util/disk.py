"""How much of the disk folders take, when other folders have links to the same files."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: What `st_blocks` counts in, whatever the blocks of the file system.
BLOCK = 512


@dataclass(frozen=True)
class Use:
    """
    What folders take on the disk, in bytes of whole blocks.

    :param own: what is free again once they are removed.
    :param shared: files that have a link outside of them too, such as in uv's cache; each file once.
    """

    own: int
    shared: int


def used(folders: Iterable[Path]) -> Use:
    """
    Measure folders together.

    A file with one link counts as the folders' own; so does one with more, once, where all its links are
    found in the folders. Where some are elsewhere the file stays when the folders go, so it counts as shared.
    Where uv clones files (Btrfs, XFS) or copies them there are no links, and all counts as own: then a clone
    counts for more than it takes.

    :param folders: those that are not there, or that go meanwhile, count for nothing.
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
