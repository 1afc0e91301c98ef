# SPDX-License-Identifier: Apache-2.0
"""Triggers: wait for jobs and for new data in the triggerer."""
