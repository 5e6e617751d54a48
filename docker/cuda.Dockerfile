# occle with an NVIDIA GPU on a PC: the ROS image, and PyTorch's CUDA build, which brings CUDA's libraries itself.
#   docker build -f docker/ros.Dockerfile --build-arg ROS_DISTRO=jazzy -t occle:jazzy .
#   docker build -f docker/cuda.Dockerfile --build-arg BASE=occle:jazzy -t occle:jazzy-cuda .
#   docker run --rm -it --gpus all --net=host --ipc=host occle:jazzy-cuda ros2 launch occle_ros robot.launch.py ...
# The host needs its driver and the NVIDIA container toolkit.
ARG BASE=occle:jazzy
# hadolint ignore=DL3006
FROM ${BASE}
ARG ROS_DISTRO
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
# The plain wheel of torch for Linux on amd64 is the CUDA build.
RUN /ws/.venv/bin/python -m pip install --no-cache-dir --force-reinstall --no-deps \
        "$(grep '^torch==' "/ws/src/occle/constraints/${ROS_DISTRO}.txt")" \
    && /ws/.venv/bin/python -m pip install --no-cache-dir "$(grep '^torch==' "/ws/src/occle/constraints/${ROS_DISTRO}.txt")"
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
