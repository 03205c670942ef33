"""Whatever an index, an environment or a configuration file contains, the error is a `Problem`."""

from __future__ import annotations

import copy
import datetime
import functools
import hashlib
import http.server
import io
import json
import os
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from packaging.version import Version
from wheel.wheelfile import WheelFile

from airflow_auth_patches.installation import apply as patching
from airflow_auth_patches.installation import damage, installed, journal, records, wheels
from airflow_auth_patches.installation.apply import Step
from airflow_auth_patches.installation.installed import Installed
from airflow_auth_patches.releases import fetching, index_settings, pinning
from airflow_auth_patches.releases.releases import CORE, FAB, Release
from airflow_auth_patches.util.errors import Problem

# With the variable CI, hypothesis takes the same examples in each run.
few = functools.partial(settings, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
quick = few(max_examples=40)
slow = few(max_examples=12)

#: More levels than Python's recursion limit.
DEEP = b"[" * 100_000
KEYS = ("name", "slug", "edits", "patches", "files", "after", "before", "requires", "label", "command")
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def damaged(valid: bytes) -> st.SearchStrategy[bytes]:
    """Return any bytes, and the valid ones with some replaced, removed or inserted."""
    at = st.integers(0, len(valid))
    cut = st.builds(lambda a, b, new: valid[:a] + new + valid[b:], at, at, st.binary(max_size=12))
    return cut | st.binary(max_size=80)


@st.composite
def changed(draw: st.DrawFn, valid: Any) -> Any:
    """Return a JSON value with one part replaced by any other, or removed."""
    whole = [copy.deepcopy(valid)]
    place: Any = whole
    key: Any = 0
    while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 3)):
        place = place[key]
        key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    if draw(st.booleans()) or place is whole:
        place[key] = draw(values)
    else:
        del place[key]
    return whole[0]


def write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)  # the file may be a hard link
    path.write_bytes(content)


@pytest.fixture
def core(small) -> Installed:
    """Return the installed core of an environment with small patched releases."""
    patching.apply(small.plan(), small.pins)
    return installed.look(small.python, small.pins).found[0]


@pytest.fixture
def info(core) -> Path:
    (found,) = core.site.glob("apache_airflow_core-*.dist-info")
    return found


@quick
@given(data=st.data())
def test_manifest(core, small, data):
    told = data.draw(changed(core.manifest))
    manifest = wheels.read_manifest(data.draw(st.sampled_from([json.dumps(told), f"{told}", DEEP.decode()])))
    if manifest is None:
        return
    other = Installed(CORE, core.version, core.site, manifest, core.release, False)
    (step, _) = small.plan().steps
    with suppress(Problem):
        records.changed_files(other)
    with suppress(Problem):
        Step(other, step.patched, False).diff()
    with suppress(Problem), tempfile.TemporaryDirectory() as folder:
        records.as_wheel(other, Path(folder))


ROWS = b'airflow/settings.py,sha256=abc,9\n../../../../outside,,\n"a,b",sha256=,\nx\n'


@quick
@example(content=b"airflow/settings.py/x,sha256=abc,1\n")
@example(content=b"airflow/a\0b.py,sha256=abc,1\n")
@example(content=b"airflow/" + b"a" * 200_000)
@given(content=damaged(ROWS))
def test_record(core, info, small, content):
    write(info / "RECORD", content)
    prefix = small.python.parents[1]
    outside = prefix.parent / "outside"
    outside.touch()
    damage.find([core.site], prefix)
    records.extra_modules(core)
    with suppress(Problem):
        records.changed_files(core)
    with tempfile.TemporaryDirectory() as folder:
        site = Path(folder) / "env/lib/python/site-packages"
        write_record = site / info.name / "RECORD"
        write_record.parent.mkdir(parents=True)
        (Path(folder) / "outside").touch()
        write_record.write_bytes(content)
        damage.clear(site, Path(folder) / "env", CORE, [])
        assert not write_record.exists()
        assert (Path(folder) / "outside").exists()


@quick
@example(content=DEEP)
@given(content=st.builds(lambda told: json.dumps(told).encode(), values) | damaged(b'{"command": "apply"}'))
def test_journal(core, content):
    folder = core.site / journal.FOLDER
    folder.mkdir(exist_ok=True)
    write(folder / journal.FILE, content)
    found = journal.find([core.site])
    assert found is not None
    assert isinstance(found.command, str)
    assert damage.find([core.site], core.site)


@quick
@given(
    name=st.text("aA1-_.+ é", max_size=40).map("apache_airflow_core-3{}".format),
    content=damaged(b"PK\5\6" + bytes(18)),
)
def test_wheel_in_a_journal(name, content):
    with tempfile.TemporaryDirectory() as folder:
        wheel = Path(folder) / "apache_airflow_core-3.1.6-py3-none-any.whl"
        wheel.write_bytes(content)
        damage.clear(Path(folder) / "site", Path(folder), CORE, [wheel])
        with suppress(OSError, UnicodeError):
            wheel.with_name(f"apache_airflow_core-3{name}.whl").write_bytes(b"")
        with suppress(Problem):
            journal.requirements(Path(folder))


METADATA = (
    b"Metadata-Version: 2.1\nName: apache-airflow-providers-fab\nVersion: 9.9.9\n"
    b"Requires-Dist: apache-airflow>=3.0.2\nClassifier: Programming Language :: Python :: 3.11\n\ntext\n"
)


@slow
@given(data=st.data())
def test_dist_info(info, small, data):
    for name, valid in (("METADATA", METADATA), ("direct_url.json", b'{"dir_info": {"editable": true}}')):
        write(info / name, data.draw(damaged(valid)))
    write(info / wheels.MANIFEST, data.draw(st.binary(max_size=9)))
    with suppress(Problem):
        installed.look(small.python, small.pins, damaged=True)


CONFIGURATION = b"[global]\nindex-url = http://a/\n no-index = %(x)s\n[install]\ncert =\n"


@quick
@given(content=damaged(CONFIGURATION))
def test_configuration_of_pip(content):
    with tempfile.NamedTemporaryFile() as file, pytest.MonkeyPatch.context() as patch:
        file.write(content)
        file.flush()
        patch.setenv("PIP_CONFIG_FILE", file.name)
        index_settings.indexes("https://example.org")
        index_settings.certificates()
        index_settings.offline()


@pytest.fixture
def answers(monkeypatch, tmp_path) -> Iterator[dict[str, tuple[str, bytes]]]:
    """Serve answers at paths below the index, ``{path: (content type, body)}``, with an empty cache."""
    told: dict[str, tuple[str, bytes]] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = told.get(self.path.rpartition("/")[2], ("text/plain", b""))
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("AIRFLOW_AUTH_PATCHES_CACHE", str(tmp_path / "answers"))
    yield told
    server.shutdown()
    server.server_close()
    thread.join(10)
    assert not thread.is_alive()


NEW = Release(FAB, Version("9.9.9"), datetime.date.min, (), {"wheel": "0" * 64, "sdist": "0" * 64})
HTML, JSON = "text/html", "application/vnd.pypi.simple.v1+json"


def page(**hashes: str) -> bytes:
    """Return the page of a distribution with the two files of the new release."""
    names = {kind: NEW.filename(kind) for kind in ("wheel", "sdist")}
    times = 'data-upload-time="2026-01-01T00:00:00Z"'
    links = [f'<a href="{names[kind]}#sha256={hashes[kind]}" {times}>{names[kind]}</a>' for kind in names]
    return f"<html><body>{''.join(links)}</body></html>".encode()


FILE = {
    **{"filename": NEW.filename("wheel"), "url": "https://127.0.0.1:9/x", "hashes": {"sha256": "0" * 64}},
    **{"upload-time": "2026-01-01T00:00:00Z", "size": 1, "yanked": False, "requires-python": ">=3"},
}
PAGE = {"meta": {"api-version": "1.1"}, "name": FAB.name, "versions": ["9.9.9"], "files": [FILE]}


def is_refused(call: Callable[[], object]) -> None:
    with pytest.raises(Problem):
        call()


@few(max_examples=25)
@example(answer=(JSON, DEEP))
@given(
    answer=st.tuples(st.just(HTML), damaged(page(wheel="0" * 64, sdist="0" * 64)))
    | st.tuples(st.just(JSON), changed(PAGE).map(json.dumps).map(str.encode))
)
def test_page_of_an_index(answers, answer):
    answers[""] = answer
    is_refused(lambda: fetching.fetch(NEW, "wheel"))
    is_refused(lambda: pinning.find(FAB, NEW.version))


def archives(metadata: bytes) -> dict[str, bytes]:
    """Return a wheel and an sdist of the new release with its metadata and one module."""
    name, file = f"{FAB.stem}-9.9.9", io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for path, content in (("PKG-INFO", metadata), (f"src/{FAB.package}/a.py", b"")):
            member = tarfile.TarInfo(f"{name}/{path}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NEW.filename("wheel")
        with WheelFile(path, "w") as wheel:
            wheel.writestr(f"{name}.dist-info/METADATA", metadata)
            wheel.writestr(f"{FAB.package}/a.py", b"")
        return {"wheel": path.read_bytes(), "sdist": file.getvalue()}


@few(max_examples=25)
@example(bodies=archives(METADATA))
@given(
    bodies=st.builds(archives, damaged(METADATA))
    | st.fixed_dictionaries({kind: damaged(body) for kind, body in archives(METADATA).items()})
)
def test_wheel_and_sdist_of_a_new_release(answers, bodies):
    answers[""] = (HTML, page(**{kind: hashlib.sha256(body).hexdigest() for kind, body in bodies.items()}))
    for kind, body in bodies.items():
        answers[NEW.filename(kind)] = ("application/octet-stream", body)  # type: ignore[index]
    with suppress(Problem):
        assert str(pinning.find(FAB, NEW.version)) == str(NEW)
