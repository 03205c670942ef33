"""Find and apply the hunks of a patch: exactly, or not at all."""

from __future__ import annotations

import copy
import io
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import patch_ng

from airflow_auth_patches.util.errors import Problem

# The library tells of every fault through its logger; ours are told by Problem.
logging.getLogger("patch_ng").setLevel(logging.CRITICAL)

NOWHERE = "/dev/null"
NEW_FILE = b"new file mode 100644"
#: What to say about an added file in any other form than that of git, or without content.
NOT_ADDED = (
    f"An added file must not be empty, and must be in git's form: {NEW_FILE.decode()!r}, the source "
    f"{NOWHERE} and one hunk that only adds lines."
)
#: Lines of a git diff that a patch must not have, and what to say about each.
REFUSED = (
    (rb"deleted file mode ", "A patch must not remove a file."),
    (rb"(rename|copy) from ", "A patch must not rename or copy a file."),
    (rb"(old|new) mode \d", "A patch must not change the mode of a file."),
    (rb"new file mode (?!100644$)", f"An added file must have the mode {NEW_FILE.decode()[-6:]}."),
    (rb"GIT binary patch$|Binary files .* differ$", "A patch must not add or edit a binary file."),
    (rb"\\ No newline", "Each file of a patch must end with a newline."),
)


@dataclass(frozen=True)
class Hunk:
    """
    One hunk, as the patch library parsed it.

    :param line: the line of the patch file on which its ``@@`` stands, from 1.
    :param parsed: the library's own hunk.
    :param creates: whether the file does not exist before the hunk is applied.
    :param removes: whether the file does not exist after the hunk is applied.
    """

    line: int
    parsed: patch_ng.Hunk
    creates: bool = False
    removes: bool = False

    @property
    def start(self) -> int:
        """The line at which the hunk says its old text begins, from 1."""
        return int(self.parsed.startsrc)

    @property
    def old(self) -> list[bytes]:
        """The lines that must be there, with their line ends."""
        return [line[1:] for line in self.parsed.text if line[:1] in b" -"]

    @property
    def new(self) -> list[bytes]:
        """The lines that will be there."""
        return [line[1:] for line in self.parsed.text if line[:1] in b" +"]

    def reversed(self) -> Hunk:
        """Return the hunk that takes this one back."""
        turned = copy.deepcopy(self.parsed)
        turned.startsrc, turned.starttgt = turned.starttgt, turned.startsrc
        turned.linessrc, turned.linestgt = turned.linestgt, turned.linessrc
        swap = {b"+": b"-", b"-": b"+"}
        turned.text = [swap.get(line[:1], line[:1]) + line[1:] for line in turned.text]
        return Hunk(self.line, turned, creates=self.removes, removes=self.creates)


class HunkFault(Problem):
    """
    A hunk that does not parse, or has no one place.

    :param line: the line of the patch file, from 1.
    """

    def __init__(self, what: str, line: int) -> None:
        super().__init__(
            what, "Edit it in a tree: `airflow-auth-patches tree RELEASE`, then `refresh RELEASE`."
        )
        self.line = line


def parse(content: bytes) -> dict[str, list[Hunk]]:
    """
    Read the hunks of a patch.

    :param content: the bytes of the patch file.
    :return: ``{path of the edited or added file: its hunks in order}``. An added file has one hunk, which
        creates it.
    :raises HunkFault: when it does anything but edit and add text files, or the library cannot read it whole.
    """
    lines = content.splitlines(keepends=True)
    starts = [number for number, line in enumerate(lines, 1) if line.startswith(b"@@ ")]
    for number, line in enumerate(lines, 1):
        for pattern, what in REFUSED:
            if re.match(pattern, line.rstrip(b"\r\n")):
                raise HunkFault(what, number)
    new = [number for number, line in enumerate(lines, 1) if line.rstrip(b"\r\n") == NEW_FILE]
    for number in new:
        if lines[number + 1 : number + 2] != [f"--- {NOWHERE}\n".encode()]:  # an index line is between
            raise HunkFault(NOT_ADDED, number)
    parsed = patch_ng.fromstring(content)
    if not parsed or parsed.errors:
        raise HunkFault("It does not parse as a patch.", starts[0] if starts else 1)
    edits: dict[str, list[Hunk]] = {}
    remaining = iter(starts)
    for item in parsed.items:
        source, path = item.source.decode(), item.target.decode()  # the library takes a/ and b/ off
        if path == NOWHERE:
            raise HunkFault("A patch must not remove a file.", 1)
        if source not in (path, NOWHERE):
            raise HunkFault(f"It renames {source} to {path}.", 1)
        if path in edits:
            raise HunkFault(f"It edits {path} in two places of the patch.", 1)
        edits[path] = [Hunk(next(remaining, 1), hunk, source == NOWHERE) for hunk in item.hunks]
    added = [hunks for hunks in edits.values() if hunks[0].creates]
    if len(added) != len(new) or any(len(hunks) > 1 or hunks[0].old for hunks in added):
        raise HunkFault(NOT_ADDED, new[0] if new else added[0][0].line)
    if sum(map(len, edits.values())) != len(starts):
        raise HunkFault("Some of its hunks do not parse.", starts[0])
    for hunks in edits.values():
        for hunk in hunks:
            if len(hunk.old) != hunk.parsed.linessrc or len(hunk.new) != hunk.parsed.linestgt:
                raise HunkFault("The hunk does not have the number of lines that it says.", hunk.line)
    return edits


def _place(lines: Sequence[bytes], hunk: Hunk, shift: int) -> int:
    """Return the line, from 1, at which the hunk's old text stands; ``shift`` is that of the hunk before."""
    old = hunk.old

    # As for git, a hunk made at the first line, or with no context after it, stands at that end of any file.
    at_top = hunk.start <= 1
    at_end = not hunk.parsed.text[-1].startswith(b" ")

    def stands_at(line: int) -> bool:
        if (at_top and line != 1) or (at_end and line - 1 + len(old) != len(lines)):
            return False
        return line >= 1 and list(lines[line - 1 : line - 1 + len(old)]) == old

    if stands_at(hunk.start + shift):
        return hunk.start + shift
    places = [line for line in range(1, len(lines) - len(old) + 2) if stands_at(line)]
    if len(places) != 1:
        seen = "does not occur" if not places else f"occurs {len(places)} times"
        raise HunkFault(f"The old text of the hunk {seen} in the file.", hunk.line)
    return places[0]


def _lines(content: bytes) -> list[bytes]:
    """Return the lines of a file with their ends; a lone carriage return ends none."""
    lines = content.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def places(content: bytes, hunks: Sequence[Hunk]) -> list[int]:
    """
    Find where hunks stand in a file.

    A hunk sits at the line it says, moved as the hunk before it was; elsewhere only if its old text occurs
    exactly once. There is no fuzz.

    :param content: the file.
    :return: for each hunk the line of the file at which its old text begins, from 1.
    :raises HunkFault: when a hunk has no such place, or overlaps the one before.
    """
    lines = _lines(content)
    found, shift, end = [], 0, 0
    for hunk in hunks:
        line = _place(lines, hunk, shift)
        if line <= end:
            raise HunkFault("The hunk stands before the end of the one above it.", hunk.line)
        shift, end = line - hunk.start, line + len(hunk.old) - 1
        found.append(line)
    return found


def apply(content: bytes, hunks: Sequence[Hunk]) -> bytes:
    """
    Apply hunks to a file, where :func:`places` finds them.

    :param content: the file.
    :return: the file with the hunks applied.
    :raises HunkFault: when a hunk has no place.
    """
    placed = []
    for hunk, line in zip(hunks, places(content, hunks), strict=True):
        moved = copy.deepcopy(hunk.parsed)
        moved.startsrc = line
        placed.append(moved)
    return b"".join(patch_ng.PatchSet().patch_stream(io.BytesIO(content), placed))


def origins(content: bytes, hunks: Sequence[Hunk]) -> list[int]:
    """
    Tell where each line of the result of :func:`apply` is from.

    :param content: the file as it was.
    :return: for each line of the patched file, the line of ``content`` that it was, from 1, or minus the
        line of the patch file that adds it.
    :raises HunkFault: as :func:`apply` does.
    """
    lines = _lines(content)
    told: list[int] = []
    following = 1
    for hunk, start in zip(hunks, places(content, hunks), strict=True):
        told += range(following, start)
        following = start
        for number, line in enumerate(hunk.parsed.text, hunk.line + 1):
            if line[:1] == b"+":
                told.append(-number)
                continue
            if line[:1] == b" ":
                told.append(following)
            following += 1
    return [*told, *range(following, len(lines) + 1)]


def base(files: Mapping[str, bytes], path: str, hunks: Sequence[Hunk]) -> bytes:
    """
    Return the content that the hunks of one file apply to, which is empty for a file that they create.

    :param files: the files that exist, by path.
    :raises HunkFault: when a file to edit does not exist, or a file to create does.
    """
    if hunks[0].creates:
        if path in files:
            raise HunkFault(f"The file {path} exists already.", hunks[0].line)
        return b""
    if path not in files:
        raise HunkFault(f"There is no file {path}.", hunks[0].line)
    return files[path]


def apply_all(files: Mapping[str, bytes], edits: Mapping[str, Sequence[Hunk]]) -> dict[str, bytes]:
    """
    Apply a patch to the files that it edits, and create those that it adds.

    :param files: the files that exist, by path; at least those of the patch. A file that does not exist is
        not in the mapping.
    :return: the edited and created files only. A file that a reversed patch removes is not in it.
    :raises HunkFault: when a file to edit does not exist, a file to create does, or a hunk does not apply.
    """
    result = {}
    for path, hunks in edits.items():
        content = apply(base(files, path, hunks), hunks)
        if not hunks[0].removes:
            result[path] = content
    return result
