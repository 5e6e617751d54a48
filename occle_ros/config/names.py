# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Names that parameters, command-line options and launch arguments accept.

This module imports only `typing`, so that `occle --help` stays quick.
"""

from __future__ import annotations

from typing import Literal

EngineName = Literal["auto", "native", "torch", "torch_graph", "openvino", "onnxruntime", "tensorrt", "tensorrt_rtx"]
"""`occle_core.engines.loading.ENGINE_NAMES`, for the type checker and the help texts; a test compares the two."""
Precision = Literal["fp32", "fp16", "int8"]
"""`occle_core.engines.loading.PRECISIONS`, compared likewise."""
DatasetKind = Literal["semantickitti", "kitti", "kitti360", "nuscenes", "occle", "bag", "streets"]
"""The layouts that `occle_core.datasets.open_dataset` reads, compared likewise."""
