# SPDX-License-Identifier: Apache-2.0
"""Digits of 8 by 8 pixels."""
