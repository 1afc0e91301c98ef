# SPDX-License-Identifier: Apache-2.0
"""Which hosts are this machine. Standard library only, since ``jobapi --help`` imports it."""

from __future__ import annotations

import ipaddress


def is_loopback(host: str) -> bool:
    """Whether a host name or address can be reached from this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
