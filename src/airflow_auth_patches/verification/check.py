"""
The lint of the series.

It checks that

* the ``series`` files match the files in the folders, and every slug and variant has a valid name;
* the reproducer of every bug exists, and every bug is either cured by a patch or marked as known open;
* every patch has a subject that upstream accepts, all required trailers, and existing bugs and tests;
* every patch parses, applies in series order to every pinned release in its range, gives the same files as
  ``git apply``, reverses cleanly, and leaves Python code that compiles;
* every patch file is identical to what ``refresh`` writes, older forms are derived from the newest form, and
  a patch adds only files that the distribution installs;
* no two variants give the same files on the same releases, and no two variants serve the same release;
* every test of a patch is listed in ``expectations/``, and no added file is already in a pinned sdist;
* core patches have a news fragment (`lint-upstream` checks its lines, and the added files);
* every patch that goes upstream has a probe, or a reason for none, in ``probes.toml``;
* the recorded results of the reproducers are up to date, and docs/affected.md matches them;
* the default patches of every release are those that were published with the label (`publishing.faults`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from airflow_auth_patches.releases.fetching import chosen_sources
from airflow_auth_patches.releases.releases import CORE, DISTRIBUTIONS, Distribution, Pins, Release
from airflow_auth_patches.series import affected, probes, tree
from airflow_auth_patches.series.bugs import read_bugs
from airflow_auth_patches.series.deriving import Form, derive
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import (
    TRAILERS,
    Patch,
    PatchFault,
    Series,
    patch_files,
    read_patch,
    series_order,
)
from airflow_auth_patches.util.errors import Fault
from airflow_auth_patches.util.progress import SILENT, Progress
from airflow_auth_patches.verification import affected_page, expectations, outdated
from airflow_auth_patches.verification.applying import Sound, applies, line_of, same_files

REQUIRED_TRAILERS = ("Bug", "Forwarded", "Applies-To", "Tests")


def check(root: Path, releases: Pins, progress: Progress = SILENT) -> tuple[list[Fault], list[Form]]:
    """
    Check the whole series. A patch that cannot be read is a fault too.

    :return: the faults, and every form of every patch with the origin of its edits.
    :raises Problem: when a pinned release cannot be fetched.
    """
    faults: list[Fault] = []
    patches = []
    folder = root / "patches"
    for dist in DISTRIBUTIONS:
        faults += _folder(folder, dist, series_order(folder, dist))
        for slug in series_order(folder, dist):
            for path in patch_files(folder, dist, slug):
                try:
                    patches.append(read_patch(path, dist))
                except PatchFault as fault:
                    faults.append(Fault(fault.path, fault.line, fault.fault))
    project = Project(root, Series(folder, tuple(patches), read_bugs(folder)), releases)
    for patch in patches:
        faults += [Fault(patch.path, line_of(patch, start), what) for start, what in _words(patch, project)]
        faults += expectations.faults(project, patch)
    faults += _bugs(project)
    faults += _probes(project.series)
    released: dict[Release, Mapping[str, bytes]] = {}
    sound: Sound = {}
    served = [release for release in releases if project.series.serving(release)]
    with progress.task("applying every patch to every release in its range", len(served)) as advance:
        for release in served:
            paths = project.series.edited.union(tree.added_files(root, release))
            released[release] = chosen_sources(release, paths, progress)
            faults += applies(project, release, released[release], sound)
            advance(1)
    faults += _variants(project, released)
    with progress.task("deriving the older forms of each patch"):
        forms = derive(project, released=released)
    faults += _outdated(forms)
    return sorted(set(faults), key=lambda fault: (str(fault.path), fault.line, fault.what)), forms


def check_affected(project: Project) -> list[Fault]:
    """
    Check that every recorded result is up to date, and that docs/affected.md matches the results.

    :raises Problem: when the results cannot be read.
    """
    results = affected.read(project.series.folder)
    remedy = "run `airflow-auth-patches judge`"
    path = project.series.folder / affected.FILE
    found = [Fault(path, 1, f"{what} ({remedy})") for what in outdated.faults(project, results)]
    if affected_page.outdated(project, results):
        page = project.root / affected_page.FILE
        found.append(Fault(page, 1, f"The page does not match {affected.FILE}: {remedy}."))
    return found


def _folder(folder: Path, dist: Distribution, order: Sequence[str]) -> Iterator[Fault]:
    path = folder / dist.folder / "series"
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        slug = line.strip()
        if not slug or slug.startswith("#"):
            continue
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", slug):
            what = f"{slug!r} is not a valid slug. Use lower-case letters, digits and hyphens."
            yield Fault(path, number, what)
        if lines.index(line) != number - 1:
            yield Fault(path, number, f"{slug} is listed twice. Remove one line.")
        if not patch_files(folder, dist, slug):
            yield Fault(path, number, f"{slug} is listed, but {slug}.patch does not exist.")
    for file in sorted((folder / dist.folder).iterdir()):
        if file.suffix != ".patch":
            if file.name != "series":
                yield Fault(file, 1, "The file is neither `series` nor a patch. Remove it.")
        elif file.stem.partition("~")[0] not in order:
            yield Fault(file, 1, "The patch is not listed in `series`. Add it or remove the file.")


def _words(patch: Patch, project: Project) -> Iterator[tuple[str, str]]:
    """Yield the faults of a patch's message, trailers and paths: the start of the line, and the fault."""
    series = project.series
    if len(patch.subject) >= 70:
        yield "Subject:", f"The subject has {len(patch.subject)} characters. Use at most 69."
    if re.match(r"[a-z]+(\([^)]*\))?!?:", patch.subject) or not patch.subject[:1].isupper():
        yield "Subject:", "The subject must start with a capital letter, in the imperative, without a prefix."
    if patch.variant is not None and not re.fullmatch(r"\d+(\.\d+)+", patch.variant):
        yield "", "The variant has an invalid name. Name it slug~X.Y.patch, after its release line."
    for name in REQUIRED_TRAILERS:
        if name not in patch.trailers:
            yield "---", f"The trailer {name} is missing."
    for name in patch.trailers:
        if name not in TRAILERS:
            yield f"{name}:", f"{name} is not a trailer of this series."
    for slug in patch.cures:
        if slug not in series.bugs:
            yield "Fixes:", f"{slug} is not in bugs.toml."
    for slug in patch.requires:
        if slug not in {earlier.slug for earlier in series.patches[: series.patches.index(patch)]}:
            yield "Depends:", f"{slug} is not listed before this patch in the series."
    for slug in patch.together_with:
        if slug not in {other.slug for other in series.patches}:
            yield "Co-Requires:", f"The patch {slug} does not exist."
    if not re.match(r"https://|no$|not-needed: .", " ".join(patch.trailers.get("Forwarded", ("no",)))):
        yield "Forwarded:", "Forwarded must be a URL, `no`, or `not-needed: REASON`."
    for test in patch.tests:
        if not (project.root / test).is_file():
            yield "Tests:", f"{test} does not exist."
    dist = patch.distribution
    for path in patch.edits:
        if not path.startswith((f"{dist.root}/", "shared/")):
            yield f"+++ b/{path}", f"{path} is not a file of {dist.name}."
        elif path in patch.adds and not dist.installs(path):
            yield f"+++ b/{path}", f"The patch adds {path}, which {dist.name} does not install."
    if dist is CORE and patch.cures:
        news = project.root / CORE.root / "newsfragments"
        numbers = {file.name.split(".")[0] for file in news.glob("*.rst")}
        if not any(re.search(rf"\b{number}\b", patch.content.decode()) for number in numbers):
            where = news.relative_to(project.root)
            yield "", f"No news fragment in {where} has a number that the patch mentions."


def _bugs(project: Project) -> Iterator[Fault]:
    path, patches = project.series.folder / "bugs.toml", project.series.patches
    lines = path.read_text(encoding="utf-8").splitlines()
    for bug in project.series.bugs.values():
        line = lines.index(f"[{bug.slug}]") + 1
        name, _, test = (bug.reproducer or "").partition("::")
        file = project.root / name
        if bug.reproducer and not (file.is_file() and test in expectations.test_names(file)):
            yield Fault(path, line, f"The reproducer of {bug.slug}, {bug.reproducer}, does not exist.")
        for key, slugs in (("needs", bug.needs), ("avoided-by", bug.avoided_by)):
            for slug in slugs:
                if slug not in {patch.slug for patch in patches}:
                    yield Fault(path, line, f"{key} of {bug.slug} names {slug}, which is not a patch.")
        cured = any(bug.slug in patch.cures for patch in patches)
        if cured == bool(bug.known_open):
            problem = "is cured and known open" if cured else "is neither cured by a patch nor known open"
            yield Fault(path, line, f"{bug.slug} {problem}.")


def _probes(series: Series) -> Iterator[Fault]:
    path, known = series.folder / probes.FILE, probes.load(series.folder)
    lines = path.read_text(encoding="utf-8").splitlines()
    slugs = {patch.slug: patch for patch in series.patches}
    for slug, probe in known.items():
        for name in (slug, *probe.needs):
            if name not in slugs:
                yield Fault(path, lines.index(f"[{slug}]") + 1, f"The patch {name} does not exist.")
    for slug, patch in slugs.items():
        if slug not in known and probes.required(patch):
            yield Fault(path, 1, f"{slug} has no probe. Add one, or the reason for none: `none = ...`.")


def _outdated(forms: Sequence[Form]) -> Iterator[Fault]:
    for form in forms:
        if form.content != form.patch.content:
            what = (
                f"The file differs from what `refresh` writes ({form.kind}). Run `airflow-auth-patches "
                "refresh`. To keep a manual edit, add the trailer `By-Hand: REASON` above `Tests:`."
            )
            yield Fault(form.patch.path, 1, what)


def _variants(project: Project, released: Mapping[Release, Mapping[str, bytes]]) -> Iterator[Fault]:
    for release in project.releases:
        serving = project.series.serving(release)
        for patch in serving:
            twin = next((p for p in serving if p.slug == patch.slug and p is not patch), None)
            if twin and patch.variant is not None:
                yield Fault(patch.path, line_of(patch, "Applies-To:"), f"{twin.name} also serves {release}.")
    for patch in project.series.patches:
        if not any(patch.serves(release) for release in project.releases):
            yield Fault(patch.path, line_of(patch, "Applies-To:"), "The patch serves no pinned release.")
        for other in same_files(project, patch, released) if patch.variant else ():
            yield Fault(patch.path, 1, f"{other.name} gives the same files on these releases. Merge the two.")
