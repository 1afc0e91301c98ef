# SPDX-License-Identifier: Apache-2.0
"""The server's HTTP side: routes, tokens, limits, and errors as problem+json."""
