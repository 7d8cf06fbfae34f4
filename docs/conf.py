"""The documentation site: ``scripts/docs`` builds it, from the repository's root."""

import hashlib
import sys
from importlib.metadata import version as version_of
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project, author, copyright = "popdyn", "The popdyn developers", "The popdyn developers"
version = release = version_of("popdyn-jko")

# The source is the repository, so that a relative link is the same there and on the site.
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "docs/gallery/*.py",
    "datasets/**.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
]
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "popdyn_pages",
]
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"
bibtex_default_style = "unsrt"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
nb_custom_formats = {".py": ["jupytext.reads", {"fmt": "py:percent"}]}
nb_execution_mode = "cache"
# A notebook is executed anew when it changes, and all are when popdyn does.
SOURCES = sorted((ROOT / "popdyn").rglob("*.py"))
DIGEST = hashlib.sha256(b"".join(source.read_bytes() for source in SOURCES)).hexdigest()[:12]
nb_execution_cache_path = str(ROOT / "build" / "notebooks" / DIGEST)
nb_execution_timeout = 900  # seconds a cell: a busy machine takes its time
nb_execution_raise_on_error = True
nb_execution_show_tb = True
nb_merge_streams = True

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
nitpicky = True
# Types of other projects, and what popdyn keeps to itself, have no page here.
nitpick_ignore_regex = [
    ("py:.*", r"(?!popdyn\.).*"),
    ("py:.*", r"popdyn\..*\.([A-Z]|Breach|Intervals|Learned|Scaling|Target)"),
]

html_theme = "furo"
html_title = "popdyn"
html_static_path = ["_static"]
html_css_files = ["popdyn.css"]
html_copy_source = False
html_show_sourcelink = False
html_logo = "_static/mark.svg"
html_favicon = "_static/mark.svg"
html_theme_options = {
    "sidebar_hide_name": False,
    "light_css_variables": {
        "color-brand-primary": "#1d5fa8",
        "color-brand-content": "#1d5fa8",
        "color-brand-visited": "#5b4a9e",
    },
    "dark_css_variables": {
        "color-brand-primary": "#7fb8ef",
        "color-brand-content": "#7fb8ef",
        "color-brand-visited": "#b3a5ec",
    },
}
highlight_language = "bash"
pygments_style, pygments_dark_style = "a11y-high-contrast-light", "a11y-high-contrast-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_selector = "div.highlight pre"
