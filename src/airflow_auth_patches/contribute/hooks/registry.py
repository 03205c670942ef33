"""What patches add to Airflow's registries: options in config.yml, metrics in metrics_template.yaml."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from packaging.version import InvalidVersion, Version

from airflow_auth_patches.contribute.hooks.added import Edited, Finding, Patched
from airflow_auth_patches.releases.fetching import sources
from airflow_auth_patches.releases.releases import Pins, Release

CONFIG = "airflow-core/src/airflow/config_templates/config.yml"
METRICS = "shared/observability/src/airflow_shared/observability/metrics/metrics_template.yaml"
#: What an option says: the form of each value, and how it is written.
OPTION = {
    "description": (r"\|", "description: |"),
    "version_added": (r"\d+\.\d+\.\d+", "version_added: 3.4.0"),
    "type": (r"string|boolean|integer|float", "type: integer"),
    "example": (r"~|\".*\"|'.*'|-?\d+(\.\d+)?", "example: ~"),
    "default": (r"~|\".*\"|'.*'", 'default: "64"'),
}
#: What a metric says; a new one has no name of old and, here, none has variables.
METRIC = {
    "description": (r"\".+\"", 'description: "..."'),
    "type": (r"\"(counter|gauge|timer)\"", 'type: "counter"'),
    "legacy_name": (r"\"-\"", 'legacy_name: "-"'),
    "name_variables": (r"\[\]", "name_variables: []"),
}
#: The methods of stats, and the type that each is for.
METHODS = {
    "incr": "counter",
    "decr": "counter",
    "gauge": "gauge",
    "observable_gauge": "gauge",
    "timing": "timer",
    "timer": "timer",
}
READS = {
    "get",
    "getint",
    "getfloat",
    "getboolean",
    "getlist",
    "getjson",
    "getenum",
    "getsection",
    "has_option",
}


@dataclass
class Entry:
    """
    An option or a metric.

    :param line: the line of its name, from 1.
    :param says: ``{key: (line, value as written)}``, in the order of the file.
    """

    name: str
    line: int
    section: str = ""
    says: dict[str, tuple[int, str]] = field(default_factory=dict)


def options(text: str) -> Iterator[Entry]:
    """Read config.yml, which has one form: section, ``options:``, option, keys, each two spaces deeper."""
    section, entry = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.fullmatch(r"(\w+):", line):
            section, entry = match[1], None
        elif match := re.fullmatch(r"    (\w+):", line):
            yield (entry := Entry(match[1], number, section))
        elif entry and (match := re.fullmatch(r"      (\w+):(?: (.*))?", line)):
            entry.says[match[1]] = number, (match[2] or "").strip()


def metrics(text: str) -> Iterator[Entry]:
    """Read metrics_template.yaml, which has one form: a list, each metric's name first."""
    entry = None
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.fullmatch(r"  - name: \"?([^\"]+)\"?", line):
            yield (entry := Entry(match[1], number))
        elif entry and (match := re.fullmatch(r"    (\w+):(?: (.*))?", line)):
            entry.says[match[1]] = number, (match[2] or "").strip()


def check(patched: Patched, pins: Pins) -> Iterator[Finding]:
    """
    Give what is found in what patches add to the registries of a release.

    * ``config``: an option has every key in the schema's form, ``version_added`` is a release to come, it is
      named once in its section, and code that is added reads it; what added code reads is an option.
    * ``metric``: an entry has every key in form and is used; each added call of stats has its entry, of its
      type, and is made through the module.
    """
    yield from _options(patched, pins)
    yield from _metrics(patched)


def _text(patched: Patched, path: str) -> str:
    if path in patched.files:
        return patched.files[path].after.decode()
    return sources(patched.release).get(path, b"").decode()


def _form(file: Edited, entry: Entry, wanted: Mapping[str, tuple[str, str]], rule: str) -> Iterator[Finding]:
    for key, (form, shown) in wanted.items():
        line, value = entry.says.get(key, (entry.line, None))
        if value is None:
            yield file.finding(line, rule, f"{entry.name} has no {key}.", f"Give it one: {shown}.")
        elif not re.fullmatch(form, value):
            yield file.finding(
                line, rule, f"{key} of {entry.name} is {value or 'empty'}.", f"Write it so: {shown}."
            )


def _options(patched: Patched, pins: Pins) -> Iterator[Finding]:
    every = list(options(_text(patched, CONFIG)))
    known = {(entry.section, entry.name) for entry in every}
    read = list(_read(patched))
    for file, line, section, name in read:
        if every and (section, name) not in known:
            yield file.finding(
                line,
                "config",
                f"It reads [{section}] {name}, which config.yml does not have.",
                "Add it there.",
            )
    if CONFIG not in patched.files:
        return
    file = patched.files[CONFIG]
    for entry in every:
        if not file.adds(entry.line):
            continue
        yield from _form(file, entry, OPTION, "config")
        line, version = entry.says.get("version_added", (entry.line, ""))
        if fault := _not_to_come(version, patched.release, pins):
            yield file.finding(
                line,
                "config",
                f"version_added of {entry.name} is {version}: {fault}.",
                "Name the next release.",
            )
        twins = [other for other in every if (other.section, other.name) == (entry.section, entry.name)]
        if len(twins) > 1:
            yield file.finding(
                entry.line, "config", f"[{entry.section}] has {entry.name} twice.", "Keep one."
            )
        if (entry.section, entry.name) not in {(section, name) for _, _, section, name in read}:
            yield file.finding(
                entry.line,
                "config",
                f"No code that is added reads [{entry.section}] {entry.name}.",
                "Put it into the section that is read, or remove it.",
            )


def _not_to_come(text: str, release: Release, pins: Pins) -> str:
    """Say why a version is no release to come in which something new of that release can be."""
    try:
        version = Version(text)
    except InvalidVersion:
        return "that is no version"
    lines: dict[tuple[int, ...], Version] = {}
    for other in pins.releases:
        if other.distribution is release.distribution:
            lines[other.version.release[:2]] = max(
                other.version, lines.get(other.version.release[:2], other.version)
            )
    line = version.release[:2]
    if line < release.version.release[:2]:
        return "that is an older line"
    last = lines.get(line)
    if last is not None:
        nexts = (*last.release[:2], last.micro + 1)
        return "" if version.release == nexts else f"{'.'.join(map(str, nexts))} is the next of that line"
    newest = max(lines)
    return "" if version.release == (newest[0], newest[1] + 1, 0) else "no such release is near"


def _calls(patched: Patched, *, added: bool) -> Iterator[tuple[Edited, ast.Call, str, str]]:
    """Give the calls of methods: file, call, what the method is of, its name."""
    for path, file in patched.files.items():
        if path.endswith(".py"):
            for node in ast.walk(file.syntax):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and (file.adds(node.lineno) or not added)
                ):
                    yield file, node, ast.unparse(node.func.value), node.func.attr


def _read(patched: Patched) -> Iterator[tuple[Edited, int, str, str]]:
    for file, call, owner, method in _calls(patched, added=True):
        if owner == "conf" and method in READS and len(call.args) >= 2:
            section, name = call.args[:2]
            if isinstance(section, ast.Constant) and isinstance(name, ast.Constant):
                yield file, call.lineno, str(section.value), str(name.value)


def _metrics(patched: Patched) -> Iterator[Finding]:
    every = {entry.name: entry for entry in metrics(_text(patched, METRICS))}
    for file, call, owner, method in _calls(patched, added=True):
        if owner.rpartition(".")[2] not in ("stats", "Stats") or method not in METHODS or not every:
            continue
        name = _metric_name(call)
        entry = every.get(name)
        if entry is None:
            yield file.finding(
                call.lineno,
                "metric",
                f"The metric {name or ast.unparse(call)} is not in the registry.",
                f"Add it to {METRICS}.",
            )
        elif (kind := entry.says.get("type", (0, ""))[1].strip('"')) != METHODS[method]:
            yield file.finding(
                call.lineno,
                "metric",
                f"{method} is for a {METHODS[method]}, and {name} is a {kind}.",
                "Correct one of them.",
            )
    for path, file in patched.files.items():
        if path.endswith(".py"):
            for node in ast.walk(file.syntax):
                if (
                    isinstance(node, ast.ImportFrom)
                    and (node.module or "").endswith("observability.metrics.stats")
                    and METHODS.keys() & {alias.name for alias in node.names}
                    and file.adds(node.lineno)
                ):
                    yield file.finding(
                        node.lineno, "metric", "It imports a function of stats.", "Import the module stats."
                    )
    if METRICS in patched.files:
        file = patched.files[METRICS]
        used = {
            _metric_name(call) for _, call, _, method in _calls(patched, added=False) if method in METHODS
        }
        for entry in every.values():
            if file.adds(entry.line):
                yield from _form(file, entry, METRIC, "metric")
                if entry.name not in used:
                    yield file.finding(
                        entry.line, "metric", f"Nothing counts {entry.name}.", "Remove it, or count it."
                    )


def _metric_name(call: ast.Call) -> str:
    named = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "stat")]
    return str(named[0].value) if named and isinstance(named[0], ast.Constant) else ""
