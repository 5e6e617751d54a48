# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Decoders of sensor messages and files: point clouds, images, camera models, transforms. numpy on duck-typed messages."""
