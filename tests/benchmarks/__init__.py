# SPDX-License-Identifier: Apache-2.0
"""Numbers that are told and not tested: ``python -m tests.benchmarks``."""
