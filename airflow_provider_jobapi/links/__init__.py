# SPDX-License-Identifier: Apache-2.0
"""The links that a task instance shows."""
