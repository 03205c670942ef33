"""Find and apply the hunks of a patch, without fuzz."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import patch_ng

from airflow_auth_patches.util.errors import Problem

# The library logs every fault. This module raises a Problem instead.
logging.getLogger("patch_ng").setLevel(logging.CRITICAL)

NOWHERE = "/dev/null"
NEW_FILE = b"new file mode 100644"
#: The message for an added file that is empty or not in git's format.
NOT_ADDED = (
    f"An added file must not be empty, and must be in git's format: {NEW_FILE.decode()!r}, the source "
    f"{NOWHERE} and one hunk that only adds lines."
)
#: Lines of a git diff that a patch must not have, each with its error message.
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

    :param line: the line of its ``@@`` in the patch file, from 1.
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
        """The line at which the old text begins, according to the hunk, from 1."""
        return int(self.parsed.startsrc)

    @property
    def old(self) -> list[bytes]:
        """The lines of the old text, with their line endings."""
        return [line[1:] for line in self.parsed.text if line[:1] in b" -"]

    @property
    def new(self) -> list[bytes]:
        """The lines of the new text, with their line endings."""
        return [line[1:] for line in self.parsed.text if line[:1] in b" +"]

    def reversed(self) -> Hunk:
        """Return the hunk that reverses this one."""
        turned = copy.deepcopy(self.parsed)
        turned.startsrc, turned.starttgt = turned.starttgt, turned.startsrc
        turned.linessrc, turned.linestgt = turned.linestgt, turned.linessrc
        swap = {b"+": b"-", b"-": b"+"}
        turned.text = [swap.get(line[:1], line[:1]) + line[1:] for line in turned.text]
        return Hunk(self.line, turned, creates=self.removes, removes=self.creates)


class HunkFault(Problem):
    """
    A hunk that does not parse, or does not apply at exactly one place.

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
    :raises HunkFault: if the patch does more than edit and add text files, or cannot be parsed completely.
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
        source, path = item.source.decode(), item.target.decode()  # the library removes a/ and b/
        if path == NOWHERE:
            raise HunkFault("A patch must not remove a file.", 1)
        if source not in (path, NOWHERE):
            raise HunkFault(f"It renames {source} to {path}.", 1)
        if path in edits:
            raise HunkFault(f"It has two diffs of {path}.", 1)
        edits[path] = [Hunk(next(remaining, 1), hunk, source == NOWHERE) for hunk in item.hunks]
    added = [hunks for hunks in edits.values() if hunks[0].creates]
    if len(added) != len(new) or any(len(hunks) > 1 or hunks[0].old for hunks in added):
        raise HunkFault(NOT_ADDED, new[0] if new else added[0][0].line)
    if sum(map(len, edits.values())) != len(starts):
        raise HunkFault("Some of its hunks do not parse.", starts[0])
    for hunks in edits.values():
        for hunk in hunks:
            if len(hunk.old) != hunk.parsed.linessrc or len(hunk.new) != hunk.parsed.linestgt:
                raise HunkFault("The hunk does not have the number of lines that its header says.", hunk.line)
    return edits


def _place(lines: Sequence[bytes], hunk: Hunk, shift: int) -> int:
    """Return the line, from 1, at which the hunk's old text is; ``shift`` is the shift of the hunk before."""
    old = hunk.old

    # As in git, a hunk at line 1 applies only at the top, and one without trailing context only at the end.
    at_top = hunk.start <= 1
    at_end = not hunk.parsed.text[-1].startswith(b" ")

    def matches_at(line: int) -> bool:
        if (at_top and line != 1) or (at_end and line - 1 + len(old) != len(lines)):
            return False
        return line >= 1 and list(lines[line - 1 : line - 1 + len(old)]) == old

    if matches_at(hunk.start + shift):
        return hunk.start + shift
    places = [line for line in range(1, len(lines) - len(old) + 2) if matches_at(line)]
    if len(places) != 1:
        seen = "does not occur" if not places else f"occurs {len(places)} times"
        raise HunkFault(f"The old text of the hunk {seen} in the file.", hunk.line)
    return places[0]


def _lines(content: bytes) -> list[bytes]:
    """Return the lines of a file with their line endings; a single carriage return does not end a line."""
    lines = content.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def places(content: bytes, hunks: Sequence[Hunk]) -> list[int]:
    """
    Return the lines at which hunks apply to a file.

    A hunk applies at the line in its header, shifted by the offset of the hunk before it, or at another line
    if its old text occurs exactly once in the file. There is no fuzz.

    :return: for each hunk the line of the file at which its old text begins, from 1.
    :raises HunkFault: if a hunk does not apply, or overlaps the one before.
    """
    lines = _lines(content)
    found, shift, end = [], 0, 0
    for hunk in hunks:
        line = _place(lines, hunk, shift)
        if line <= end:
            raise HunkFault("The hunk overlaps the one before it.", hunk.line)
        shift, end = line - hunk.start, line + len(hunk.old) - 1
        found.append(line)
    return found


def apply(content: bytes, hunks: Sequence[Hunk]) -> bytes:
    """
    Apply hunks to a file, at the lines that :func:`places` returns.

    :raises HunkFault: if a hunk does not apply.
    """
    lines = _lines(content)
    for hunk, line in reversed([*zip(hunks, places(content, hunks), strict=True)]):
        lines[line - 1 : line - 1 + len(hunk.old)] = hunk.new
    return b"".join(lines)


def base(files: Mapping[str, bytes], path: str, hunks: Sequence[Hunk]) -> bytes:
    """
    Return the content to which the hunks of one file apply. It is empty for a file that they create.

    :param files: the files that exist, by path.
    :raises HunkFault: if a file to edit does not exist, or a file to create exists.
    """
    if hunks[0].creates:
        if path in files:
            raise HunkFault(f"The file {path} already exists.", hunks[0].line)
        return b""
    if path not in files:
        raise HunkFault(f"There is no file {path}.", hunks[0].line)
    return files[path]


def apply_all(files: Mapping[str, bytes], edits: Mapping[str, Sequence[Hunk]]) -> dict[str, bytes]:
    """
    Apply a patch to the files that it edits, and create those that it adds.

    :param files: ``{path: content}`` of the files that exist, at least those that the patch edits.
    :return: ``{path: content}`` of the edited and created files, without the files that a reversed patch
        removes.
    :raises HunkFault: if a file to edit does not exist, a file to create exists, or a hunk does not apply.
    """
    result = {}
    for path, hunks in edits.items():
        content = apply(base(files, path, hunks), hunks)
        if not hunks[0].removes:
            result[path] = content
    return result


def reversed_edits(edits: Mapping[str, Sequence[Hunk]]) -> dict[str, list[Hunk]]:
    """Return the edits that reverse those of a patch."""
    return {path: [hunk.reversed() for hunk in hunks] for path, hunks in edits.items()}
