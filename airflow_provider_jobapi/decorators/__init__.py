# SPDX-License-Identifier: Apache-2.0
"""The decorator ``@task.training``, which makes a script of a function of a DAG file."""
