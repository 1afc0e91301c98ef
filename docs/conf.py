# SPDX-License-Identifier: Apache-2.0
"""How the documentation is built."""

import sys
from pathlib import Path

from airflow_provider_jobapi import __version__

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "airflow-provider-jobapi"
author = "the airflow-provider-jobapi authors"
copyright = f"2026, {author}"
release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "connection_fields", "metric_rules", "training_job_fields"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "_ext"]

html_theme = "furo"
html_title = f"{project} {release}"
html_extra_path = ["openapi.json", "metrics.schema.json"]

autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True, "show-inheritance": True}
