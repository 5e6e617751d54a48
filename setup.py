"""The ament_python package `occle_ros`: for colcon as well as for pip. Versions are pinned here and nowhere else."""

from __future__ import annotations

from pathlib import Path

from setuptools import find_packages, setup

NAME = "occle_ros"
ROOT = Path(__file__).resolve().parent

CORE = [
    "torch==2.13.0",
    "numpy==2.4.6; python_version >= '3.11'",
    "numpy==2.2.6; python_version < '3.11'",
    "opencv-python-headless==5.0.0.93",
    "simplejpeg==1.9.0",
    "safetensors==0.8.0",
    "pydantic==2.14.3",
    "typer==0.29.2; python_version >= '3.11'",
    "typer==0.29.1; python_version < '3.11'",
    "rich==15.0.0",
    "pyyaml==6.0.3",
    "rosbags==0.11.9",
    "mcap==1.6.0",
    "zstandard==0.25.0",
    "backports.zstd==1.8.0; python_version < '3.14'",
]
TENSORRT_RTX = "tensorrt-rtx-cu13==1.7.1.116; sys_platform == 'linux' and platform_machine == 'x86_64'"
EDT = "edt==3.1.2"
EXTRAS = {
    # ROS 2 Kilted for machines without a ROS installation.
    "ros": [
        "ros-rclpy==9.1.2",
        "ros-rmw-fastrtps-cpp==9.3.3",
        "ros-sensor-msgs==5.5.1",
        "ros-geometry-msgs==5.5.1",
        "ros-std-msgs==5.5.1",
        "ros-visualization-msgs==5.5.1",
        "ros-diagnostic-msgs==5.5.1",
        "ros-nav-msgs==5.5.1",
        "ros-std-srvs==5.5.1",
        "ros-rosgraph-msgs==2.3.0",
        "ros-ament-index-python==1.11.0",
    ],
    # Inference engines for CPUs. Those for NVIDIA GPUs are in docs/tensorrt.md.
    "engines": [
        "openvino==2026.4.1",
        "onnx==1.23.2",
        "onnxscript==0.7.2",
        "onnxruntime==1.31.1",
    ],
    "tensorrt_rtx": [TENSORRT_RTX],
    "tensorrt": ["torch-tensorrt==2.13.0"],
    # Three-dimensional distance fields of the map.
    "map": [EDT],
    # Quantising; a quantised bundle runs without it.
    "int8": ["nncf==3.4.0"],
    "train": [
        "embreex==4.4.0.post1",
        "matplotlib==3.11.2; python_version >= '3.11'",
        "matplotlib==3.10.9; python_version < '3.11'",
    ],
    "test": [
        "spconv==2.3.8",
        TENSORRT_RTX,
        EDT,
        # Independent references of the map's distances, objects and OctoMap files.
        "scipy==1.17.1; python_version >= '3.11'",
        "scipy==1.15.3; python_version < '3.11'",
        "pyoctomap==1.2.2",
        "triton==3.7.1; sys_platform == 'linux' and platform_machine == 'x86_64'",
        "transformers==5.23.0",
        "pytest==9.2.0",
        "pytest-timeout==2.4.0",
        "pytest-xdist==3.8.0",
        "hypothesis==6.170.15; python_version >= '3.11'",
        "hypothesis==6.168.5; python_version < '3.11'",
        "ruff==0.17.5",
        "mypy==2.4.1",
        "types-PyYAML==6.0.12.20261113",
    ],
}


def shared_files() -> list[tuple[str, list[str]]]:
    """(folder in the installation, files) of everything that ROS and `occle_ros.system.share_files` look for in share/."""
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


setup(
    name=NAME,
    version="0.1.0",
    description="Live 3D semantic occupancy from cameras and a LiDAR, with networks that learn from few labels",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=[*find_packages(include=["occle_core*", "occle_ros*"]), *find_packages("training")],
    package_dir={"occle_train": "training/occle_train"},
    package_data={"": ["data/**/*", "*.yaml", "*.csv"]},
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
