"""How Sphinx makes the documentation: `make docs`, into build/docs."""

import dicomnet

project = "dicomnet"
author = "the dicomnet developers"
copyright = author  # noqa: A001 Sphinx's name for it
version = release = dicomnet.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = f"dicomnet {version}"
exclude_patterns = ["Thumbs.db"]

myst_heading_anchors = 3
# Fields that several classes have are named in each.
suppress_warnings = ["ref.python"]
default_role = "py:obj"  # docstrings name things in single backticks: a link where it is one, else code

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # signatures of data sets and buffers are long; the docstrings say what is wanted
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_class_signature = "separated"
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def without_signature(app, what, name, thing, options, lines):
    """Cython puts a signature on the first line of a docstring; where it is a class, Sphinx takes it for text."""
    if lines and lines[0].startswith(f"{name.rpartition('.')[2]}("):
        del lines[0]


def setup(app):
    """Sphinx calls this."""
    app.connect("autodoc-process-docstring", without_signature)
