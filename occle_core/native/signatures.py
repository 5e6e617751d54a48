# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The library's functions: what they return and take. p: an array or a pool, i: int64, f: float, d: double, v: nothing."""

from __future__ import annotations

SIGNATURES: dict[str, tuple[str, str]] = {
    # conv.cpp
    "lanes": ("i", ""),
    "tile_rows": ("i", ""),
    "pairs_region": ("i", "i"),
    "pool_create": ("p", "i"),
    "pool_destroy": ("v", "p"),
    "pairs_of_cells": ("v", "pppipipippp"),
    "pairs_of_map": ("v", "ppiiippp"),
    "turned_map": ("v", "piiip"),
    "convolve": ("v", "ppiipiipppipip"),
    "correlate": ("v", "ppipiipppip"),
    "linear": ("v", "ppiiipipip"),
    # coordinates.cpp
    "enter_cells": ("i", "piiiiipp"),
    "strided_cells": ("i", "piiiiiiiiippppp"),
    "grown_cells": ("i", "piiiipp"),
    "children_cells": ("v", "piiiiip"),
    "add_at_cells": ("v", "ppipiipp"),
    "unite_cells": ("i", "ppipiipp"),
    "places_of_cells": ("v", "piiip"),
    # decoder.cpp
    "finest_parents": ("i", ""),
    "excite": ("v", "pppiiipppppp"),
    "prune_cells": ("i", "ppiipff"),
    "finest_level": ("i", "ppiiipipppp" + "ip" + "pff" + "ppppp"),
    "label_cells": ("i", "ppiiipipii" + "pppp"),
    # images.cpp
    "winograd_room": ("i", "i"),
    "look_up_pixels": ("v", "ppiiipip"),
    "convolve_images": ("v", "ppiiiiipiiippiiipi"),
    "convolve_winograd": ("v", "ppiiiipiiipp" + "ipip"),
    "largest_of_images": ("v", "ppiiiip"),
    # mapping.cpp
    "network_evidence": ("v", "ppiiipiipppp"),
    "read_grid": ("i", "ppiii" + "ppp" + "iiiiiii" + "ppi" + "pppp"),
    "add_evidence": ("v", "ppipiiip"),
    "vote_classes": ("v", "pipppiipppp"),
    # points.cpp
    "encoder_rows": ("i", ""),
    "fuse_points": ("v", "ppppiiipfppiipipp"),
    "encode_voxels": ("v", "ppiipiiippppppp"),
    # prepare.cpp
    "transform_points": ("v", "piipp"),
    "cells_of_points": ("v", "piiipfiiipp"),
    "sort_points": ("i", "pipippp"),
    "keep_points": ("v", "pppiiiiipppp"),
    "features_of_points": ("v", "piippipipdpppp"),
    "view_of_points": ("v", "piipiiiippp"),
    "move_points": ("v", "piipffpip"),
    # rays.cpp
    "end_rays": ("v", "piiippippp"),
    "pass_rays": ("v", "ppiiiip"),
    # resize.cpp
    "resize_area": ("v", "piiiiippp"),
}
