# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Drafts of robots that differ from the simulated one: stereo pairs, empty scans, TF of other habits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from bag_copies import copy_bag

from occle_core.bags.bag_file import open_bag
from occle_core.bags.storage import TYPES
from occle_core.datasets import open_dataset
from occle_core.datasets.recordings.bag_index import TF, tf_topics
from occle_core.rig import read_rig, write_rig
from occle_core.rig_drafting.draft import draft_rig
from occle_core.rig_drafting.placement import place_grid

BASELINE = 0.3


def test_the_second_camera_of_a_stereo_pair_is_beside_the_first(recording, tmp_path):
    """Its rectified images' CameraInfo names the first camera's frame, and P says how far to the right it is."""

    def second(topic, message):
        if topic == "/left/camera_info":
            message.header.frame_id = "front_optical"
            message.d, P = np.zeros(5), message.p.reshape(3, 4).copy()
            P[0, 3] = -P[0, 0] * BASELINE
            message.distortion_model, message.p = "plumb_bob", P.ravel()
        return message

    draft = draft_rig(copy_bag(recording / "bag", tmp_path / "stereo", change=second))
    first = read_rig(recording / "rig.yaml").cameras["front"].T_base_camera
    beside = np.eye(4)
    beside[0, 3] = BASELINE
    assert np.allclose(draft.rig.cameras["left"].T_base_camera, first @ beside, atol=1e-6)
    assert len(draft.questions) == 1


def test_a_camera_info_of_another_frame_is_asked_about(recording, tmp_path):
    def foreign(topic, message):
        if topic.startswith("/front/image"):
            message.header.frame_id = "another"
        return message

    questions = draft_rig(copy_bag(recording / "bag", tmp_path / "foreign", change=foreign)).questions
    assert questions[0].startswith("cameras.front: its images are in frame another, /front/camera_info is in front_optical")


def test_the_times_of_points_are_those_of_a_scan_with_points(recording, tmp_path):
    emptied = []

    def first_empty(topic, message):
        if topic == "/top/points" and not emptied:
            emptied.append(topic)
            return replace(message, width=0, height=1, row_step=0, data=message.data[:0])
        return message

    facts = draft_rig(copy_bag(recording / "bag", tmp_path / "empty", change=first_empty)).facts
    assert any(fact.startswith("/top/points: field 't") for fact in facts), facts


def test_fixed_transforms_on_tf_do_not_move_the_base(recording, tmp_path):
    """Some drivers send the mounting on /tf again and again; the robot's frame is still the base."""
    with open_bag(recording / "bag") as bag:
        (fixed,) = [TYPES.deserialize_cdr(data, each.msgtype) for each, _, data in bag.messages() if each.topic == "/tf_static"]

    def repeated(topic, message):
        if topic == "/tf_static":
            return None
        if topic == "/tf":
            stamp = message.transforms[0].header.stamp
            again = [replace(each, header=replace(each.header, stamp=stamp)) for each in fixed.transforms]
            message.transforms = [*message.transforms, *again]
        return message

    draft = draft_rig(copy_bag(recording / "bag", tmp_path / "on_tf", drop=("/odom",), change=repeated))
    assert (draft.rig.base_frame, draft.rig.odometry.frame) == ("base_link", "odom")
    assert np.allclose(draft.rig.lead.T_base_lidar, read_rig(recording / "rig.yaml").lead.T_base_lidar, atol=1e-6)


def test_names_of_frames_may_begin_with_the_robots(recording, tmp_path):
    def prefixed(topic, message):
        for each in getattr(message, "transforms", []):
            each.header.frame_id, each.child_frame_id = f"r1/{each.header.frame_id}", f"r1/{each.child_frame_id}"
        if hasattr(message, "header"):
            message.header.frame_id = f"r1/{message.header.frame_id}"
        return message

    rig = draft_rig(copy_bag(recording / "bag", tmp_path / "prefixed", drop=("/odom",), change=prefixed)).rig
    assert (rig.base_frame, rig.odometry.frame) == ("r1/base_link", "r1/odom")


def test_a_lidar_without_tf_stands_on_the_ground_of_the_others(recording, tmp_path):
    """The base frame lies half a metre above the ground."""

    def raised(topic, message):
        if topic == "/tf_static":
            message.transforms = [each for each in message.transforms if not each.child_frame_id.startswith("rear")]
            for each in message.transforms:
                each.transform.translation.z -= 0.5
        return message

    given = read_rig(recording / "rig.yaml").lidars["rear"].T_base_lidar[2, 3]
    draft = draft_rig(copy_bag(recording / "bag", tmp_path / "raised", change=raised))
    assert any(text.startswith("lidars.rear.pose: no TF") for text in draft.questions)
    assert abs(draft.rig.lidars["rear"].T_base_lidar[2, 3] - (given - 0.5)) < 0.15


def test_a_wall_gives_no_height(recording):
    """Of a room in which no floor was seen."""
    rng = np.random.default_rng(3)
    lead = read_rig(recording / "rig.yaml").lead.model_copy(update={"pose": np.eye(4).tolist()})
    wall = np.column_stack([np.full(4000, 4.0), rng.uniform(-4, 4, 4000), rng.uniform(-1.5, 1.1, 4000), np.zeros(4000)])
    _, ground_z, _, questions = place_grid({"top": lead}, {"top": wall.astype(np.float32)})
    assert ground_z == 0 and questions[0].startswith("ground_z: no level ground was found, but a plane 90 degrees off")


def test_a_robot_in_a_namespace_has_its_tf_there(recording, tmp_path):
    bag = copy_bag(recording / "bag", tmp_path / "bag", drop=("/odom",), namespace="/r1")
    draft, plain = draft_rig(bag), open_dataset(recording / "bag", rig=recording / "rig.yaml")
    assert draft.rig.base_frame == "base_link" and len(draft.questions) == 1
    assert "TF by /r1/tf, /r1/tf_static: launch the node with namespace:=r1" in draft.facts
    write_rig(draft.rig, tmp_path / "rig.yaml")
    mine = open_dataset(bag, rig=tmp_path / "rig.yaml")
    assert np.allclose(mine.frame(2).T_world_lidar, plain.frame(2).T_world_lidar, atol=1e-3)


def test_the_innermost_tf_around_a_sensor_is_the_robots():
    two = dict.fromkeys(("/r1/tf", "/r1/tf_static", "/r2/tf", "/tf"), TF) | {"/r2/tf_static": "std_msgs/msg/String"}
    assert tf_topics(two, "/r1/top/points") == {"/r1/tf_static": True, "/r1/tf": False}
    assert tf_topics(two, "/r2/points") == {"/r2/tf": False} and tf_topics(two, "/r10/points") == {"/tf": False}
    assert tf_topics({"/r1/tf": TF, "/r1/tf_static": TF}, "/points") == {"/r1/tf_static": True, "/r1/tf": False}
    assert tf_topics({"/r1/tf": TF, "/r2/tf": TF, "/my_tf": TF}, "/points") == {}
