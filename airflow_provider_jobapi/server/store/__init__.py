# SPDX-License-Identifier: Apache-2.0
"""What the server keeps: jobs, objects, blobs, clients, and where they lie on disk."""
