"""Settings of the documentation site (`make docs`).

The site loads nothing from elsewhere: no fonts, scripts, badges or inventories. `.ci/check_site.py` checks the result.
"""

from pathlib import Path

from sphinx.application import Sphinx

import onionmpc

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


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("include-read", link_included_pages)
