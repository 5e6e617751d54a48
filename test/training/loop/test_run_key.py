# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The run key: what changes the result is in it, what does not is not, and a difference is named."""

import json
import shutil

import cv2
import numpy as np
import pytest
from occle_train.data.samples import Samples
from occle_train.loop.checkpoints import read_checkpoint
from occle_train.loop.run_key import describe_differences, flatten, key_differences, provenance_of, run_key
from occle_train.minkocc.config import FitConfig
from occle_train.minkocc.fit import fit
from occle_train.minkocc.recipe import RecipeSamples
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from rooms import CLASSES, GRID, NETWORK, Rooms, label_folder, spec

CONFIG = FitConfig(steps=2, warmup_steps=0, batch_size=1)
RECIPE = MinkOccRecipeConfig(alpha=0.5, past_scans=1, moving_points="keep", num_views=1, view_width=32, view_height=16)


class OnDisk(Rooms):
    """Rooms whose scans are files."""

    def __init__(self, name, folder, **more):
        super().__init__(name, **more)
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for i in range(self.count):
            if not self.file(i).exists():
                self.points(i).tofile(self.file(i))

    def file(self, i):
        return self.folder / f"{self.name}{i}.bin"

    def files(self, i):
        return [self.file(i)]


def key_of(*rooms, config=CONFIG, initial=None, network=None):
    return run_key(network or spec(), Samples(list(rooms), GRID, NETWORK), config, initial)


def changed(one, other):
    return {line.split(" was ")[0] for line in key_differences(one, other)}


def test_everything_that_changes_the_result_is_in_the_key(tmp_path):
    room = OnDisk("a", tmp_path / "a")
    key = key_of(room)
    assert key == key_of(OnDisk("a", tmp_path / "a")) and key == json.loads(json.dumps(key))
    assert changed(key, key_of(room, config=CONFIG.model_copy(update={"seed": 1}))) == {"fit.seed"}
    assert {"data.sequences", "data.files", "data.frames"} <= changed(key, key_of(room, OnDisk("b", tmp_path / "b")))
    assert changed(key, key_of(OnDisk("a", tmp_path / "a", relabel=lambda labels: labels * 0))) == {"data.voxel_labels"}
    assert changed(key, key_of(room, initial=spec().build())) == {"started_from"}
    other = key_of(room, initial=spec().build()), key_of(room, initial=spec().build())
    assert changed(*other) == {"started_from"}  # other weights, the same structure
    wide = spec().model_copy(update={"name": "wide"})
    assert changed(key, key_of(room, network=wide)) == {"network.name"}


def test_one_byte_of_a_scan_is_noticed_in_a_small_data_set(tmp_path):
    key = key_of(OnDisk("a", tmp_path / "a"))
    file = tmp_path / "a" / "a1.bin"
    content = bytearray(file.read_bytes())
    content[7] ^= 1
    file.write_bytes(content)
    assert changed(key, key_of(OnDisk("a", tmp_path / "a"))) == {"data.files"}


def test_what_changes_no_result_is_not_in_the_key(tmp_path):
    key = key_of(OnDisk("a", tmp_path / "a"))
    shutil.move(tmp_path / "a", tmp_path / "elsewhere")
    same = CONFIG.model_copy(update={"num_workers": 3, "checkpoint_every": 7})
    assert key == key_of(OnDisk("a", tmp_path / "elsewhere"), config=same)


def test_other_pseudo_labels_are_another_run(tmp_path):
    rooms = [Rooms("a"), Rooms("b")]

    def key(folder):
        labels = label_folder(folder, rooms)
        samples = RecipeSamples(rooms, GRID, NETWORK, RECIPE, labels, tmp_path / "cache")
        return run_key(spec(), samples, CONFIG, None)

    first = key(tmp_path / "labels")
    assert first == key(shutil.copytree(tmp_path / "labels", tmp_path / "copy"))
    image = next((tmp_path / "copy").rglob("*[0-9].png"))
    cv2.imwrite(str(image), np.random.default_rng(0).integers(0, CLASSES.num_classes, (32, 64), np.uint8))
    assert changed(first, key(tmp_path / "copy")) == {"data.pseudo_labels"}


def test_differences_are_named_in_words():
    one = {"fit": {"seed": 0, "steps": 5}, "data": {"sequences": ["00"]}, "started_from": None}
    other = {"fit": {"seed": 1, "steps": 5}, "data": {"sequences": ["00", "01"]}, "started_from": "abc"}
    lines = key_differences(one, other)
    assert lines == ["fit.seed was 0, is 1", 'data.sequences was ["00"], is ["00", "01"]', 'started_from was not set, is "abc"']
    assert describe_differences([*lines, *lines]).endswith("and 2 more")
    assert flatten({"a": {"b": {"c": 1}, "d": {}}, "e": [1]}) == {"a.b.c": 1, "a.d": {}, "e": [1]}


def test_a_run_is_not_resumed_with_other_data_labels_or_start(tmp_path):
    """What wrote a wrong bundle with the name of the new data: an old folder and other arguments."""
    fit(spec(), Samples([Rooms("a")], GRID, NETWORK), CONFIG, tmp_path)
    for samples, initial, named in (
        (Samples([Rooms("b")], GRID, NETWORK), None, "data.sequences"),
        (Samples([Rooms("a", relabel=lambda labels: labels * 0)], GRID, NETWORK), None, "data.voxel_labels"),
        (Samples([Rooms("a")], GRID, NETWORK), spec().build(), "started_from"),
    ):
        with pytest.raises(ValueError, match=rf"another configuration: {named} was .*start a run of its own") as error:
            fit(spec(), samples, CONFIG, tmp_path, initial=initial)
        assert "\n" not in str(error.value)


def test_provenance_is_the_key_of_the_checkpoint(tmp_path):
    samples = Samples([Rooms("a")], GRID, NETWORK)
    fit(spec(), samples, CONFIG, tmp_path)
    saved = read_checkpoint(tmp_path / "checkpoint.pt")["key"]
    assert provenance_of(saved) == provenance_of(run_key(spec(), samples, CONFIG, None)) and "network" not in provenance_of(saved)
    assert provenance_of(saved)["data"]["frames"] == 3 and provenance_of(saved)["fit"]["steps"] == 2
