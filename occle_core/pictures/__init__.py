# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pictures of labelled voxels for people to judge: (H, W, 3) uint8 RGB arrays, drawn with OpenCV."""

from __future__ import annotations

from occle_core.pictures.overlay import overlay
from occle_core.pictures.page import legend, panel
from occle_core.pictures.perspective import perspective
from occle_core.pictures.top_view import top_view

__all__ = ["legend", "overlay", "panel", "perspective", "top_view"]
