# SPDX-License-Identifier: Apache-2.0
"""The HTTP calls of the server: thin, each hands over to a room beside this one."""
