# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The assembled OccLE: shapes, gradients, what it sees, and that its static and exported forms say the same."""

import inspect
from dataclasses import replace

import numpy as np
import pytest
import torch
from occle_rig import GRID, frame, moved

from occle_core.frame import FrameError
from occle_core.geometry.grid import OCC3D_NUSCENES, SEMANTICKITTI, VoxelGrid
from occle_core.networks.blocks.fold_batch_norms import fold_batch_norms
from occle_core.networks.capacities import Capacities
from occle_core.networks.occle.config import base as occle_base
from occle_core.networks.occle.config import small as occle_small
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.networks.occle.inputs import collate, fit_camera, fit_image, prepare
from occle_core.networks.occle.network import OccLE, OccleProgram, label_grid

CLASSES = 6
CENTER = (0.0, 16.0)


def network(cameras=1, frames=2, seed=0):
    torch.manual_seed(seed)
    return OccLE(occle_tiny(cameras, frames), CLASSES, GRID)


def trained_looking(net):
    """Batch norms that do something."""
    for module in net.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            torch.nn.init.uniform_(module.running_mean, -0.3, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
    return net.eval()


def inputs(cameras=1, seed=0, frames=2):
    history = [frame(seed + number, cameras) for number in range(frames)]
    return prepare(history, [moved(-number) for number in range(frames)], GRID, occle_tiny(cameras, frames))


def test_the_children_of_a_cell_are_told_apart_by_learning_only():
    net = network().eval()
    logits = net.fusion.logits(torch.randn(1, net.config.channels, 4, 4, 4))
    blocks = logits.unfold(2, 2, 2).unfold(3, 2, 2).unfold(4, 2, 2).flatten(5)
    torch.testing.assert_close(blocks, blocks[..., :1].expand_as(blocks))
    assert float(blocks.detach().std(dim=(2, 3, 4)).min()) > 0
    net.fusion.logits(torch.randn(1, net.config.channels, 4, 4, 4)).pow(2)[..., 0].sum().backward()
    gradient = net.fusion.head[-1].weight.grad
    assert gradient[..., 0].abs().sum() > 0 and not gradient[..., 1].any()


def test_in_training_the_prediction_of_a_frame_does_not_depend_on_its_batch():
    head = network().train().fusion.head
    one, other = (scale * torch.randn(1, network().config.channels, 4, 4, 4) for scale in (1, 5))
    torch.testing.assert_close(head(torch.cat([one, other]))[:1], head(one))
    torch.testing.assert_close(head.eval()(one), head.train()(one))


def test_it_predicts_every_cell_and_every_part_learns():
    net, batch = network(2), collate([inputs(2), inputs(2, seed=5)])
    cells = net.cells(batch)
    semantics, geometric = net.semantics(batch, cells), net.geometry(batch, cells)
    fused = net.fusion(semantics.grid, geometric)
    y, seen = net.fusion.projected_logits(fused, batch.projections[:, 0], net.centers, 8, 16)
    outputs = {
        "Y": net.fusion.logits(fused),
        "G": net.geometric.logits(geometric),
        "y": y,
        "s": net.semantic.image_logits(semantics),
        "S": net.semantic.lidar_logits(semantics).features,
    }
    assert {name: tuple(value.shape) for name, value in outputs.items()} == {
        "Y": (2, CLASSES, 32, 32, 16),
        "G": (2, 2, 32, 32, 16),
        "y": (4, CLASSES, 8, 16),
        "s": (4, CLASSES, 16, 32),
        "S": (len(batch.scans[0].coords), CLASSES),
    }
    assert seen.shape == (4, 8, 16) and 0.2 < float(seen.float().mean()) <= 1
    sum(value.square().mean() for value in outputs.values()).backward()
    dead = [name for name, parameter in net.named_parameters() if parameter.grad is None or not parameter.grad.abs().sum() > 0]
    # The coarsest stage is a single cell here: nothing decays, and its position is 0.
    assert [
        name for name in dead if not ("blocks.3." in name and name.endswith(("A_log", "embed.0.0.weight", "embed.1.0.weight")))
    ] == []


def test_inference_takes_sensors_only():
    assert list(inspect.signature(OccLE.forward).parameters) == ["self", "inputs", "coordinates", "stage_done"]
    assert set(vars(inputs())) == {"images", "projections", "scans"}
    assert set(vars(inputs().scans[0])) == {"points", "voxel", "table", "coords", "counts"}


def test_samples_of_a_batch_do_not_see_each_other():
    net = trained_looking(network())
    parts = [inputs(), inputs(seed=7)]
    with torch.inference_mode():
        both = net(collate(parts))
        for number, part in enumerate(parts):
            torch.testing.assert_close(both[number], net(part)[0], atol=1e-4, rtol=1e-4)


def test_the_sets_of_cells_are_counted_under_their_names():
    net, batch = network().eval(), inputs()
    cells = net.cells(batch)
    with torch.inference_mode():
        net.semantics(batch, cells), net.geometry(batch, cells)
    counts = dict(zip(net.set_names, cells[0].counts, strict=True))
    for name, level in net.set_names.items():
        scan = batch.scans[int(name[-1]) if "semantic" not in name else 0]
        assert counts[name] == len(torch.unique(scan.coords[:, 1:] // 2**level, dim=0))


def test_past_scans_and_cameras_are_seen_from_the_present():
    """A vehicle that drove 1 m: a past point 5 m ahead of it then is 4 m ahead now, and so is what its camera saw."""
    past = frame(1)
    past.points[:] = [5.1, 0.1, 0.1, 0.5]
    sample = prepare([frame(0), past], [moved(1), moved(0)], GRID, occle_tiny())
    assert sample.scans[1].coords.tolist() == [[0, *GRID.index(np.array([[4.1, 0.1, 0.1]]))[0][0]]]
    uv = sample.projections[0, 1, 0] @ torch.tensor([4.1, 0.1, 0.1, 1])
    pixel = (uv[:2] / uv[2]).numpy() * (64, 32) - 0.5
    np.testing.assert_allclose(pixel, past.cameras[0].project(np.array([[5.1, 0.1, 0.1]]))[0][0], atol=1e-4)


def test_a_short_history_repeats_its_oldest_frame():
    sample = prepare([frame(0)], [moved(3)], GRID, occle_tiny(frames=2))
    assert torch.equal(sample.images[:, 0], sample.images[:, 1])
    assert torch.equal(sample.scans[0].points, sample.scans[1].points)


def test_points_have_position_intensity_and_offset_from_the_centre():
    scan = inputs().scans[0]
    cell = scan.coords[scan.voxel, 1:]
    low, high = torch.tensor(GRID.origin), torch.tensor(GRID.upper)
    position = (scan.points[:, :3] + 1) / 2 * (high - low) + low
    center = low + (cell + 0.5) * GRID.resolution
    torch.testing.assert_close(scan.points[:, 4:], (position - center) / GRID.resolution, atol=1e-3, rtol=0)
    assert (scan.points[:, 4:].abs() <= 0.5001).all() and (scan.counts > 0).all()
    ijk = GRID.index(frame(0).points)[0]
    for row in range(0, len(scan.coords), 50):
        assert int(scan.counts[row]) == int((ijk == scan.coords[row, 1:].numpy()).all(1).sum())


@pytest.mark.parametrize(
    ("frames", "poses", "text"),
    [([], [], "at least one frame"), ([frame(0)], [], "0 poses"), ([frame(0, 2)], [moved(0)], "2 cameras")],
)
def test_wrong_inputs_are_told(frames, poses, text):
    with pytest.raises(FrameError, match=text):
        prepare(frames, poses, GRID, occle_tiny())


def test_wrong_sizes_are_told():
    with pytest.raises(ValueError, match="multiples of 8"):
        OccLE(occle_tiny(), CLASSES, VoxelGrid((0, 0, 0), (20, 16, 16), 0.4))


@pytest.mark.parametrize(
    ("config", "grid"),
    [
        (occle_small("kitti"), SEMANTICKITTI.coarser(2)),
        (occle_small("nuscenes"), OCC3D_NUSCENES),
        (occle_base("kitti"), SEMANTICKITTI),
        (occle_base("nuscenes"), OCC3D_NUSCENES),
        (occle_base("kitti360"), SEMANTICKITTI),
    ],
)
def test_sizes_can_be_built(config, grid):
    with torch.device("meta"):
        shape = grid.coarser(2).shape
        from occle_core.networks.occle.fusion import Fusion
        from occle_core.networks.occle.geometric import GeometricBranch
        from occle_core.networks.occle.semantic import SemanticBranch

        count = sum(
            parameter.numel()
            for part in (SemanticBranch(config, 20), GeometricBranch(config, shape), Fusion(config, 20, shape))
            for parameter in part.parameters()
        )
    assert count < 4e7


def form_of(net, batch, spare=1.3):
    counts = {name: int(spare * count) for name, count in net.set_counts(batch).items()}
    points = int(spare * batch.sizes["points"])
    return OccleProgram(net, Capacities(points=points, sets=counts), 0, CENTER).eval()


def test_folded_batch_norms_change_nothing():
    net, batch = trained_looking(network()), inputs()
    with torch.inference_mode():
        expected, found = net(batch), fold_batch_norms(net)(batch)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    assert not any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in fold_batch_norms(net).modules())


def test_static_form_says_the_same_and_counts():
    net, batch = trained_looking(network(2)), inputs(2)
    form = form_of(net, batch)
    arrays = net.pad(batch, form.capacities, CENTER)
    assert list(arrays) == list(OccleProgram.INPUTS)
    assert [array.shape for array in arrays.values()] == [tuple(tensor.shape) for tensor in form.example()]
    with torch.inference_mode():
        labels, confidence, counts = form(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays.values()))
        expected, sure = label_grid(net(batch), 0)
        cells = net.cells(batch)
        net.semantics(batch, cells), net.geometry(batch, cells)
    assert (labels == expected).float().mean() > 0.999
    torch.testing.assert_close(confidence.float(), sure.float(), atol=5e-3, rtol=0)
    assert counts.tolist() == cells[0].counts


def test_what_does_not_fit_is_the_farthest():
    batch = inputs()
    arrays = OccLE.pad(batch, Capacities(points=10_000, sets={"voxels.0": 100, "rest": 1}), CENTER)
    assert arrays["count"].tolist() == [[100], [100]]
    kept = np.hypot(*(arrays["cells"][0, :, :2] + 0.5 - CENTER).T).max()
    every = np.sort(np.hypot(*(batch.scans[0].coords[:, 1:3].numpy() + 0.5 - CENTER).T))
    assert kept == pytest.approx(every[99])


def test_points_that_do_not_fit_take_the_farthest_voxels_with_them():
    scan = inputs().scans[0]
    arrays = OccLE.pad(inputs(), Capacities(points=200, sets={"voxels.0": len(scan.coords)}), CENTER)
    filled = int(arrays["count"][0, 0])
    table, voxel = arrays["table"][0], arrays["voxel"][0]
    used = (table < 200).sum()
    assert used <= 200 and used + 3 > 200  # at most three points a voxel
    assert (table[filled:] == 200).all() and (voxel[used:] == len(scan.coords)).all()
    # Every point is in the voxel that says so.
    rows, columns = np.nonzero(table < 200)
    assert (voxel[table[rows, columns]] == rows).all()


def test_the_label_is_the_first_of_the_best():
    logits = torch.randn(2, CLASSES, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    logits[0, 2:4, 0, 0, 0] = 9.0
    labels, confidence = label_grid(logits, 1)
    probability, expected = torch.softmax(logits, 1).max(1)
    assert labels[0, 0, 0, 0] == 2
    expected[0, 0, 0, 0] = 2
    assert torch.equal(labels, expected.to(torch.uint8))
    torch.testing.assert_close(confidence.float(), torch.where(expected == 1, 0.0, probability), atol=1e-3, rtol=0)


def test_cropped_images_are_cut_at_the_upper_left_and_their_cameras_keep_their_pixels():
    shown = frame(0)
    height, width = shown.images[0].shape[:2]
    config = occle_tiny(frames=1).model_copy(update={"width": 64, "height": 32, "crop": (width - 9, height - 3)})
    sample = prepare([shown], [moved(0)], GRID, config)
    across, down = min(width - 9, 64), min(height - 3, 32)
    image = sample.images[0, 0, 0].numpy()
    np.testing.assert_array_equal(image[:down, :across], shown.images[0][:down, :across])
    assert not image[down:].any() and not image[:, across:].any()
    # A point falls on the same pixel as in the whole image.
    point = np.array([6.0, 0.5, -0.5, 1.0])
    camera = shown.cameras[0]
    uv = (camera.K @ (camera.T_camera_lidar @ np.linalg.inv(shown.T_grid_lidar) @ point)[:3])[[0, 1, 2]]
    found = sample.projections[0, 0, 0].numpy() @ point
    np.testing.assert_allclose(found[:2] / found[2] * [64, 32] - 0.5, uv[:2] / uv[2], atol=1e-3)
    # What training has cropped before is left as it is.
    again = prepare([replace(shown, images=[image], cameras=[fit_camera(camera, config)])], [moved(0)], GRID, config)
    assert torch.equal(again.images, sample.images) and torch.equal(again.projections, sample.projections)
    labels = np.arange(height * width, dtype=np.uint8).reshape(height, width)
    cut = fit_image(labels, config, 255, nearest=True)
    np.testing.assert_array_equal(cut[:down, :across], labels[:down, :across])
    assert (cut[down:] == 255).all()
