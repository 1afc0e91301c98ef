# SPDX-License-Identifier: Apache-2.0
"""The page that says in which lines metrics are recognised, made from the rules of the installed version."""

from __future__ import annotations

from functools import lru_cache
from html import escape

from airflow_provider_jobapi.training.metrics.patterns import documented

NAME = "metrics.html"
"""The page's name beside the files of the tab, which links to it."""

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Lines in which metrics are recognised</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem }}
table {{ border-collapse: collapse }} th, td {{ border: 1px solid #8888; padding: .3rem .6rem; text-align: left }}
pre {{ margin: 0; white-space: pre-wrap; overflow-wrap: anywhere }}</style>
<h1>Lines in which metrics are recognised</h1>
<p>Also behind the times, levels and names that loggers put before a line.
Settings, ids, times and sizes are no metrics.</p>
<table><thead><tr><th scope="col">Rule<th scope="col">Printed by<th scope="col">Lines<th scope="col">Metrics
<th scope="col">Step</tr></thead>
<tbody>
{rows}
</tbody></table>
<h2>For other lines</h2>
<p>Give the task definitions, each a name and a regular expression around the value, and if it is there the step:</p>
<pre><code>metric_definitions=[{{"name": "loss", "regex": r"#(?P&lt;step&gt;\\d+): L=([0-9.]+)"}}]</code></pre>
<p>Or write the metrics with the helper, one file for the script without dependencies:</p>
<pre><code>data_input={{"jobapi_metrics.py": Path(jobapi_metrics.__file__)}}  # from airflow_provider_jobapi.training

import jobapi_metrics
jobapi_metrics.log(step, loss=0.25, accuracy=0.9)</code></pre>
<h2>Without lines</h2>
<p>A jobAPI server also reads the scalars that a job writes into event files of TensorBoard below its working
directory.</p>
</html>
"""


@lru_cache(maxsize=1)
def page() -> str:
    """The page, as HTML."""
    rows = [
        "<tr><td>{}<td>{}<td><pre>{}</pre><td>{}<td>{}</tr>".format(
            escape(rule.name),
            escape(rule.printed_by),
            escape(rule.example),
            escape(", ".join(f"{name} {value:.6g}" for name, value in measured.values.items())),
            "" if measured.step is None else f"{measured.step:.4g}",
        )
        for rule, measured in documented()
    ]
    return _PAGE.format(rows="\n".join(rows))
