"""The rules for Airflow's registries: options in config.yml, and metrics in metrics_template.yaml."""

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
#: The keys of an option: the pattern of the value, and an example.
OPTION = {
    "description": (r"\|", "description: |"),
    "version_added": (r"\d+\.\d+\.\d+", "version_added: 3.4.0"),
    "type": (r"string|boolean|integer|float", "type: integer"),
    "example": (r"~|\".*\"|'.*'|-?\d+(\.\d+)?", "example: ~"),
    "default": (r"~|\".*\"|'.*'", 'default: "64"'),
}
#: The keys of a metric: the pattern of the value, and an example. New metrics have no legacy name.
METRIC = {
    "description": (r"\".+\"", 'description: "..."'),
    "type": (r"\"(counter|gauge|timer)\"", 'type: "counter"'),
    "legacy_name": (r"\"-\"", 'legacy_name: "-"'),
    "name_variables": (r"\[\]", "name_variables: []"),
}
#: The methods of stats, each with its type of metric.
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
    :param section: the section of an option.
    :param says: ``{key: (line, value as written)}``, in the order of the file.
    """

    name: str
    line: int
    section: str = ""
    says: dict[str, tuple[int, str]] = field(default_factory=dict)


def options(text: str) -> Iterator[Entry]:
    """Yield the options of config.yml, where section, ``options:``, option and keys are nested."""
    section, entry = "", None
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.fullmatch(r"(\w+):", line):
            section, entry = match[1], None
        elif match := re.fullmatch(r"    (\w+):", line):
            yield (entry := Entry(match[1], number, section))
        elif entry and (match := re.fullmatch(r"      (\w+):(?: (.*))?", line)):
            entry.says[match[1]] = number, (match[2] or "").strip()


def metrics(text: str) -> Iterator[Entry]:
    """Yield the metrics of metrics_template.yaml, which is a list with the name first in each entry."""
    entry = None
    for number, line in enumerate(text.splitlines(), 1):
        if match := re.fullmatch(r"  - name: \"?([^\"]+)\"?", line):
            yield (entry := Entry(match[1], number))
        elif entry and (match := re.fullmatch(r"    (\w+):(?: (.*))?", line)):
            entry.says[match[1]] = number, (match[2] or "").strip()


def check(patched: Patched, pins: Pins) -> Iterator[Finding]:
    """
    Yield the findings in the options and metrics that patches add to a release.

    * ``config``: an option has all keys in the format of the schema, ``version_added`` is a future release,
      the option occurs once in its section, and added code reads it. Added code reads only known options.
    * ``metric``: an entry has all keys in the right format and is used. Each added call of stats has an entry
      with its type, and is made through the module.
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
            yield file.finding(line, rule, f"{entry.name} has no {key}.", f"Add it: {shown}.")
        elif not re.fullmatch(form, value):
            yield file.finding(
                line, rule, f"{key} of {entry.name} is {value or 'empty'}.", f"Write it as: {shown}."
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
                f"It reads [{section}] {name}, which is not in config.yml.",
                "Add the option to config.yml.",
            )
    if CONFIG not in patched.files:
        return
    file = patched.files[CONFIG]
    for entry in every:
        if not file.adds(entry.line):
            continue
        yield from _form(file, entry, OPTION, "config")
        line, version = entry.says.get("version_added", (entry.line, ""))
        if fault := _not_future(version, patched.release, pins):
            yield file.finding(
                line,
                "config",
                f"version_added of {entry.name} is {version}: {fault}.",
                "Use the next release.",
            )
        twins = [other for other in every if (other.section, other.name) == (entry.section, entry.name)]
        if len(twins) > 1:
            yield file.finding(
                entry.line, "config", f"[{entry.section}] has {entry.name} twice.", "Remove one."
            )
        if (entry.section, entry.name) not in {(section, name) for _, _, section, name in read}:
            yield file.finding(
                entry.line,
                "config",
                f"No added code reads [{entry.section}] {entry.name}.",
                "Move it to the section that the code reads, or remove it.",
            )


def _not_future(text: str, release: Release, pins: Pins) -> str:
    """Return why a version is not the next release of a line that can get the change; empty if it is."""
    try:
        version = Version(text)
    except InvalidVersion:
        return "that is not a version"
    lines: dict[tuple[int, ...], Version] = {}
    for other in pins.releases:
        if other.distribution is release.distribution:
            lines[other.version.release[:2]] = max(
                other.version, lines.get(other.version.release[:2], other.version)
            )
    line = version.release[:2]
    if line < release.version.release[:2]:
        return "that line is older than the release"
    last = lines.get(line)
    if last is not None:
        nexts = (*last.release[:2], last.micro + 1)
        return "" if version.release == nexts else f"the next of that line is {'.'.join(map(str, nexts))}"
    newest = max(lines)
    return "" if version.release == (newest[0], newest[1] + 1, 0) else "that is not the next line"


def _calls(patched: Patched, *, added: bool) -> Iterator[tuple[Edited, ast.Call, str, str]]:
    """Yield the method calls: file, call, owner of the method, name of the method."""
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
                "Correct the method or the type.",
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
                        node.lineno,
                        "metric",
                        "It imports a function of stats.",
                        "Import the module stats instead.",
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
                        entry.line, "metric", f"No code uses the metric {entry.name}.", "Use it or remove it."
                    )


def _metric_name(call: ast.Call) -> str:
    named = [*call.args[:1], *(keyword.value for keyword in call.keywords if keyword.arg == "stat")]
    return str(named[0].value) if named and isinstance(named[0], ast.Constant) else ""
