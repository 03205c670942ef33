"""Hunks sit exactly, or not at all, and give the bytes that git gives."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_auth_patches import hunks

FILE = b"".join(b"line %d\n" % number for number in range(1, 31))


def git_diff(old: bytes, new: bytes) -> bytes:
    """Return git's patch from one content of ``f.py`` to another."""
    with tempfile.TemporaryDirectory() as folder:
        for side, content in (("a", old), ("b", new)):
            (Path(folder) / side).mkdir()
            (Path(folder) / side / "f.py").write_bytes(content)
        done = subprocess.run(
            ["git", "diff", "--no-index", "--full-index", "--no-color", "a/f.py", "b/f.py"],
            cwd=folder,
            capture_output=True,
            check=False,
        )
    return done.stdout.replace(b"a/a/", b"a/").replace(b"b/b/", b"b/")


def git_apply(content: bytes, patch: bytes) -> bytes | None:
    """Return what ``git apply`` makes of a file, or ``None`` where it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "f.py").write_bytes(content)
        done = subprocess.run(
            ["git", "apply", "-"], cwd=folder, input=patch, capture_output=True, check=False
        )
        return None if done.returncode else (Path(folder) / "f.py").read_bytes()


def apply(content: bytes, patch: bytes) -> bytes:
    return hunks.apply(content, hunks.parse(patch)["f.py"])


def test_applies_at_the_line_it_says():
    patch = git_diff(FILE, FILE.replace(b"line 9\n", b"nine\n"))
    assert apply(FILE, patch) == FILE.replace(b"line 9\n", b"nine\n")


def test_applies_elsewhere_when_its_text_occurs_once():
    patch = git_diff(FILE, FILE.replace(b"line 9\n", b"nine\n"))
    moved = b"new\n" * 40 + FILE
    assert apply(moved, patch) == moved.replace(b"line 9\n", b"nine\n")


def test_refuses_when_its_text_occurs_twice_and_not_where_it_says():
    patch = git_diff(FILE, FILE.replace(b"line 9\n", b"nine\n"))
    with pytest.raises(hunks.HunkFault, match="occurs 2 times"):
        apply(b"new\n" + FILE + FILE, patch)


def test_refuses_one_changed_context_line():
    patch = git_diff(FILE, FILE.replace(b"line 9\n", b"nine\n"))
    with pytest.raises(hunks.HunkFault, match="does not occur") as raised:
        apply(FILE.replace(b"line 8\n", b"line 8 \n"), patch)
    assert patch.splitlines()[raised.value.line - 1].startswith(b"@@ ")


def test_later_hunks_follow_the_shift_of_the_first():
    new = FILE.replace(b"line 6\n", b"six\n").replace(b"line 25\n", b"twenty-five\nand more\n")
    patch = git_diff(FILE, new)
    assert apply(b"new\n" * 3 + FILE, patch) == b"new\n" * 3 + new


def test_a_hunk_of_the_first_line_stays_at_the_top():
    patch = git_diff(FILE, FILE.replace(b"line 1\n", b"one\n"))
    assert git_apply(b"new\n" + FILE, patch) is None
    with pytest.raises(hunks.HunkFault, match="does not occur"):
        apply(b"new\n" + FILE, patch)


def test_reverses():
    new = FILE.replace(b"line 3\n", b"three\n").replace(b"line 25\n", b"")
    back = [hunk.reversed() for hunk in hunks.parse(git_diff(FILE, new))["f.py"]]
    assert hunks.apply(new, back) == FILE


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.replace(b"@@ -", b"@ -"), "parse"),
        (lambda p: p.replace(b"+nine\n", b"+nine\n+ten\n"), "lines that it says|parse"),
        (lambda p: p.replace(b"index ", b"new file mode 100644\nindex "), "neither makes"),
        (lambda p: p + b"\\ No newline at end of file\n", "newline"),
        (lambda p: b"no patch at all\n", "parse"),
        (lambda p: p.replace(b"+++ b/f.py", b"+++ b/g.py"), "renames|parse"),
    ],
)
def test_a_broken_patch_is_refused_with_a_line(spoil, said):
    patch = spoil(git_diff(FILE, FILE.replace(b"line 9\n", b"nine\n")))
    with pytest.raises(hunks.HunkFault, match=said) as raised:
        apply(FILE, patch)
    assert raised.value.line >= 1


def test_a_missing_file_is_named():
    edits = hunks.parse(git_diff(FILE, FILE.replace(b"line 9\n", b"nine\n")))
    with pytest.raises(hunks.HunkFault, match=r"no file f\.py"):
        hunks.apply_all({}, edits)


LINES = st.lists(st.sampled_from([b"a\n", b"b\n", b"c\n", b"  d\n", b"\n", b"e\x0cf\n"]), max_size=25)


@settings(max_examples=60, deadline=None)
@given(old=LINES, new=LINES, before=st.integers(0, 3))
def test_gives_the_bytes_that_git_gives(old, new, before):
    old_bytes, new_bytes = b"head\n" + b"".join(old), b"head\n" + b"".join(new)
    patch = git_diff(old_bytes, new_bytes)
    if not patch:
        return
    target = b"moved\n" * before + old_bytes
    try:
        ours = apply(target, patch)
    except hunks.HunkFault:
        return  # stricter than git is allowed, other bytes are not
    assert ours == git_apply(target, patch)


@settings(max_examples=40, deadline=None)
@given(old=LINES, new=LINES)
def test_always_applies_to_the_file_it_was_made_from(old, new):
    old_bytes, new_bytes = b"head\n" + b"".join(old), b"head\n" + b"".join(new)
    if patch := git_diff(old_bytes, new_bytes):
        assert apply(old_bytes, patch) == new_bytes


@settings(max_examples=40, deadline=None)
@given(old=LINES, new=LINES, before=st.integers(0, 3))
def test_each_line_of_the_result_is_told_its_origin(old, new, before):
    old_bytes, new_bytes = b"head\n" + b"".join(old), b"head\n" + b"".join(new)
    patch = git_diff(old_bytes, new_bytes)
    if not patch:
        return
    target, parsed = b"moved\n" * before + old_bytes, hunks.parse(patch)["f.py"]
    try:
        result = hunks.apply(target, parsed).splitlines()
    except hunks.HunkFault:
        return
    was, text = target.splitlines(), patch.splitlines()
    told = hunks.origins(target, parsed)
    assert [was[line - 1] if line > 0 else text[-line - 1][1:] for line in told] == result
    kept = [line for line in told if line > 0]
    assert kept == sorted(set(kept))
    assert len(told) - len(kept) == sum(line.startswith(b"+") for line in text[4:] if line[:3] != b"+++")
