"""Sphinx settings; ``make docs`` builds the pages into docs/_build/html, without network."""

from __future__ import annotations

import pathlib
import sys

here = pathlib.Path(__file__).parent
sys.path.insert(0, str(here / "_ext"))

from autoexp import __version__  # noqa: E402

project = "nionswift-autoexp"
author = "the authors of nionswift-autoexp"
project_copyright = author
version = release = __version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "autoexp_reference"]
exclude_patterns = ["_build", "examples"]
templates_path: list[str] = []
nitpicky = False

html_theme = "furo"
html_title = f"nionswift-autoexp {release}"
html_static_path = ["_static"]
html_css_files = ["autoexp.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "light_css_variables": {"color-brand-primary": "#0060a0", "color-brand-content": "#0060a0"},
    "dark_css_variables": {"color-brand-primary": "#6cb8f0", "color-brand-content": "#6cb8f0"},
}
pygments_style = "friendly"
pygments_dark_style = "monokai"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
ALIASES = (
    "Scalarizer",
    "AgentSpec",
    "InstrumentSpec",
    "ev.Steering",
    "ev.Event",
    "Observer",
    "WhenDrawn",
    "metrics.Goal",
)
autodoc_type_aliases = {name: name.split(".")[-1] for name in ALIASES}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
