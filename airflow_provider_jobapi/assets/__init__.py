# SPDX-License-Identifier: Apache-2.0
"""Models as assets: how they are named, and what an event of theirs tells."""
