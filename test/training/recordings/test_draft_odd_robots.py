# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Drafts of robots that differ from the simulated one: stereo pairs, empty scans, TF of other habits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from bag_copies import copy_bag

from occle_core.rig import read_rig
from occle_core.rig_drafting.draft import draft_rig

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
