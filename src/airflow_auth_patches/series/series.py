"""The series: its patches and its bugs, and which patches are for which release."""

from __future__ import annotations

import email
import email.policy
import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from airflow_auth_patches.releases.releases import DISTRIBUTIONS, Distribution, Release
from airflow_auth_patches.series import hunks
from airflow_auth_patches.series.bugs import Bug, read_bugs
from airflow_auth_patches.util.errors import Problem, UsageProblem

#: The trailers of a patch, in their order.
TRAILERS = (
    *("Fixes", "Bug", "Forwarded", "Applies-To", "Applied-Upstream"),
    *("Depends", "Co-Requires", "Trade-off", "By-Hand", "Tests"),
)
TRAILER = re.compile(r"^([A-Z][A-Za-z-]+): (.+)$")


class PatchFault(Problem):
    """
    A fault in a file of the series.

    :param line: the line number, from 1.
    """

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path}:{line}: {what}")
        self.path, self.line, self.fault = path, line, what


@dataclass(frozen=True)
class Patch:
    """
    One patch file.

    :param variant: the part of the file name after ``~``, or ``None``.
    :param body: the message without the subject, with the trailers.
    :param trailers: ``{name: values in order}``.
    :param applies_to: the versions in the trailer ``Applies-To``.
    :param edits: ``{monorepo path: hunks}`` of the files that the patch edits or adds.
    """

    path: Path
    slug: str
    variant: str | None
    distribution: Distribution
    content: bytes
    subject: str
    body: str
    author: str
    date: str
    trailers: Mapping[str, tuple[str, ...]]
    applies_to: SpecifierSet
    edits: Mapping[str, Sequence[hunks.Hunk]]

    @property
    def name(self) -> str:
        """The file name without its suffix: the slug, followed by ``~`` and the variant if it has one."""
        return self.path.stem

    @property
    def edits_sha256(self) -> str:
        """The SHA-256 of the diff without the message, in hexadecimal."""
        return hashlib.sha256(self.content.partition(b"\ndiff --git ")[2]).hexdigest()

    @property
    def adds(self) -> frozenset[str]:
        """The monorepo paths of the files that the patch adds."""
        return frozenset(path for path, edits in self.edits.items() if edits[0].creates)

    @property
    def cures(self) -> tuple[str, ...]:
        """The slugs of the bugs that the patch cures."""
        return self._slugs("Fixes")

    @property
    def requires(self) -> tuple[str, ...]:
        """The slugs of the patches that it requires."""
        return self._slugs("Depends")

    @property
    def together_with(self) -> tuple[str, ...]:
        """The slugs of the patches of the other distribution that it co-requires on their releases."""
        return self._slugs("Co-Requires")

    def _slugs(self, trailer: str) -> tuple[str, ...]:
        return tuple(slug.strip() for value in self.trailers.get(trailer, ()) for slug in value.split(","))

    @property
    def applied_upstream(self) -> tuple[str, ...]:
        """The releases that have the fix, each with its distribution."""
        return self.trailers.get("Applied-Upstream", ())

    @property
    def trade_off(self) -> str | None:
        """The trade-off of the patch in one line, or ``None``."""
        return next(iter(self.trailers.get("Trade-off", ())), None)

    @property
    def tests(self) -> tuple[str, ...]:
        """The paths of its unit tests."""
        return self.trailers.get("Tests", ())

    def serves(self, release: Release) -> bool:
        """Check whether the patch is for a release."""
        return release.distribution is self.distribution and release.version in self.applies_to

    @property
    def added_requirements(self) -> list[str]:
        """The requirements that the patch adds to the distribution's ``pyproject.toml``."""
        found = []
        for hunk in self.edits.get(f"{self.distribution.root}/pyproject.toml", ()):
            for line in hunk.parsed.text:
                if line[:1] == b"+" and (match := re.fullmatch(r"\s*\"([^\"]+)\",\s*", line[1:].decode())):
                    found.append(match[1])
        return found


@dataclass(frozen=True)
class Series:
    """The whole series: patches in the order in which they apply, and bugs by slug."""

    folder: Path
    patches: tuple[Patch, ...]
    bugs: Mapping[str, Bug]

    @property
    def edited(self) -> frozenset[str]:
        """The monorepo paths of the files that the patches edit or add."""
        return frozenset(path for patch in self.patches for path in patch.edits)

    def serving(self, release: Release) -> list[Patch]:
        """Return the patches for a release, in series order."""
        return [patch for patch in self.patches if patch.serves(release)]

    def forms(self, slug: str) -> list[Patch]:
        """Return a patch and its variants."""
        return [patch for patch in self.patches if patch.slug == slug]

    def optional(self, patch: Patch) -> bool:
        """Check whether other patches prevent the symptoms of all bugs that a patch cures."""
        return bool(patch.cures) and all(self.bugs[slug].avoided_by for slug in patch.cures)

    def select(
        self,
        release: Release,
        names: Iterable[str] | None = None,
        *,
        everything: bool = False,
        optional: bool = True,
    ) -> list[Patch]:
        """
        Return the chosen patches for a release, in series order.

        :param names: exactly these slugs; ``None`` for all patches without a trade-off.
        :param everything: also patches with a trade-off.
        :param optional: also patches that other patches make optional, see :meth:`optional`.
        :raises Problem: if a named patch does not exist.
        """
        serving = self.serving(release)
        if names is not None:
            self.known(names := set(names))
            return [patch for patch in serving if patch.slug in names]
        return [
            patch
            for patch in serving
            if everything or (patch.trade_off is None and (optional or not self.optional(patch)))
        ]

    def known(self, names: Iterable[str]) -> None:
        """
        Check that every name is the slug of a patch.

        :raises Problem: for the first name that is not.
        """
        slugs = list(dict.fromkeys(patch.slug for patch in self.patches))
        for name in names:
            if name not in slugs:
                raise UsageProblem(f"There is no patch {name!r}.", f"Name one of: {', '.join(slugs)}.")


def default_folder() -> Path:
    """Return the folder of the series: in the installed package if it has one, else in the checkout."""
    packaged = Path(__file__).parents[1] / "_patches"
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "patches"


def read_patch(path: Path, dist: Distribution) -> Patch:
    """
    Read a patch file.

    :raises PatchFault: if the file is not a valid patch, with the line of the fault.
    """
    return patch_of(path, dist, path.read_bytes())


def patch_of(path: Path, dist: Distribution, content: bytes) -> Patch:
    """
    Parse the content of a patch file.

    :param path: the file, which need not exist; the patch is named for it.
    :raises PatchFault: if the content is not a valid patch, with the line of the fault.
    """
    head, _, _ = content.partition(b"\ndiff --git ")
    message = email.message_from_bytes(head, policy=email.policy.default)
    text = message.get_content() if message.get_content_type() == "text/plain" else ""
    text = text.rstrip().removesuffix("\n---").rstrip()
    paragraphs = text.split("\n\n")
    trailers: dict[str, tuple[str, ...]] = {}
    for line in paragraphs[-1].splitlines():
        if match := TRAILER.match(line):
            trailers[match[1]] = (*trailers.get(match[1], ()), match[2])
    slug, _, variant = path.stem.partition("~")
    try:
        name, _, specifier = " ".join(trailers.get("Applies-To", ("",))).partition(" ")
        if name != dist.name or not specifier:
            raise InvalidSpecifier(f"Applies-To must be {dist.name}, a space and versions")
        applies_to = SpecifierSet(specifier, prereleases=True)
    except InvalidSpecifier as error:
        line = next((n for n, row in enumerate(content.splitlines(), 1) if row.startswith(b"Applies-To:")), 1)
        raise PatchFault(path, line, f"{error}.") from error
    try:
        edits = hunks.parse(content)
    except hunks.HunkFault as error:
        raise PatchFault(path, error.line, error.what) from error
    return Patch(
        path=path,
        slug=slug,
        variant=variant or None,
        distribution=dist,
        content=content,
        subject=re.sub(r"^\[PATCH\] ", "", message["Subject"] or ""),
        body=text,
        author=message["From"] or "",
        date=message["Date"] or "",
        trailers=trailers,
        applies_to=applies_to,
        edits=edits,
    )


def series_order(folder: Path, dist: Distribution) -> list[str]:
    """Return the slugs that a distribution's ``series`` file lists, in order."""
    path = folder / dist.folder / "series"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise Problem(f"{path} cannot be read: {error}.", "Restore it from the repository.") from error
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def patch_files(folder: Path, dist: Distribution, slug: str = "*") -> list[Path]:
    """Return the files of a patch and its variants, in ``series`` or not; by default of all patches."""
    here = folder / dist.folder
    return sorted({*here.glob(f"{slug}.patch"), *here.glob(f"{slug}~*.patch")})


def unlisted(folder: Path) -> list[Patch]:
    """Return the patches that are in no ``series`` file. They apply to no release, and tests report them."""
    return [
        read_patch(path, dist)
        for dist in DISTRIBUTIONS
        for path in patch_files(folder, dist)
        if path.stem.partition("~")[0] not in series_order(folder, dist)
    ]


def load(folder: Path | None = None) -> Series:
    """
    Read the series.

    A slug in ``series`` means its patch and all its variants.

    :param folder: the folder to read; by default that of this project.
    :raises Problem: if a file is missing or broken.
    """
    folder = folder or default_folder()
    patches = []
    for dist in DISTRIBUTIONS:
        for slug in series_order(folder, dist):
            files = patch_files(folder, dist, slug)
            if not files:
                path = folder / dist.folder / "series"
                raise Problem(f"{path} lists {slug}, but there is no {slug}.patch.", "Restore the patch.")
            patches += [read_patch(file, dist) for file in files]
    return Series(folder, tuple(patches), read_bugs(folder))
