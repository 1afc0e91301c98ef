# SPDX-License-Identifier: Apache-2.0
"""The extra links of a task instance."""
