"""A hunk applies exactly or not at all, and gives the bytes that git gives."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_auth_patches.series import hunks

FILE = b"".join(b"line %d\n" % number for number in range(1, 31))


def git(files: dict[str, bytes], *words: str, stdin: bytes | None = None) -> tuple[bytes | None, bytes]:
    """Run git in a folder with files; return ``f.py`` afterwards, if git succeeds, and its output."""
    with tempfile.TemporaryDirectory() as name:
        for path, content in files.items():
            (Path(name) / path).parent.mkdir(exist_ok=True)
            (Path(name) / path).write_bytes(content)
        done = subprocess.run(["git", *words], cwd=name, input=stdin, capture_output=True, check=False)
        file = Path(name) / "f.py"
        return file.read_bytes() if file.exists() and not done.returncode else None, done.stdout


def git_diff(old: bytes | None, new: bytes) -> bytes:
    """Return git's patch from one content of ``f.py`` to another; ``None`` if it does not exist."""
    words = ("diff", "--no-index", "--full-index", "--no-color")
    if old is None:
        return git({"f.py": new}, *words, "/dev/null", "f.py")[1]
    patch = git({"a/f.py": old, "b/f.py": new}, *words, "a/f.py", "b/f.py")[1]
    return patch.replace(b"a/a/", b"a/").replace(b"b/b/", b"b/")


def git_apply(content: bytes | None, patch: bytes) -> bytes | None:
    """Return what ``git apply`` makes of a file, which may not exist; ``None`` if git rejects the patch."""
    return git({} if content is None else {"f.py": content}, "apply", "-", stdin=patch)[0]


def apply(content: bytes, patch: bytes) -> bytes:
    return hunks.apply(content, hunks.parse(patch)["f.py"])


NINE = FILE.replace(b"line 9\n", b"nine\n")
TWO = FILE.replace(b"line 6\n", b"six\n").replace(b"line 25\n", b"twenty-five\nand more\n")


@pytest.mark.parametrize(
    ("new", "before"),
    [(NINE, b""), (NINE, b"new\n" * 40), (TWO, b"new\n" * 3)],
    ids=["at its line", "at another line", "later hunk moves with the first"],
)
def test_applies_where_its_text_occurs_once(new, before):
    assert apply(before + FILE, git_diff(FILE, new)) == before + new


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"new\n" + FILE + FILE, "occurs 2 times"),
        (FILE.replace(b"line 8\n", b"line 8 \n"), "does not occur"),
    ],
)
def test_refuses_text_that_occurs_twice_or_not_at_all(content, said):
    patch = git_diff(FILE, NINE)
    with pytest.raises(hunks.HunkFault, match=said) as raised:
        apply(content, patch)
    assert patch.splitlines()[raised.value.line - 1].startswith(b"@@ ")


def test_hunk_of_the_first_line_applies_only_at_the_top():
    patch = git_diff(FILE, FILE.replace(b"line 1\n", b"one\n"))
    assert git_apply(b"new\n" + FILE, patch) is None
    with pytest.raises(hunks.HunkFault, match="does not occur"):
        apply(b"new\n" + FILE, patch)


def test_reversed_hunks_restore_the_file():
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
def test_refuses_broken_patch_and_names_the_line(spoil, said):
    patch = spoil(git_diff(FILE, NINE))
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
        (lambda p: p + git_diff(None, b"").replace(b"f.py", b"g.py"), "An added file must not be empty"),
        (lambda p: p + p, "two diffs of f"),
    ],
)
def test_refuses_broken_addition_and_names_the_line(spoil, said):
    patch = git_diff(None, b"a\nb\n")
    assert hunks.parse(patch).keys() == {"f.py"}
    with pytest.raises(hunks.HunkFault, match=said) as raised:
        hunks.parse(spoil(patch))
    assert raised.value.line >= 1


@settings(max_examples=20, deadline=None)
@given(lines=st.lists(st.sampled_from([b"a\n", b"\n", b"++ b/f.py\n", b"a\r\n"]), min_size=1, max_size=5))
def test_creates_the_file_that_git_creates(lines):
    content = b"".join(lines)
    patch = git_diff(None, content)
    edits = hunks.parse(patch)
    assert hunks.apply_all({}, edits) == {"f.py": content} == {"f.py": git_apply(None, patch)}
    assert hunks.apply_all({}, {"f.py": [edits["f.py"][0].reversed().reversed()]}) == {"f.py": content}


def test_refuses_to_create_a_file_that_exists():
    patch = git_diff(None, b"a\nb\n")
    for there in (b"", b"a\nb\n", b"other\n"):
        with pytest.raises(hunks.HunkFault, match=r"The file f\.py already exists") as raised:
            hunks.apply_all({"f.py": there}, hunks.parse(patch))
        assert patch.splitlines()[raised.value.line - 1].startswith(b"@@ ")
        assert git_apply(there, patch) is None


def test_reversed_addition_removes_the_unchanged_file():
    back = {"f.py": [hunk.reversed() for hunk in hunks.parse(git_diff(None, b"a\nb\n"))["f.py"]]}
    assert hunks.apply_all({"f.py": b"a\nb\n"}, back) == {}
    for other in ({"f.py": b"a\nb\nc\n"}, {"f.py": b"a\n"}, {}):
        with pytest.raises(hunks.HunkFault, match="does not occur" if other else "no file"):
            hunks.apply_all(other, back)


def test_text_for_an_empty_file_is_an_edit_of_a_file_that_exists():
    edits = hunks.parse(git_diff(b"", b"a\n"))
    assert hunks.apply_all({"f.py": b""}, edits) == {"f.py": b"a\n"}
    back = {"f.py": [hunk.reversed() for hunk in edits["f.py"]]}
    assert hunks.apply_all({"f.py": b"a\n"}, back) == {"f.py": b""}
    for missing in (edits, hunks.parse(git_diff(FILE, NINE))):
        with pytest.raises(hunks.HunkFault, match=r"no file f\.py"):
            hunks.apply_all({}, missing)


LINES = st.lists(
    st.sampled_from([b"a\n", b"b\n", b"c\n", b"  d\n", b"\n", b"e\x0cf\n", b"g\r\n"]), max_size=25
)


CONTENTS = LINES.map(lambda lines: b"head\n" + b"".join(lines))


@settings(max_examples=60, deadline=None)
@given(old=CONTENTS, new=CONTENTS, before=st.integers(0, 3))
def test_gives_the_bytes_of_git(old, new, before):
    patch = git_diff(old, new)
    if not patch:
        return
    assert apply(old, patch) == new
    target, parsed = b"moved\n" * before + old, hunks.parse(patch)["f.py"]
    try:
        result = hunks.apply(target, parsed)
    except hunks.HunkFault:
        return  # it may be stricter than git, but must not write other bytes
    assert result == git_apply(target, patch)
