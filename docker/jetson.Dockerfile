# occle on a Jetson (JetPack 6: Ubuntu 22.04, Python 3.10, ROS 2 Humble). Build it on the Jetson:
#   docker build -f docker/jetson.Dockerfile -t occle:jetson .
#   docker run --rm -it --runtime nvidia --net=host --ipc=host occle:jetson ros2 launch occle_ros robot.launch.py ...
# The base brings ROS 2 Humble and NVIDIA's own build of PyTorch, which is kept: nothing here replaces an installed torch.
ARG BASE=dustynv/ros:humble-pytorch-l4t-r36.2.0
# hadolint ignore=DL3006
FROM ${BASE}
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV ROS_DISTRO=humble
# This image has ROS built from source under /opt/ros/humble/install.
RUN if [ ! -f /opt/ros/humble/setup.bash ]; then ln -s /opt/ros/humble/install/setup.bash /opt/ros/humble/setup.bash; fi
WORKDIR /ws
COPY . src/occle
RUN src/occle/scripts/install_ros.sh --distro humble --workspace /ws --no-rosdep --no-check \
    && rm -rf /root/.cache build log
ENV ROS_LOG_DIR=/tmp/ros_log
COPY docker/entrypoint.sh /entrypoint.sh
ENTRYPOINT ["/entrypoint.sh"]
CMD ["ros2", "launch", "occle_ros", "occupancy.launch.py", "--show-args"]
