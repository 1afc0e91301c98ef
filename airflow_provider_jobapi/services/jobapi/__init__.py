# SPDX-License-Identifier: Apache-2.0
"""The jobAPI room: what a jobAPI is asked, how its answers are read, and the two sides that do so."""
