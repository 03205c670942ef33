"""What the commands print is not changed by the console."""

from __future__ import annotations

import pytest

from airflow_auth_patches.util import show


@pytest.mark.parametrize("text", ["x.patch:100: a fault", "[b]bold[/]", "word " * 40])
def test_lines_are_printed_as_they_are(text, capsys):
    show.say(text)
    show.note(text)
    assert capsys.readouterr() == (f"{text}\n", f"{text}\n")
