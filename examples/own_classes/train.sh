#!/bin/sh
# Train a network for a class list of your own, score it, and look at a frame.
#
#     examples/own_classes/train.sh out/streets out/own_bundle --steps 2000
#
# What follows the two folders goes to `occle-train fit`. `occle-train simulate out/streets` makes the data.
set -eu
data=$1 bundle=$2
shift 2
here=$(dirname "$0")

# The label files of the data set are read by this list, and the list travels inside the bundle: the node, the pictures and
# the evaluation take it from there.
occle-train fit --data "$data" --bundle "$bundle" --classes "$here/classes.yaml" "$@"

occle-train evaluate --bundle "$bundle" --data "$data"

python "$here/../predict_frame.py" "$data" "${bundle}.png" --bundle "$bundle"
