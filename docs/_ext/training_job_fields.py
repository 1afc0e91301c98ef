# SPDX-License-Identifier: Apache-2.0
"""The directive ``training-job-fields``: every field of a TrainingJob's spec, and what sets it, made from the code."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from training_job_table import table


class TrainingJobFields(SphinxDirective):
    """Show the table."""

    def run(self) -> list[nodes.Node]:
        """Parse the table as Markdown."""
        return self.parse_text_to_nodes(table())


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("training-job-fields", TrainingJobFields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
