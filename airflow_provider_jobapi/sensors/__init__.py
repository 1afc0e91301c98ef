# SPDX-License-Identifier: Apache-2.0
"""The sensors: what waits for work that is not the DAG's own."""
