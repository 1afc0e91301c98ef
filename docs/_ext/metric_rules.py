# SPDX-License-Identifier: Apache-2.0
"""The directive ``metric-rules``: a table of the lines in which metrics are recognised, made from the rules themselves.

::

    ```{metric-rules}
    ```
"""

from __future__ import annotations

from docutils import nodes
from metric_table import table
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class MetricRules(SphinxDirective):
    """Show the table."""

    def run(self) -> list[nodes.Node]:
        """Parse the table as Markdown, in place of the directive."""
        return self.parse_text_to_nodes(table())


def setup(app: Sphinx) -> dict[str, bool]:
    """Add the directive to Sphinx."""
    app.add_directive("metric-rules", MetricRules)
    return {"parallel_read_safe": True}
