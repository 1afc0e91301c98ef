# SPDX-License-Identifier: Apache-2.0
"""How the documentation is built."""

from airflow_provider_jobapi import __version__

project = "airflow-provider-jobapi"
author = "the airflow-provider-jobapi authors"
copyright = f"2026, {author}"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"{project} {release}"
html_extra_path = ["openapi.json", "metrics.schema.json"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
