#!/usr/bin/env bash
# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
set -eo pipefail
# shellcheck source=/dev/null
source "/opt/ros/${ROS_DISTRO}/setup.bash"
# shellcheck source=/dev/null
source /ws/install/setup.bash
exec "$@"
