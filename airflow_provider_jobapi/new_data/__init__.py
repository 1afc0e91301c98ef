# SPDX-License-Identifier: Apache-2.0
"""Asset events for new files in a folder or a bucket."""
