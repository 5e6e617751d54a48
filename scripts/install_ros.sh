#!/usr/bin/env bash
# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
#
# Installs occle beside a ROS 2 installation, without changing the system's Python:
# a virtual environment that sees the system's packages, the tested versions from constraints/DISTRIBUTION.txt, `colcon build`.
set -euo pipefail

usage() {
    cat <<'TEXT'
Usage: scripts/install_ros.sh [options]

  --distro NAME      humble, jazzy, kilted or lyrical (default: $ROS_DISTRO, else the one in /opt/ros)
  --workspace DIR    colcon workspace (default: the one that this checkout lies in as src/..., else ~/occle_ws)
  --bundle DIR       bundle to build the engine for (default: the shipped KITTI bundle)
  --train            also install what training and simulation need
  --no-rosdep        do not ask rosdep for system packages (container images)
  --no-build         stop after the Python environment
  --no-check         do not build the engine and run the doctor at the end
  --dry-run          print the commands, run none
  --help             this text

It can be run again at any time: what is there already is kept.
TEXT
}

say() { printf '%s\n' "install_ros: $*"; }
fail() { printf '%s\n' "install_ros: $*" >&2; exit 1; }
run() {
    printf '  $ %s\n' "$*"
    [ "$dry_run" = true ] || "$@"
}

distro=${ROS_DISTRO:-} workspace="" bundle=config/bundles/kitti extras="engines" build=true check=true rosdep=true dry_run=false
while [ $# -gt 0 ]; do
    case $1 in
        --distro | --workspace | --bundle)
            [ $# -ge 2 ] || fail "$1 needs a value; see --help"
            case $1 in
                --distro) distro=$2 ;;
                --workspace) workspace=$2 ;;
                --bundle) bundle=$2 ;;
            esac
            shift
            ;;
        --train) extras="engines,train" ;;
        --no-rosdep) rosdep=false ;;
        --no-build) build=false ;;
        --no-check) check=false ;;
        --dry-run) dry_run=true ;;
        --help | -h) usage; exit 0 ;;
        *) fail "unknown option $1; see --help" ;;
    esac
    shift
done

source_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
ros_root=${OCCLE_ROS_ROOT:-/opt/ros}

# 1. The distribution.
if [ -z "$distro" ]; then
    found=$(find "$ros_root" -mindepth 2 -maxdepth 2 -name setup.bash 2>/dev/null | sort || true)
    case $(printf '%s' "$found" | grep -c . || true) in
        0) fail "no ROS 2 installation in $ros_root; install ros-DISTRO-ros-base (https://docs.ros.org), or name it with --distro" ;;
        1) distro=$(basename "$(dirname "$found")") ;;
        *) fail "several ROS 2 installations in $ros_root; name one with --distro" ;;
    esac
fi
constraints=$source_dir/constraints/$distro.txt
if [ ! -f "$constraints" ]; then
    known=$(basename -s .txt "$source_dir"/constraints/*.txt | grep -v '^pip$' | tr '\n' ' ')
    fail "distribution '$distro' is not supported; tested versions exist for: $known"
fi
setup=$ros_root/$distro/setup.bash
[ -f "$setup" ] || [ "$dry_run" = true ] || fail "$setup is missing; install ros-$distro-ros-base, or name another with --distro"
say "ROS 2 $distro, packages held by constraints/$distro.txt"

# 2. The workspace: this checkout has to lie in its src folder.
if [ -z "$workspace" ]; then
    case $source_dir in
        */src/*) workspace=${source_dir%%/src/*} ;;
        *) workspace=$HOME/occle_ws ;;
    esac
fi
case $source_dir/ in
    "$workspace"/src/*) say "workspace $workspace" ;;
    *)
        say "workspace $workspace, with this checkout linked into its src folder"
        run mkdir -p "$workspace/src"
        [ -e "$workspace/src/occle" ] || run ln -s "$source_dir" "$workspace/src/occle"
        ;;
esac

# 3. What apt provides: rosdep reads package.xml.
if [ "$rosdep" = false ]; then
    say "system packages are not checked (--no-rosdep)"
elif command -v rosdep >/dev/null 2>&1; then
    say "system packages of package.xml (rosdep; it asks for your password where something is missing)"
    run rosdep install --from-paths "$source_dir" --ignore-src --rosdistro "$distro" -y -r
else
    say "rosdep is not installed: system packages of package.xml are not checked (apt install python3-rosdep)"
fi

# 4. The virtual environment sees the system's packages: rclpy, numpy, OpenCV, cv_bridge.
venv=$workspace/.venv
if [ ! -x "$venv/bin/python" ]; then
    say "virtual environment $venv"
    run python3 -m venv --system-site-packages "$venv" || fail "no virtual environment could be made; apt install python3-venv"
else
    say "virtual environment $venv is kept"
fi
run touch "$venv/COLCON_IGNORE"
python=$venv/bin/python

# The system's numpy and OpenCV stay: cv_bridge is compiled against them. A torch that is installed stays too (Jetson, CUDA).
held=""
version_of() { "$python" -c "import importlib.metadata as m; print(m.version('$1'))" 2>/dev/null || true; }
imports() { "$python" -c "import $1" >/dev/null 2>&1; }
if [ "$dry_run" = false ]; then
    held=$(mktemp)
    trap 'rm -f "$held"' EXIT
    # constraints without the packages that the system or the user brings
    cp "$constraints" "$held"
    for name in numpy torch; do
        version=$(version_of "$name")
        if [ -n "$version" ]; then
            say "$name $version is installed and kept"
            sed -i "/^$name==/d" "$held"
            printf '%s==%s\n' "$name" "$version" >>"$held"
        fi
    done
    if imports cv2; then
        say "OpenCV $("$python" -c 'import cv2; print(cv2.__version__)') is installed and kept"
    else
        run "$python" -m pip install --quiet -c "$held" opencv-python-headless
    fi
    if ! imports torch; then
        run "$python" -m pip install --quiet -c "$held" torch
    fi
else
    held=$constraints
    printf '  $ %s\n' "$python -m pip install -c $held opencv-python-headless torch    # what of them is missing"
fi
say "Python packages"
# colcon installs the package itself; these are its requirements, without OpenCV, which is there under apt's name.
run "$python" "$source_dir/scripts/requirements.py" --without opencv-python-headless torch --extras "$extras" \
    --output "$venv/occle_requirements.txt"
run "$python" -m pip install --quiet -c "$held" -r "$venv/occle_requirements.txt"
[ "$build" = true ] || { say "done: the Python environment is ready in $venv"; exit 0; }

# 5. colcon of the environment, so that executables start with its Python.
say "colcon build"
run "$python" -m pip install --quiet colcon-common-extensions
export AMENT_PYTHON_EXECUTABLE=$python
build_command="source '$setup' && cd '$workspace' && '$python' -m colcon build --packages-select occle_ros"
printf '  $ %s\n' "$build_command"
[ "$dry_run" = true ] || bash -c "$build_command"

# 6. Proof: the engine is built and has run once; the doctor looks at what is on the network now.
if [ "$check" = true ]; then
    launch="ros2 launch occle_ros robot.launch.py build_only:=true bundle:=$bundle"
    printf '  $ %s\n' "$launch" "ros2 run occle_ros occle doctor --seconds 3"
    if [ "$dry_run" = false ]; then
        sourced="source '$setup' && source '$workspace/install/setup.bash'"
        bash -c "$sourced && $launch" || fail "the node could not build its engine; the lines above say why"
        bash -c "$sourced && ros2 run occle_ros occle doctor --seconds 3" \
            || say "the doctor found no usable sensor topics: start your drivers and run it again"
    fi
fi
cat <<TEXT
install_ros: done. In every new terminal:
  source $setup && source $workspace/install/setup.bash
  ros2 launch occle_ros robot.launch.py points:=/your/points image:=/your/image
TEXT
