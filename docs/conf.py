"""Settings of Sphinx: `make docs` builds the site into build/docs, without the network."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent)]

import jaxnn  # noqa: E402

project = "jaxnn"
version = release = jaxnn.__version__
author = copyright = "The jaxnn authors"

extensions = ["handbook", "myst_parser", "sphinx.ext.viewcode"]
exclude_patterns = ["_ext", "_made", "coming/_*"]
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
suppress_warnings = ["myst.header"]  # parts that pages include begin below the first level

smartquotes = False
add_module_names = False
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
viewcode_follow_imported_members = True
toc_object_entries_show_parents = "hide"

html_theme = "furo"
html_title = f"jaxnn {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"top_of_page_buttons": []}
pygments_style = "a11y-high-contrast-light"
pygments_dark_style = "a11y-high-contrast-dark"
