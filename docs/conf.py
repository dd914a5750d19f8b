"""How Sphinx builds these pages: `make docs`, offline, warnings are errors."""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vxp_data import __version__

project = "vxp"
author = "The vxp authors"
copyright = "The vxp authors, Apache-2.0"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"vxp {__version__}"

# Links from page to page name a heading as a code host does: shards-and-loader.md#the-record.
myst_heading_anchors = 4

autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False  # "name: what it is" under Returns is no type
napoleon_custom_sections = [("Source", "notes_style")]


def link_as_files(app: Any, page: str, source: list[str]) -> None:
    """Make links to Markdown files beside docs/ links to files: they are no pages of this site."""
    del app, page
    source[0] = re.sub(r"\]\((\.\./[^)#]*\.md)\)", r"](path:\1)", source[0])


def setup(app: Any) -> None:
    """Called when Sphinx loads this file."""
    app.connect("source-read", link_as_files)
