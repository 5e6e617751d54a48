# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Bundles: what is written is what is read, and everything that is wrong is refused by name."""

import os
import resource
import shutil
import signal
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from lively import save_untrained
from safetensors.torch import load_file, save_file

from occle_core.bundle import BundleError, load_bundle, read_spec, rig_spec, save_bundle, weights_digest
from occle_core.frame import Frame, FrameError
from occle_core.geometry.camera import Camera
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.networks.occle.network import OccLE
from occle_core.predictor import Predictor

SETS = ("voxels", "encoder.1", "encoder.2", "encoder.3", "grown", "kept.2", "kept.1", "kept.0")


@pytest.fixture
def bundle(tmp_path):
    save_untrained(tmp_path / "bundle")
    return tmp_path / "bundle"


def edit_spec(bundle, change):
    content = yaml.safe_load((bundle / "bundle.yaml").read_text())
    change(content)
    (bundle / "bundle.yaml").write_text(yaml.safe_dump(content))


def edit_weights(bundle, change):
    tensors = load_file(bundle / "weights.safetensors")
    tensors = {name: value.clone() for name, value in tensors.items()}
    change(tensors)
    save_file(tensors, bundle / "weights.safetensors")


def test_round_trip_and_id(bundle, tmp_path):
    spec, network, identity = load_bundle(bundle)
    assert not network.training and spec == rig_spec("tiny", "kitti") and identity.startswith("minkocc-tiny-kitti-")
    save_bundle(tmp_path / "again", spec, network)
    _, again, same = load_bundle(tmp_path / "again")
    assert same == identity
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, atol=0, rtol=0)


def test_weights_change_the_id(bundle):
    before = load_bundle(bundle)[2]
    edit_weights(bundle, lambda t: t["head.bias"].add_(1))
    assert load_bundle(bundle)[2] != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(format_version=99), "format_version is 99"),
        (lambda c: c.pop("format_version"), "format_version is None"),
        (lambda c: c["grid"].pop("resolution"), "grid.resolution"),
        (lambda c: c["grid"].update(resolution=-0.4), "grid.resolution"),
        (lambda c: c["grid"].update(shape=[100, 100, 15]), "divisible"),
        (lambda c: c["grid"].update(shape=[0, 128, 16]), r"bundle.yaml: grid.shape.0: Input should be greater than 0"),
        (lambda c: c["grid"].update(origin=[float("nan"), 0, 0]), "grid.origin.0: Input should be a finite number"),
        (lambda c: c.update(network=None), r"network: .*'None'.*'minkocc', 'occle'"),
        (lambda c: c["network"]["unet"].update(encoder_channels=[]), "network.unet.encoder_channels: .*at least 1 item"),
        (lambda c: c["network"]["unet"].update(prune_thresholds=[0.4, 2, 0.2]), "prune_thresholds.1: Input should be less than 1"),
        (lambda c: c.update(capacities={"points": 9, "sets": dict.fromkeys(sorted(SETS), 9)}), "in their order: voxels, encoder.1"),
        (lambda c: c.update(typical={"points": 64, "sets": {"voxels": 64}}), "typical.sets must be of the network's sets"),
        (lambda c: c.update(taxonomy="cityscapes"), "cityscapes"),
        (lambda c: c["network"].update(depth=3), "network.depth"),
        (lambda c: c["network"].update(kind="voxnet"), r"network: .*'voxnet'.*'minkocc', 'occle'"),
        (lambda c: c["network"].update(kind="occle"), "network.image: Extra inputs"),
        (lambda c: c["network"]["image"].update(backbone="vgg"), "backbone"),
        (lambda c: c["network"]["unet"].update(encoder_channels=[8, 12, 16, 32]), "does not fit"),
    ],
)
def test_wrong_specs_are_refused(bundle, change, message):
    edit_spec(bundle, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("head.weight"), "missing head.weight"),
        (lambda t: t.update(extra=torch.zeros(3)), "unknown extra"),
        (lambda t: t.update({"head.bias": torch.zeros(7)}), r"head.bias \(7,\) instead of \(20,\)"),
        (lambda t: t["head.bias"].fill_(float("nan")), "NaN"),
    ],
)
def test_wrong_weights_are_refused(bundle, change, message):
    edit_weights(bundle, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(bundle)


def test_missing_and_damaged_files_are_refused(bundle, tmp_path):
    with pytest.raises(BundleError, match=r"has no bundle\.yaml"):
        load_bundle(tmp_path / "nowhere")
    weights = bundle / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(BundleError, match="safetensors"):
        load_bundle(bundle)
    weights.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        load_bundle(bundle)
    (bundle / "bundle.yaml").write_text("{")
    with pytest.raises(BundleError, match="YAML"):
        load_bundle(bundle)


def test_a_shipped_bundles_name_is_no_folder_to_write_to():
    with pytest.raises(BundleError, match=r"kitti is no bundle: .*copy .*bundles/kitti, and name the copy"):
        read_spec("kitti")


def frame(count=2000, seed=0):
    rng = np.random.default_rng(seed)
    points = np.concatenate([rng.uniform((0, -20, -2), (40, 20, 3), (count, 3)), rng.random((count, 1))], 1).astype(np.float32)
    axes = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    return Frame(
        5,
        points,
        [rng.integers(0, 255, (48, 96, 3), dtype=np.uint8)],
        [Camera(np.array([[60.0, 0, 48], [0, 60, 24], [0, 0, 1]]), axes, 96, 48)],
    )


def test_predictions_are_repeatable_and_carry_the_frame(bundle):
    predictor = Predictor.load(bundle)
    first, second = predictor.predict(frame(), "velodyne"), predictor.predict(frame(), "velodyne")
    assert (first.stamp, first.frame_id, first.grid.shape) == (5, "velodyne", first.labels.shape)
    assert np.array_equal(first.labels, second.labels) and np.array_equal(first.confidence, second.confidence)
    assert first.labels.dtype == np.uint8 and set(first.timings) == {"prepare", "image", "fusion", "voxels", "labels"}
    assert ((first.confidence > 0) == first.occupied).all()


def test_a_frame_without_its_image_is_predicted(bundle):
    predictor = Predictor.load(bundle)
    blind = frame()
    occupancy = predictor.predict(Frame(blind.stamp, blind.points, [None], blind.cameras))
    assert occupancy.labels.shape == predictor.grid.shape
    with pytest.raises(FrameError, match="empty"):
        predictor.predict(Frame(0, np.zeros((0, 4), np.float32), [None], blind.cameras))


# The other network


@pytest.fixture
def occle(tmp_path):
    save_untrained(tmp_path / "occle", kind="occle")
    return tmp_path / "occle"


def test_a_bundle_says_which_network_it_holds(bundle, occle):
    spec, network, identity = load_bundle(occle)
    assert isinstance(network, OccLE) and not network.training and identity.startswith("occle-tiny-kitti-")
    assert spec == rig_spec("tiny", "kitti", "occle")
    assert yaml.safe_load((occle / "bundle.yaml").read_text())["network"]["kind"] == "occle"
    save_bundle(occle.parent / "again", spec, network)
    assert load_bundle(occle.parent / "again")[2] == identity
    spec, network, _ = load_bundle(bundle)
    assert isinstance(network, MinkOcc) and spec == rig_spec("tiny", "kitti")
    edit_spec(bundle, lambda c: c["network"].pop("kind"))
    with pytest.raises(BundleError, match=r"bundle\.yaml: network: .*'minkocc', 'occle'"):
        load_bundle(bundle)


def test_the_weights_digest_follows_configuration_and_weights(occle):
    spec, network, _ = load_bundle(occle)
    before = weights_digest(spec, network)
    assert weights_digest(spec.model_copy(update={"name": "other"}), network) == before
    frames = spec.model_copy(update={"network": spec.network.model_copy(update={"num_frames": 1})})
    assert weights_digest(frames, network) != before
    with torch.no_grad():
        network.fusion.head[-1].bias.add_(1)
    assert weights_digest(spec, network) != before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["network"].update(depth=3), "network.depth"),
        (lambda c: c["network"]["fusion"].update(state_size=0), "network.fusion.state_size"),
        (lambda c: c["grid"].update(shape=[100, 100, 12]), "divisible by 8"),
        (lambda c: c["network"].update(width=100), "multiples of 8"),
        (lambda c: c["network"].update(channels=16), "does not fit"),
    ],
)
def test_wrong_specs_of_the_other_network_are_refused(occle, change, message):
    edit_spec(occle, change)
    with pytest.raises(BundleError, match=message):
        load_bundle(occle)


@pytest.mark.parametrize(
    ("size", "rig", "shape", "cameras"),
    [("small", "kitti", (128, 128, 16), 1), ("base", "kitti360", (256, 256, 32), 1), ("base", "nuscenes", (200, 200, 16), 6)],
)
def test_sizes_have_their_grids(size, rig, shape, cameras):
    spec = rig_spec(size, rig, "occle")
    assert (spec.grid.shape, spec.network.num_cameras, spec.name) == (shape, cameras, f"occle-{size}-{rig}")


@pytest.mark.parametrize("umask", [0o022, 0o002, 0o077])
def test_files_have_the_mode_that_the_umask_asks_for(tmp_path, umask):
    """A bundle that root made is read by the ROS service's user."""
    before = os.umask(umask)
    try:
        save_untrained(tmp_path / "bundle")
        save_untrained(tmp_path / "bundle")  # over an older one
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "bundle").stat().st_mode) == 0o777 & ~umask
    assert {stat.S_IMODE(file.stat().st_mode) for file in (tmp_path / "bundle").iterdir()} == {0o666 & ~umask}
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


def test_a_full_disk_leaves_the_older_bundle_and_nothing_else(tmp_path):
    save_untrained(tmp_path / "bundle")
    before = {file.name: file.read_bytes() for file in (tmp_path / "bundle").iterdir()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        with pytest.raises(OSError, match="File too large"):
            save_untrained(tmp_path / "bundle")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {file.name: file.read_bytes() for file in (tmp_path / "bundle").iterdir()} == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"]


@pytest.mark.parametrize("name", ["bundle.yaml", "weights.safetensors"])
def test_a_file_that_must_not_be_read_is_named(name):
    """As another user of the machine: modes do not bind root."""
    folder = Path(tempfile.mkdtemp(prefix="occle-modes-"))
    folder.chmod(0o755)
    try:
        save_untrained(folder / "bundle")
        (folder / "bundle" / name).chmod(0o600 if os.geteuid() == 0 else 0)
        reading, writing = os.pipe()
        if not (child := os.fork()):
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                load_bundle(folder / "bundle")
                said = "nothing"
            except BaseException as error:
                said = f"{type(error).__name__}: {error}"
            os.write(writing, said.encode())
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as pipe:
            said = pipe.read()
        os.waitpid(child, 0)
        assert said == f"BundleError: {folder / 'bundle' / name} cannot be read: permission denied; change its mode or owner"
    finally:
        shutil.rmtree(folder)


def test_a_bundle_replaces_no_other_folder(tmp_path):
    """`fit --data out/streets --bundle out` must not take the data for an older bundle."""
    spec = rig_spec("tiny", "kitti")
    network = spec.build()
    (tmp_path / "out" / "streets").mkdir(parents=True)
    data = tmp_path / "out" / "streets" / "000000.bin"
    data.write_bytes(b"points")
    with pytest.raises(BundleError, match=r"out is a folder that holds streets, no bundle to be replaced; give"):
        save_bundle(tmp_path / "out", spec, network)
    with pytest.raises(BundleError, match="bin is a file, no bundle to be replaced"):
        save_bundle(data, spec, network)
    assert data.read_bytes() == b"points" and [file.name for file in tmp_path.iterdir()] == ["out"]
    (tmp_path / "empty").mkdir()
    for _ in range(2):  # an empty folder, and then a bundle
        save_bundle(tmp_path / "empty", spec, network)
    assert load_bundle(tmp_path / "empty")[0] == spec
