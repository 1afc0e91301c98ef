# SPDX-License-Identifier: Apache-2.0
"""The directive ``connection-fields``: a table of the fields of a connection, made from its model.

::

    ```{connection-fields} airflow_provider_jobapi.services.jobapi.connection.JobApiConnection
    ```
"""

from __future__ import annotations

from importlib import import_module

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from airflow_provider_jobapi.services.fields import ConnectionSettings, Field

STANDARD = {"host": "Host", "login": "Login", "password": "Password"}


def table(model: type[ConnectionSettings]) -> str:
    """Write the fields as two Markdown tables: those of every Airflow connection, and the keys of the extra."""
    fields = model.fields().values()
    standard = [
        f"| {STANDARD[field.key]} (*{field.label}*) | {escaped(field.description)} |"
        for field in sorted(fields, key=lambda field: list(STANDARD).index(field.key) if not field.in_extra else -1)
        if not field.in_extra
    ]
    if standard:
        standard.insert(1, "| Port | The port, where the host does not contain it. |")
        standard = ["| field | meaning |", "| --- | --- |", *standard, ""]
    extra = [
        f"| `{field.key}` | {escaped(field.description)} | {default(field)} |" for field in fields if field.in_extra
    ]
    return "\n".join([
        *standard, "| key of the extra | meaning | default |", "| --- | --- | --- |", *extra, "",
    ])  # fmt: skip


def default(field: Field) -> str:
    """The default of a field as Markdown."""
    if field.required:
        return "required"
    if field.default_text or field.default is None:
        return escaped(field.default_text)
    return f"`{str(field.default).lower()}`"


def escaped(text: str) -> str:
    """A plain text as Markdown."""
    return "".join(f"\\{letter}" if letter in "\\<>|*_`[]" else letter for letter in text)


class ConnectionFields(SphinxDirective):
    """Show the tables of one model, which the argument names by its import path."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the nodes of the tables."""
        module, _, name = self.arguments[0].rpartition(".")
        return self.parse_text_to_nodes(table(getattr(import_module(module), name)))


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("connection-fields", ConnectionFields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
