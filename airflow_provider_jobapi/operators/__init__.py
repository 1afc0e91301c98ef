# SPDX-License-Identifier: Apache-2.0
"""The operators that train a model and fetch one."""
