# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The ament_python package `occle_ros`: for colcon as well as for pip. Versions are ranges here, and exact in constraints/."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

NAME = "occle_ros"
ROOT = Path(__file__).resolve().parent

# Ranges that were tested: the lower ends are what older ROS distributions bring (README.md, Status, says what ran where).
# Exact versions are in constraints/: pip install -c constraints/pip.txt ...
CORE = [
    "torch>=2.8",  # any build: CPU, CUDA, Jetson's; one that is installed is left alone
    "numpy>=1.21",
    "opencv-python-headless>=4.5",
    "simplejpeg>=1.9",
    "safetensors>=0.4",
    "pydantic>=2.5.3",
    "typer>=0.19",
    "rich>=13",
    "pyyaml>=5.4",
    "rosbags>=0.11",
    "mcap>=1.6",
    "zstandard>=0.22",
    "backports.zstd>=1.0; python_version < '3.14'",
]
TENSORRT_RTX = "tensorrt-rtx-cu13==1.7.1.116; sys_platform == 'linux' and platform_machine == 'x86_64'"
EDT = "edt==3.1.2"
# The street simulator's ray caster: embreex has wheels for amd64 alone.
RAY_CASTERS = ["embreex>=4.4; platform_machine == 'x86_64'", "libigl>=2.6.3; platform_machine != 'x86_64'"]
KISS_ICP = "kiss-icp==1.3.0"
EXTRAS = {
    # ROS 2 Kilted for machines without a ROS installation; the wheels are for amd64.
    "ros": [
        f"{name}=={version}; platform_machine == 'x86_64'"
        for name, version in {
            "ros-rclpy": "9.1.2",
            "ros-rmw-fastrtps-cpp": "9.3.3",
            "ros-sensor-msgs": "5.5.1",
            "ros-geometry-msgs": "5.5.1",
            "ros-std-msgs": "5.5.1",
            "ros-visualization-msgs": "5.5.1",
            "ros-diagnostic-msgs": "5.5.1",
            "ros-nav-msgs": "5.5.1",
            "ros-std-srvs": "5.5.1",
            "ros-rosgraph-msgs": "2.3.0",
            "ros-ament-index-python": "1.11.0",
        }.items()
    ],
    # Inference engines for CPUs. Those for NVIDIA GPUs are in docs/how_to/tensorrt.md.
    "engines": ["openvino>=2025.0", "onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"],
    "tensorrt_rtx": [TENSORRT_RTX],
    "tensorrt": ["torch-tensorrt==2.13.0"],
    # Three-dimensional distance fields of the map.
    "map": [EDT],
    # The rerun viewer (`occle view` without --html). Its wheels need numpy 2.
    "viewer": ["rerun-sdk>=0.39"],
    # Poses from the scans, for recordings without odometry.
    "odometry": [KISS_ICP],
    # Quantising; a quantised bundle runs without it.
    "int8": ["nncf>=3.0"],
    # Label images, weak targets and scores on a Ray cluster.
    "cluster": ["ray>=2.50"],
    "simulate": RAY_CASTERS,
    "train": [*RAY_CASTERS, "matplotlib>=3.8"],
    "test": [
        "spconv==2.3.8; platform_machine == 'x86_64' and python_version < '3.14'",
        TENSORRT_RTX,
        EDT,
        "libigl==2.6.3",
        KISS_ICP,
        # Independent references of the map's distances, objects and OctoMap files.
        "scipy==1.17.1; python_version >= '3.11'",
        "scipy==1.15.3; python_version < '3.11'",
        "pyoctomap==1.2.2",
        "ray==2.50.0; python_version < '3.14'",
        "triton==3.7.1; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "transformers==5.23.0; python_version >= '3.11'",
        "transformers==5.20.2; python_version < '3.11'",
        "pytest==9.2.0",
        "pytest-timeout==2.4.0",
        "pytest-xdist==3.8.0",
        "hypothesis==6.170.15; python_version >= '3.11'",
        "hypothesis==6.168.5; python_version < '3.11'",
        "ruff==0.17.5",
        "mypy==2.4.1",
        "vermin==1.6.0",
        "types-PyYAML==6.0.12.20261113",
        "setuptools==84.2.1",  # test_packaging.py builds without isolation
    ],
    # The documentation site: `make docs`.
    "docs": [
        "mkdocs==1.6.1",
        "mkdocs-material==9.8.2; python_version >= '3.11'",
        "mkdocs-material==9.7.7; python_version < '3.11'",
        "mkdocstrings-python==2.0.11; python_version >= '3.11'",
        "mkdocstrings-python==2.0.9; python_version < '3.11'",
        "pymdown-extensions==13.1.2; python_version >= '3.11'",
        "pymdown-extensions==11.0.2; python_version < '3.11'",  # 12 does not fit the mkdocstrings of Python 3.10
    ],
}


def version() -> str:
    """The version in occle_core/__init__.py, read without importing what it needs."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "occle_core" / "__init__.py").read_text("utf-8"), re.MULTILINE)
    assert found, "occle_core/__init__.py has no __version__"
    return found[1]


def shared_files() -> list[tuple[str, list[str]]]:
    """(folder in the installation, files) of everything that ROS and `occle_core.paths` look for in share/."""
    share = Path("share") / NAME
    found: dict[Path, list[str]] = {
        Path("share/ament_index/resource_index/packages"): [f"resource/{NAME}"],
        share: ["package.xml"],
    }
    for top in ("launch", "config"):
        for file in sorted((ROOT / top).rglob("*")):
            relative = file.relative_to(ROOT)
            if file.is_file() and not any(part.startswith((".", "__")) for part in relative.parts):
                found.setdefault(share / relative.parent, []).append(str(relative))
    return [(str(folder), files) for folder, files in found.items()]


if __name__ == "__main__":  # scripts/requirements.py reads the lists above
    setup(
        name=NAME,
        version=version(),
        description="Live 3D semantic occupancy from cameras and a LiDAR, with networks that learn from few labels",
        license="Apache-2.0",
        python_requires=">=3.10",
        packages=[*find_packages(include=["occle_core*", "occle_ros*"]), *find_packages("training")],
        package_dir={"occle_train": "training/occle_train"},
        package_data={
            "": ["py.typed", "data/**/*", "*.yaml", "*.csv"],
            "occle_core.native": ["src/*.cpp", "src/*.h", "_prebuilt/*.so"],
        },
        data_files=shared_files(),
        install_requires=CORE,
        extras_require=EXTRAS,
        entry_points={
            "console_scripts": [
                "occle = occle_ros.cli:main",
                "occle-train = occle_train.cli:main",
                "occupancy_node = occle_ros.cli:occupancy_node",
            ]
        },
        zip_safe=False,
    )
