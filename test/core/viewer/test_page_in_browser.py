# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The page in headless Chromium, where one is installed: what it says and what it draws."""

from __future__ import annotations

import re
from html import unescape

import cv2
import numpy as np
import pytest
from browser import browse, needs_chromium
from view_frames import BUILDING, CAR, CLASSES, ROAD, view_frame

from occle_core.viewer.page import write_page
from occle_core.viewer.view_frame import add_map

WORLD = (4.5e6, 3.2e5, 0.0)
pytestmark = [needs_chromium, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of three frames whose title is no markup."""
    file = tmp_path_factory.mktemp("page") / "page.html"
    write_page(file, add_map(view_frame(number, WORLD) for number in range(3)), "<b>drive</b> & co")
    return file


def visible_faces(solid):
    """Faces of solid cells (X, Y, Z) towards cells that are not."""
    padded = np.pad(solid, 1)
    return sum(int((solid & ~np.roll(padded, step, axis)[1:-1, 1:-1, 1:-1]).sum()) for axis in range(3) for step in (-1, 1))


def test_the_page_shows_the_map_of_a_frame(page, tmp_path):
    document = browse(page, tmp_path, "--dump-dom", fragment="#frame=2&layer=map")
    state = dict(re.findall(r'data-(\w+)="([^"]*)"', re.search(r"<body[^>]*>", document)[0]))
    shown = list(add_map(view_frame(number, WORLD) for number in range(3)))[2].map
    faces = visible_faces(shown.occupied)
    assert state == {"state": "ready", "frame": "2", "layer": "map", "cells": str(shown.occupied.sum()), "faces": str(faces)}
    assert re.search(r'id="problem"[^>]*hidden', document), "WebGL does not work"
    assert unescape(re.search(r"<h1>(.*?)</h1>", document)[1]) == "<b>drive</b> & co"
    assert "frame 2 (3 of 3), 0.20 s" in document and re.search(r"prepare<b>4\.5</b>", document)
    counts = dict(re.findall(r"</i>([\w -]+)<b>(\d+)</b>", document))
    expected = np.bincount(shown.labels[shown.occupied], minlength=256)
    names = {"car": CAR, "road": ROAD, "building": BUILDING, "no class yet": 255}
    assert counts == {name: str(expected[label]) for name, label in names.items() if name in counts} and len(counts) >= 3


def test_the_picture_has_the_colours_of_the_classes_where_they_are(page, tmp_path):
    browse(page, tmp_path, f"--screenshot={tmp_path / 'shot.png'}", fragment="#frame=0&view=above&fade=0")
    picture = cv2.imread(str(tmp_path / "shot.png"))[:, :, ::-1]
    space = picture[250:760, 20:880].astype(int)  # the 3D view, seen from above: sides that look up are drawn unshaded
    places = {}
    for label in (ROAD, CAR, BUILDING):
        rows, columns = np.nonzero(np.abs(space - CLASSES.colors[label]).max(axis=2) <= 3)
        assert len(rows) > 0.005 * space[..., 0].size, CLASSES.names[label]
        places[label] = np.median(rows), np.median(columns)
    # Forward is up and left is left: the building stands ahead of the car and to its right.
    (row, column), (car_row, car_column) = places[BUILDING], places[CAR]
    assert row < car_row - 50 and column > car_column + 50
