# SPDX-License-Identifier: Apache-2.0
"""The table of the lines in which metrics are recognised, made from the rules. Without Sphinx, as the tests read it."""

from __future__ import annotations

from airflow_provider_jobapi.training.metrics.patterns import documented


def table() -> str:
    """Write the rules as a Markdown table, each with what it reads of its example."""
    rows = []
    for rule, measured in documented():
        *before, line = rule.example.split("\n")
        shown = code(line) + "".join(f", after a line {code(each)}" for each in before)
        names = ", ".join(code(name) for name in measured.values)
        step = "" if measured.step is None else f"{measured.step:.4g}"
        rows.append(f"| {rule.name} | {rule.printed_by} | {shown} | {names} | {step} |")
    return "\n".join(["| rule | printed by | line | metrics | step |", "| --- | --- | --- | --- | --- |", *rows, ""])


def code(text: str) -> str:
    """A text as code in a cell of a table."""
    return "`" + " ".join(text.replace("|", "\\|").split()) + "`"
