# SPDX-License-Identifier: Apache-2.0
"""The Training tab of the task-instance page: files for the browser, without a build step, and what serves them."""
