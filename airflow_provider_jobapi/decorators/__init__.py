# SPDX-License-Identifier: Apache-2.0
"""The decorators: how a function of a DAG file becomes a task."""
