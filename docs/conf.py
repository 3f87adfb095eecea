"""Settings of the documentation site (`make docs`).

The site loads nothing from elsewhere: no fonts, scripts, badges or inventories. `.ci/check_site.py` checks the result.
"""

from pathlib import Path

import click
from sphinx.application import Sphinx

import onionmpc
from onionmpc.cli.options import OPTIONS

project = "onionmpc"
copyright = "the onionmpc authors"  # noqa: A001 (Sphinx's name)
release = version = onionmpc.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_click"]
exclude_patterns: list[str] = []

# Headings get the anchors that forges give them, so a link works in a checkout and on the site.
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

# "--parties" is two hyphens, also in prose.
smartquotes = False

napoleon_use_ivar = True  # an "Attributes:" section does not document an attribute a second time
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"

html_theme = "furo"
html_title = "onionmpc"
html_show_sphinx = False
html_copy_source = False


def link_included_pages(_app: Sphinx, _path: Path, _document: str, content: list[str]) -> None:
    """Let the pages of the top level link to each other on the site, where they have pages of their own."""
    for name in ("CHANGELOG", "CONTRIBUTING", "SECURITY"):
        content[0] = content[0].replace(f"]({name}.md)", f"]({name.lower()}.md)")


def add_details(_app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Put what --help has no room for below each option."""
    details = {
        flag: OPTIONS[parameter.name].details
        for parameter in context.command.params
        if parameter.name in OPTIONS
        for flag in parameter.opts
    }
    below: list[str] = []
    result: list[str] = []
    for line in [*lines, ".. option:: end"]:
        if below and line.strip().startswith((".. option:: ", ":")):  # the next option, or a field of this one
            result += below
            below = []
        if line.startswith(".. option:: "):
            more = next((text for flag, text in details.items() if flag in line.replace(",", " ").split()), "")
            below = [f"    {more}", ""] if more else []
        result.append(line)
    lines[:] = result[:-1]


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("include-read", link_included_pages)
    app.connect("sphinx-click-process-options", add_details)
