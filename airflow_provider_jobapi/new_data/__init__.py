# SPDX-License-Identifier: Apache-2.0
"""New files in a folder or a bucket, as events for assets."""
