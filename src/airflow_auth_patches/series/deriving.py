"""Derive the older forms of a patch from the newest one, by a three-way merge on the pinned releases."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airflow_auth_patches.releases.fetching import chosen_sources, sources
from airflow_auth_patches.releases.releases import Distribution, Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.project import Project
from airflow_auth_patches.series.series import TRAILERS, Patch, Series
from airflow_auth_patches.series.tree import Tree, format_edits, merge_file, newest

#: A form, the files of its release before it is applied, and the edited files after it is applied.
Step = tuple[Patch, Mapping[str, bytes], Mapping[str, bytes]]
#: The trailers in which a form may differ from the newest one.
OWN = ("Applies-To", "Depends", "By-Hand")


@dataclass(frozen=True)
class Form:
    """
    One form of a patch, and the file that `refresh` writes for it.

    :param patch: the form as it is on disk.
    :param source: the next newer form; ``None`` for the newest one.
    :param by_hand: why the edits are not derived from the source; empty if they are, or there is no source.
    :param content: the patch file that `refresh` writes.
    :param lost: which change of the form ``content`` does not keep: ``edits`` or ``message``; empty if none.
    """

    patch: Patch
    source: Patch | None
    by_hand: str
    content: bytes
    lost: str = ""

    @property
    def kind(self) -> str:
        """The origin of the edits: newest, derived or by hand."""
        if self.by_hand:
            return f"by hand: {self.by_hand}"
        return f"derived from {self.source.name}" if self.source else "newest"


def before(series: Series, release: Release, slug: str, files: Mapping[str, bytes]) -> Mapping[str, bytes]:
    """
    Return files of a release with the patches before a patch applied.

    :raises HunkFault: if one of them does not apply.
    """
    found = dict(files)
    for earlier in series.serving(release):
        if earlier.slug == slug:
            break
        found.update(hunks.apply_all(found, earlier.edits))
    return found


def derive(
    project: Project,
    slugs: Collection[str] | None = None,
    released: Mapping[Release, Mapping[str, bytes]] | None = None,
) -> list[Form]:
    """
    Derive the older forms of patches, and bring the forms that are edited by hand into git's format.

    The message of a form is that of the newest one, except the trailers that depend on the release (``OWN``).
    A form with the trailer ``By-Hand`` keeps its own message. A form that does not apply is not changed.

    :param slugs: derive these patches, and the later ones that edit the same files; by default all patches.
    :param released: the files of each release that the series edits: ``{monorepo path: content}``; by default
        they are read.
    :return: the forms, in series order; those of one patch from the newest to the oldest.
    """
    found: list[Form] = []
    groups = _groups(project, slugs)
    series = project.series
    if released is None:
        releases = {newest(form, project.releases) for forms in groups for form in forms}
        released = {release: chosen_sources(release, series.edited) for release in releases}
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        for forms in groups:
            source: Step | None = None
            for patch in forms:
                release = newest(patch, project.releases)
                try:
                    files = before(series, release, patch.slug, released[release])
                    form, after = _form(Path(folder), patch, release, files, source, forms[0])
                    edits = hunks.parse(form.content)
                except hunks.HunkFault as fault:  # it does not apply, or changes nothing
                    found.append(Form(patch, source and source[0], fault.what, patch.content))
                    continue
                found.append(form)
                made = dataclasses.replace(patch, content=form.content, edits=edits)
                patches = tuple(made if each is patch else each for each in series.patches)
                series = dataclasses.replace(series, patches=patches)
                source = (made, files, after)
    return found


def merge_onto(
    project: Project, slug: str, release: Release, files: Mapping[str, bytes]
) -> tuple[Patch, dict[str, bytes]] | None:
    """
    Merge a patch three-way into a release to which none of its forms applies.

    The base of the merge is the newest pinned release of a form, with the earlier patches; of several forms,
    the one with the nearest newer base is tried first, then those with older bases.

    :param files: the files of the release, with the earlier patches: ``{monorepo path: content}``.
    :return: the form that was merged and the edited files; ``None`` if every form conflicts, or merges into
        no change.
    """
    bases: dict[Release, Patch] = {}
    for patch in project.series.patches:
        served = [each for each in project.releases if each != release and patch.serves(each)]
        if patch.slug == slug and served:
            bases[max(served, key=lambda each: each.version)] = patch
    newer = sorted((base for base in bases if base.version > release.version), key=lambda r: r.version)
    older = sorted((base for base in bases if base not in newer), key=lambda r: r.version, reverse=True)
    with tempfile.TemporaryDirectory(prefix="airflow-auth-patches-") as folder:
        for base in (*newer, *older):
            patch = bases[base]
            if patch.edits.keys() - patch.adds - files.keys():
                continue  # the release has not all of the files
            try:
                earlier = before(project.series, base, slug, sources(base))
                theirs = hunks.apply_all(earlier, patch.edits)
            except hunks.HunkFault:
                continue  # `check` reports that it does not apply to its own release
            merged, conflicts = _merge(Path(folder), files, earlier, theirs)
            if merged and not conflicts:
                return patch, merged
    return None


def _groups(project: Project, slugs: Collection[str] | None) -> list[list[Patch]]:
    """Return the forms of each chosen patch, newest first, and of later patches that edit the same files."""
    groups: dict[tuple[Distribution, str], list[Patch]] = {}
    for patch in project.series.patches:
        if any(patch.serves(release) for release in project.releases):
            groups.setdefault((patch.distribution, patch.slug), []).append(patch)
    chosen, touched = [], set[str]()
    for (_, slug), forms in groups.items():
        paths = {path for form in forms for path in form.edits}
        if slugs is None or slug in slugs or not touched.isdisjoint(paths):
            touched |= paths
            chosen.append(
                sorted(forms, key=lambda form: newest(form, project.releases).version, reverse=True)
            )
    return chosen


def _form(
    folder: Path,
    patch: Patch,
    release: Release,
    files: Mapping[str, bytes],
    source: Step | None,
    first: Patch,
) -> tuple[Form, Mapping[str, bytes]]:
    """Return a form, and the edited files after it is applied; ``source`` is the newer form."""
    why = lost = ""
    after: Mapping[str, bytes] | None = None
    if source is not None:
        merged, conflicts = _merge(folder, files, *source[1:])
        why = " ".join(patch.trailers.get("By-Hand", ())) or conflicts
        after = None if why else merged
    if after is None:
        after = hunks.apply_all(files, patch.edits)
    else:
        with suppress(hunks.HunkFault):  # a copy of the newer form that is not derived yet does not apply
            lost = "edits" if hunks.apply_all(files, patch.edits) != after else ""
    worded = patch if "By-Hand" in patch.trailers else first
    prose, own_prose = (each.body.rpartition("\n\n")[0] for each in (worded, patch))
    if (prose, worded.subject) != (own_prose, patch.subject):
        lost = lost or "message"
    trailers = "".join(
        f"{name}: {value}\n"
        for name in TRAILERS
        for value in (patch if name in OWN else first).trailers.get(name, ())
    )
    tree = Tree(folder / "tree", release)
    if not tree.folder.exists():
        tree.folder.mkdir()
        tree.git("init", "--quiet", "--initial-branch=main")
    edited = {path: files[path] for path in after.keys() & files.keys()}
    content = format_edits(tree, edited, after, f"{worded.subject}\n\n{prose}\n\n{trailers}", patch.date)
    return Form(patch, source and source[0], why, content, lost), after


def _merge(
    folder: Path, ours: Mapping[str, bytes], base: Mapping[str, bytes], theirs: Mapping[str, bytes]
) -> tuple[dict[str, bytes], str]:
    """Merge the edits of a newer form into the files of an older release; return changed files, conflicts."""
    merged, conflicts = {}, []
    for path, content in theirs.items():
        if path in ours and path in base:
            result = merge_file(folder, ours[path], base[path], content)
        else:
            result = None if path in ours or path in base else content
        if result is None:
            conflicts.append(path.rpartition("/")[2])
        elif result != ours.get(path):
            merged[path] = result
    return merged, f"the merge conflicts in {', '.join(sorted(conflicts))}" if conflicts else ""
