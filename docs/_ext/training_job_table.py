# SPDX-License-Identifier: Apache-2.0
"""The table of the fields of a TrainingJob's spec, made from the code. Without Sphinx, as the tests read it."""

from __future__ import annotations

from airflow_provider_jobapi.services.sagemaker_ack import options, schema


def table() -> str:
    """Write the fields that have no fields of their own as a Markdown table."""
    paths = schema.fields()
    leaves = [path for path in paths if not any(other.startswith((f"{path}.", f"{path}[]")) for other in paths)]
    rows = [f"| `{path}` | {options.FROM_PARAMETERS.get(path, 'service_options')} |" for path in leaves]
    return "\n".join(["| field of `spec` | what sets it |", "| --- | --- |", *rows, ""])
