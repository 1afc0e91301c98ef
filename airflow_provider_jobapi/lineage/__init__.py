# SPDX-License-Identifier: Apache-2.0
"""Assets and OpenLineage: what a training reads and writes."""
