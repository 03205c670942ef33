"""Hunks sit exactly, or not at all, and give the bytes that git gives."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_auth_patches.series import hunks

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


def git_addition(content: bytes) -> bytes:
    """Return git's patch that adds ``f.py``."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "f.py").write_bytes(content)
        done = subprocess.run(
            ["git", "diff", "--no-index", "--full-index", "--no-color", "/dev/null", "f.py"],
            cwd=folder,
            capture_output=True,
            check=False,
        )
    return done.stdout


def git_apply(content: bytes | None, patch: bytes) -> bytes | None:
    """Return what ``git apply`` makes of a file, which may not exist, or ``None`` where it refuses."""
    with tempfile.TemporaryDirectory() as folder:
        if content is not None:
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
        (lambda p: p.replace(b"+nine\n", b"+nine\n+ten\n"), "lines that its header says|parse"),
        (lambda p: p.replace(b"index ", b"new file mode 100644\nindex "), "An added file must not be empty"),
        (lambda p: p.replace(b"index ", b"new file mode 100755\nindex "), "must have the mode 100644"),
        (lambda p: p.replace(b"index ", b"old mode 100644\nnew mode 100755\nindex "), "not change the mode"),
        (lambda p: p.replace(b"index ", b"deleted file mode 100644\nindex "), "not remove a file"),
        (lambda p: p.replace(b"index ", b"rename from g.py\nrename to f.py\nindex "), "not rename or copy"),
        (lambda p: p.replace(b"index ", b"copy from g.py\ncopy to f.py\nindex "), "not rename or copy"),
        (lambda p: p + b"diff --git a/g b/g\nBinary files a/g and b/g differ\n", "binary file"),
        (lambda p: p.replace(b"--- a/f.py", b"--- /dev/null"), "An added file must not be empty"),
        (lambda p: p.replace(b"+++ b/f.py", b"+++ /dev/null"), "not remove a file"),
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


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda p: p.replace(b"new file mode 100644\n", b""), "An added file must not be empty"),
        (lambda p: p.replace(b"--- /dev/null", b"--- a/f.py"), "An added file must not be empty"),
        (lambda p: p.replace(b"@@ -0,0 +1,2 @@\n+a\n", b"@@ -1 +1,2 @@\n a\n"), "one hunk that only adds"),
        (lambda p: p.replace(b"+b\n", b"+b\n\\ No newline at end of file\n"), "newline"),
        (lambda p: p + git_addition(b"").replace(b"f.py", b"g.py"), "An added file must not be empty"),
        (lambda p: p + p, "two diffs of f"),
    ],
)
def test_a_broken_addition_is_refused_with_a_line(spoil, said):
    patch = git_addition(b"a\nb\n")
    assert hunks.parse(patch).keys() == {"f.py"}
    with pytest.raises(hunks.HunkFault, match=said) as raised:
        hunks.parse(spoil(patch))
    assert raised.value.line >= 1


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(st.sampled_from([b"a\n", b"\n", b"++ b/f.py\n", b"a\r\n"]), min_size=1, max_size=5))
def test_creates_the_file_that_git_creates(lines):
    content = b"".join(lines)
    patch = git_addition(content)
    edits = hunks.parse(patch)
    assert hunks.apply_all({}, edits) == {"f.py": content} == {"f.py": git_apply(None, patch)}
    assert hunks.apply_all({}, {"f.py": [edits["f.py"][0].reversed().reversed()]}) == {"f.py": content}
    told = hunks.origins(hunks.base({}, "f.py", edits["f.py"]), edits["f.py"])
    text = patch.split(b"\n")
    assert b"".join(text[-line - 1][1:] + b"\n" for line in told) == content


def test_refuses_to_create_a_file_that_exists():
    patch = git_addition(b"a\nb\n")
    for there in (b"", b"a\nb\n", b"other\n"):
        with pytest.raises(hunks.HunkFault, match=r"The file f\.py already exists") as raised:
            hunks.apply_all({"f.py": there}, hunks.parse(patch))
        assert patch.splitlines()[raised.value.line - 1].startswith(b"@@ ")
        assert git_apply(there, patch) is None


def test_a_reversed_addition_removes_the_file():
    back = {"f.py": [hunk.reversed() for hunk in hunks.parse(git_addition(b"a\nb\n"))["f.py"]]}
    assert hunks.apply_all({"f.py": b"a\nb\n"}, back) == {}
    for other in (b"a\nb\nc\n", b"a\n"):
        with pytest.raises(hunks.HunkFault, match="does not occur"):
            hunks.apply_all({"f.py": other}, back)
    with pytest.raises(hunks.HunkFault, match="no file"):
        hunks.apply_all({}, back)


def test_text_for_an_empty_file_is_an_edit():
    edits = hunks.parse(git_diff(b"", b"a\n"))
    assert hunks.apply_all({"f.py": b""}, edits) == {"f.py": b"a\n"}
    with pytest.raises(hunks.HunkFault, match=r"no file f\.py"):
        hunks.apply_all({}, edits)
    back = {"f.py": [hunk.reversed() for hunk in edits["f.py"]]}
    assert hunks.apply_all({"f.py": b"a\n"}, back) == {"f.py": b""}


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
