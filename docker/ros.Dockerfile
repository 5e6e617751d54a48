# occle on a ROS 2 image, for amd64 and arm64:
#   docker build -f docker/ros.Dockerfile --build-arg ROS_DISTRO=jazzy -t occle:jazzy .
#   docker run --rm -it --net=host --ipc=host occle:jazzy ros2 launch occle_ros robot.launch.py points:=/points image:=/image
# --ipc=host: Fast DDS carries images and clouds through shared memory.
ARG ROS_DISTRO=jazzy
FROM ros:${ROS_DISTRO}-ros-base
ARG ROS_DISTRO
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends \
        python3-colcon-common-extensions python3-opencv python3-pip python3-venv python3-yaml \
        "ros-${ROS_DISTRO}-message-filters" "ros-${ROS_DISTRO}-tf2-ros-py" "ros-${ROS_DISTRO}-rosbag2-storage-mcap" \
        "ros-${ROS_DISTRO}-diagnostic-aggregator" "ros-${ROS_DISTRO}-vision-msgs" \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /ws
COPY . src/occle
RUN src/occle/scripts/install_ros.sh --distro "${ROS_DISTRO}" --workspace /ws --no-rosdep --no-check \
    && rm -rf /root/.cache build log

ENV ROS_LOG_DIR=/tmp/ros_log
COPY docker/entrypoint.sh /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "occle_ros", "occupancy.launch.py", "--show-args"]
