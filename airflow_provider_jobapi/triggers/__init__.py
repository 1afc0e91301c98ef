# SPDX-License-Identifier: Apache-2.0
"""The triggers: what waits for a job without a worker."""
