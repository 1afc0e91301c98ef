# SPDX-License-Identifier: Apache-2.0
"""Metrics of a training, and how far it is: how they are defined, found in log lines, and kept.

``job_metrics`` holds all of a job's: those of its log (``definitions``, whose regular expressions the module
``definition_search`` runs) and those of its event files. A log line goes through ``patterns``, the table of rules:
``prefixes`` takes off what a logger put before it, ``idle_lines`` says whether any rule need be asked, and
``rule_readers`` reads it for the rule that matches, with the help of ``place_in_line``, its step or epoch, and
``name_value_pairs``, ``dicts`` and ``tables``; ``names`` tells a metric from a setting. ``place_in_log`` keeps the
place from line to line. The result is a ``Measured`` (``line_metrics``), of which ``steps`` and ``series`` make
curves. ``helper`` reads what scripts write with ``jobapi_metrics``. ``progress`` and the modules of that name find
how far a job is.
"""
