# SPDX-License-Identifier: Apache-2.0
"""Metrics of a training: how they are defined, found in log lines, and kept."""
