"""Matplotlib's SVG made fit to stand within a page, beside others of its kind.

Names get a prefix, so that two figures do not share any; style attributes, which the page's policy forbids, become
classes of one style sheet, whose colours know dark paper; the fonts are the page's.
"""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree

from reports.html import colours

_SVG: Final = "{http://www.w3.org/2000/svg}"
_HREF: Final = "{http://www.w3.org/1999/xlink}href"
_TEXTS: Final = (f"{_SVG}text", f"{_SVG}tspan")
_DROPPED: Final = (f"{_SVG}metadata", f"{_SVG}style")
_LEFT_TO_THE_PAGE: Final = ("font-family",)
_COLOUR: Final = re.compile(r"#[0-9a-f]{6}\b")
_REFERENCE: Final = re.compile(r"url\(#([^)]+)\)")

ElementTree.register_namespace("", _SVG.strip("{}"))


class Styles:
    """The style sheet that the drawings of one page share: a class for each set of declarations."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def name(self, declarations: str) -> str:
        """The class with these `declarations`; colours in them are of light paper, and get their dark ones."""
        both = _COLOUR.sub(lambda found: f"light-dark({found[0]}, {colours.on_dark(found[0])})", declarations)
        return self._names.setdefault(both, f"d{len(self._names)}")

    def css(self) -> str:
        """The rules, a line each."""
        return "".join(f".{name}{{{declarations}}}\n" for declarations, name in self._names.items())


def inline(svg: str, prefix: str, title: str, description: str, styles: Styles) -> str:
    """`svg`, a document of matplotlib's, as an element of a page; `title` and `description` are for screen readers.

    Every id begins with `prefix`."""
    root = ElementTree.fromstring(svg)
    _drop(root)
    for element in root.iter():
        _rename(element, prefix)
        _restyle(element, styles)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"role": "img", "aria-labelledby": f"{prefix}title {prefix}description"}
    for name, text in (("description", description), ("title", title)):
        told = ElementTree.Element(f"{_SVG}{'title' if name == 'title' else 'desc'}", {"id": prefix + name})
        told.text = text
        root.insert(0, told)
    return ElementTree.tostring(root, encoding="unicode")


def _drop(root: ElementTree.Element) -> None:
    """Takes out metadata and style sheets, whose rules would be the whole page's, and groups without content."""
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in _DROPPED:
                parent.remove(child)
            else:
                # Matplotlib indents and breaks its lines; only within a text is that content.
                child.tail = None
        if parent.tag not in _TEXTS:
            parent.text = None
    for element in root.iter(f"{_SVG}text"):
        if len(element):
            element.text = None


def _rename(element: ElementTree.Element, prefix: str) -> None:
    if "id" in element.attrib:
        element.set("id", prefix + element.attrib["id"])
    if _HREF in element.attrib:
        element.set("href", "#" + prefix + element.attrib.pop(_HREF).removeprefix("#"))
    for name, value in element.attrib.items():
        element.set(name, _REFERENCE.sub(lambda found: f"url(#{prefix}{found[1]})", value))
    if "d" in element.attrib:
        element.set("d", " ".join(element.attrib["d"].split()))


def _restyle(element: ElementTree.Element, styles: Styles) -> None:
    declarations = [part.strip() for part in element.attrib.pop("style", "").split(";")]
    kept = [part for part in declarations if part and part.partition(":")[0].strip() not in _LEFT_TO_THE_PAGE]
    if kept:
        style = "; ".join(kept)
        if element.tag in _TEXTS:
            style = _COLOUR.sub(lambda found: colours.ink(found[0]), style)
        element.set("class", styles.name(style))
