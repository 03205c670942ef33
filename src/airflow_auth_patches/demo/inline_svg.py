"""Convert figures of Matplotlib into SVG elements of an HTML page, in a light and a dark scheme."""

from __future__ import annotations

import io
import re
from xml.etree import ElementTree

import matplotlib
from matplotlib.figure import Figure

SVG, XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
#: For each color of the figures, its replacement on a dark background.
DARK = {
    "#1f2328": "#e6edf3",
    "#59636e": "#9da7b1",
    "#d8dee4": "#3d444d",
    "#dddddd": "#3d444d",
    "#bf8700": "#e3b341",
    "#3f7cac": "#6cb2eb",
    "#7f2704": "#ffd8bd",
    "#d55e00": "#ff8f3f",
    "#8250df": "#bc8cff",
    "#0072b2": "#58a6ff",
    "#009e73": "#2fc597",
    "#cc79a7": "#e39ac0",
    "#aaaaaa": "#7d8590",
}
_COLOR = re.compile(r"(?<=: )#[0-9a-f]{6}")
_REFERENCE = re.compile(r"(?<=url\(#)[^)]+")


def variables(*, dark: bool) -> dict[str, str]:
    """
    Return the CSS variables of the colors, for a style sheet.

    :param dark: whether to return the colors for a dark background.
    :return: the colors by the name of the variable: ``{"--c1f2328": "#1f2328"}``.
    """
    return {variable(light): replacement if dark else light for light, replacement in DARK.items()}


def variable(color: str) -> str:
    """Return the name of the CSS variable of a color: ``--c1f2328``."""
    return f"--c{color[1:]}"


def convert(figure: Figure, name: str, text: str) -> str:
    """
    Convert a figure into an SVG element.

    Colors in `DARK` become CSS variables. The element has no size, so that it fills its container.

    :param figure: the figure; it must have a transparent background.
    :param name: the prefix of all ids, unique in the page.
    :param text: the title, which describes the figure for readers who do not see it.
    :return: the element, as HTML.
    """
    target = io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    # The same data gives the same bytes. Text is not converted to paths.
    with matplotlib.rc_context({"svg.hashsalt": name, "svg.fonttype": "none"}):
        figure.savefig(target, format="svg", metadata=metadata, transparent=True)
    root = ElementTree.fromstring(target.getvalue())
    for attribute in ("width", "height", "version"):
        root.attrib.pop(attribute, None)
    if (metadata_element := root.find(f"{{{SVG}}}metadata")) is not None:
        root.remove(metadata_element)
    _rename(root, name)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title")
    title = ElementTree.Element(f"{{{SVG}}}title", id=f"{name}-title")
    title.text = text
    root.insert(0, title)
    ElementTree.register_namespace("", SVG)
    ElementTree.register_namespace("xlink", XLINK)
    return _COLOR.sub(_replacement, ElementTree.tostring(root, encoding="unicode"))


def _rename(root: ElementTree.Element, name: str) -> None:
    """Add a prefix to the ids that are used in the figure, and remove the others."""
    used = set()
    for element in root.iter():
        for attribute, value in element.attrib.items():
            if attribute == f"{{{XLINK}}}href":
                used.add(value[1:])
                element.set(attribute, f"#{name}-{value[1:]}")
            elif found := _REFERENCE.findall(value):
                used.update(found)
                element.set(attribute, _REFERENCE.sub(lambda match: f"{name}-{match[0]}", value))
    for element in root.iter():
        if (own := element.attrib.pop("id", None)) in used:
            element.set("id", f"{name}-{own}")


def _replacement(match: re.Match[str]) -> str:
    return f"var({variable(match[0])})" if match[0] in DARK else match[0]
