# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's recipe: interval sampling, teacher filter, what each phase minimises and what it leaves alone."""

import copy
from fractions import Fraction

import numpy as np
import pytest
import torch
from occle_rig import GRID, frame, moved
from occle_train.losses.occle import occupancy_loss, weighted_cross_entropy
from occle_train.occle.distillation import filter_confident, merge_targets
from occle_train.occle.objectives import (
    OccleBatch,
    Weights,
    fusion_loss,
    geometric_loss,
    lifted_labels,
    nearness,
    occupancy_of,
    semantic_loss,
)
from occle_train.occle.phases import LEARNING, OccleRecipeConfig, begin_phase, predict_teacher_labels, run_step
from occle_train.occle.samples import interval_sample
from torch.nn import functional as F

from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.networks.occle.inputs import collate, prepare
from occle_core.networks.occle.network import OccLE

CLASSES = 5
WEIGHTS = Weights(torch.rand(CLASSES) + 0.5, torch.rand(CLASSES) + 0.5, torch.tensor([0.3, 0.7]), free=0)


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.15, 0.37, 1.0])
@pytest.mark.parametrize("count", [1, 7, 60, 3834, 100_001])
def test_annotated_frames_are_evenly_spread(count, share):
    frames = interval_sample(count, share)
    assert len(frames) == min(count, max(1, round(count * share))) == len(set(frames))
    assert frames == sorted(frames) and frames[0] >= 0 and frames[-1] < count
    gaps = np.diff([*frames, frames[0] + count])
    assert max(gaps) - min(gaps) <= 1
    assert abs(float(np.mean(gaps)) - float(Fraction(count, len(frames)))) < 1e-9


def test_all_frames_and_no_share():
    assert interval_sample(5, 1.0) == [0, 1, 2, 3, 4]
    for share in (0, 1.2):
        with pytest.raises(ValueError, match="annotated share"):
            interval_sample(5, share)


def test_only_sure_predictions_pass_the_filter():
    logits = torch.randn(2, 3, 4, 4, 2) * 2
    out = filter_confident(logits, 0.7)
    for b, x, y, z in torch.cartesian_prod(torch.arange(2), torch.arange(4), torch.arange(4), torch.arange(2)).tolist():
        scores = np.exp(logits[b, :, x, y, z].double().numpy())
        share = scores.max() / scores.sum()
        assert int(out[b, x, y, z]) == (int(scores.argmax()) if share >= 0.7 else 255)
    assert (out == 255).any() and (out != 255).any()


def test_annotations_go_before_the_teacher():
    annotation, teacher_labels = torch.tensor([0, 1, 255, 255]).to(torch.uint8), torch.tensor([1, 255, 1, 255]).to(torch.uint8)
    assert merge_targets(annotation, teacher_labels).tolist() == [0, 1, 1, 255]


def network(seed=0):
    torch.manual_seed(seed)
    return OccLE(occle_tiny(), CLASSES, GRID)


def batch(annotated=True, seed=0):
    parts = [prepare([frame(seed + 2 * n), frame(seed + 2 * n + 1)], [moved(0), moved(-1)], GRID, occle_tiny()) for n in range(2)]
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, CLASSES, (2, 1, 32, 64), generator=generator).to(torch.uint8)
    labels[torch.rand(labels.shape, generator=generator) < 0.1] = 255
    truth = torch.randint(0, CLASSES, (2, *GRID.shape), generator=generator).to(torch.uint8)
    truth[:, 20:] = 255
    return OccleBatch(collate(parts), labels, truth if annotated else torch.full_like(truth, 255))


def test_pseudo_labels_reach_voxels_with_more_than_one_point():
    """Eq. 2 voxel by voxel with the camera's own projection."""
    sample, net = batch(), network()
    out = lifted_labels(net, sample)
    scan, known = sample.inputs.scans[0], 0
    cameras = [frame(0).cameras[0], frame(2).cameras[0]]
    for row in range(0, len(out), 3):
        number, *cell = scan.coords[row].tolist()
        uv, _, visible = cameras[number].project(GRID.centers(np.array([cell])))
        if np.abs(uv + 0.5 - np.round(uv + 0.5)).min() < 1e-3:
            continue  # on a pixel's border in single precision
        expected = 255
        if visible[0] and scan.counts[row] > 1:
            expected = int(sample.labels[number, 0, int(np.floor(uv[0, 1] + 0.5)), int(np.floor(uv[0, 0] + 0.5))])
        known += expected != 255
        assert int(out[row]) == expected
    assert known > 10


def test_semantic_loss_is_cross_entropy_in_2d_and_occupancy_loss_in_3d():
    net, sample = network().eval(), batch()
    terms = semantic_loss(net, sample, WEIGHTS)
    semantics = net.semantics(sample.inputs, net.cells(sample.inputs))
    logits = F.interpolate(net.semantic.image_logits(semantics), (32, 64), mode="bilinear")
    torch.testing.assert_close(terms["image"], weighted_cross_entropy(logits, sample.labels[:, 0], WEIGHTS.pixels))
    lidar = net.semantic.lidar_logits(semantics).features
    torch.testing.assert_close(terms["lidar"], occupancy_loss(lidar, lifted_labels(net, sample), WEIGHTS.pixels))


def test_students_learn_from_annotations_and_from_the_teacher():
    net, sample = network().eval(), batch()
    logits = net.geometric.logits(net.geometry(sample.inputs, net.cells(sample.inputs)))
    known = sample.truth != 255
    target = torch.where(known, (sample.truth != 0).long(), 255)
    expected = F.cross_entropy(logits, target, WEIGHTS.geometry, ignore_index=255)
    torch.testing.assert_close(geometric_loss(net, sample, WEIGHTS)["geometry"], expected)
    sample.teacher_labels = torch.randint(0, 2, sample.truth.shape).to(torch.uint8)
    target = torch.where(known, target, sample.teacher_labels.long())
    expected = F.cross_entropy(logits, target, WEIGHTS.geometry, ignore_index=255)
    torch.testing.assert_close(geometric_loss(net, sample, WEIGHTS)["geometry"], expected)
    assert occupancy_of(torch.tensor([0, 3, 255, 17]).to(torch.uint8), 17).tolist() == [1, 1, 255, 0]


def test_frames_without_annotation_are_supervised_by_their_projection():
    net, sample = network(), batch(annotated=False)
    terms = fusion_loss(net, sample, WEIGHTS)
    assert terms["occupancy"] == 0 and terms["projection"] > 0
    terms["projection"].backward()
    assert net.fusion.mamba.merge.weight.grad.abs().sum() > 0 and net.geometric.first.conv.weight.grad is None


def test_pixels_that_no_cell_falls_on_have_no_projection_loss():
    net, sample = network().eval(), batch()
    before = fusion_loss(net, sample, WEIGHTS, stride=1)["projection"]
    cells = net.cells(sample.inputs)
    fused = net.fusion(net.semantics(sample.inputs, cells).grid, net.geometry(sample.inputs, cells))
    _, hit = net.fusion.projected_logits(fused, sample.inputs.projections[:, 0], net.centers, 32, 64)
    blank = sample.labels.clone()
    outside = ~hit
    assert outside.any() and hit.any()
    blank[:, 0][outside] = (blank[:, 0][outside] + 1) % CLASSES
    changed = OccleBatch(sample.inputs, blank, sample.truth)
    torch.testing.assert_close(fusion_loss(net, changed, WEIGHTS, stride=1)["projection"], before)


@pytest.mark.parametrize("phase", list(LEARNING))
def test_a_phase_changes_what_learns_and_nothing_else_not_even_a_bit(phase):
    net, sample, config = network(), batch(), OccleRecipeConfig(learning_rate=1e-2)
    if phase == "student":
        sample.teacher_labels = predict_teacher_labels(
            copy.deepcopy(net).eval().requires_grad_(False), sample, config.model_copy(update={"confidence_threshold": 0.5})
        )
        assert (sample.teacher_labels != 255).any()
    optimizer = begin_phase(net, phase, config)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seen = [run_step(net, phase, sample, optimizer, WEIGHTS, config) for _ in range(2)]
    assert all(np.isfinite(list(terms.values())).all() for terms in seen)
    after = net.state_dict()
    for part in ("semantic", "geometric", "fusion"):
        names = [name for name in before if name.startswith(f"{part}.")]
        same = [torch.equal(before[name], after[name]) for name in names]
        assert all(same) if part not in LEARNING[phase] else sum(same) < 0.3 * len(same)


@pytest.mark.parametrize("phase", ["semantic", "teacher", "fusion"])
def test_bfloat16_learns_as_float32_does(phase, monkeypatch):
    convolve = torch.nn.Conv3d._conv_forward

    def in_float32(self, x, weight, bias):  # on CPUs its gradients are wrong in bfloat16
        with torch.autocast("cpu", enabled=False):
            return convolve(self, x.float(), weight, bias)

    monkeypatch.setattr(torch.nn.Conv3d, "_conv_forward", in_float32)
    seen = {}
    for precision in ("fp32", "bf16", "tf32"):
        net, sample, config = network(), batch(), OccleRecipeConfig(precision=precision)
        optimizer = begin_phase(net, phase, config)
        seen[precision] = [run_step(net, phase, sample, optimizer, WEIGHTS, config) for _ in range(2)]
        assert all(parameter.dtype == torch.float32 for parameter in net.parameters())
    for exact, rounded in zip(seen["fp32"], seen["bf16"]):
        assert {name: rounded[name] for name in exact} == pytest.approx(exact, rel=0.1) and rounded != exact
    assert seen["tf32"] == seen["fp32"]  # on a CPU it changes nothing


def test_recomputing_the_scans_keeps_less_and_changes_nothing():
    def trained(recompute):
        net, sample = network(), batch()
        config = OccleRecipeConfig(recompute=recompute)
        optimizer, kept = begin_phase(net, "fusion", config), []

        def keep(tensor):
            kept.append(tensor.nbytes)
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            run_step(net, "fusion", sample, optimizer, WEIGHTS, config)
        return net.state_dict(), sum(kept)

    (weights, most), (again, least) = trained(False), trained(True)
    assert least < 0.8 * most
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_a_few_steps_lower_the_loss():
    net, sample, config = network(), batch(), OccleRecipeConfig(learning_rate=5e-3)
    optimizer = begin_phase(net, "teacher", config)
    seen = [run_step(net, "teacher", sample, optimizer, WEIGHTS, config)["geometry"] for _ in range(12)]
    assert seen[-1] < seen[0]


def test_a_loss_that_is_not_finite_stops_the_run_and_leaves_the_weights():
    net, sample, config = network(), batch(), OccleRecipeConfig()
    optimizer = begin_phase(net, "teacher", config)
    with torch.no_grad():
        net.geometric.head[-1].bias.fill_(float("nan"))
    before = net.geometric.first.conv.weight.clone()
    with pytest.raises(FloatingPointError, match="teacher"):
        run_step(net, "teacher", sample, optimizer, WEIGHTS, config)
    assert torch.equal(net.geometric.first.conv.weight, before)


def test_a_gradient_that_is_not_finite_stops_the_run_and_leaves_the_weights():
    net, sample, config = network(), batch(), OccleRecipeConfig()
    optimizer = begin_phase(net, "teacher", config)
    net.geometric.first.conv.weight.register_hook(lambda gradient: gradient * float("nan"))
    before = [parameter.detach().clone() for parameter in net.parameters()]
    with pytest.raises(FloatingPointError, match="phase teacher: the gradient's norm is nan"):
        run_step(net, "teacher", sample, optimizer, WEIGHTS, config)
    assert all(torch.equal(one, other) for one, other in zip(before, net.parameters()))


def test_the_papers_numbers_are_the_defaults():
    config = OccleRecipeConfig()
    assert (config.learning_rate, config.weight_decay, config.batch_size, config.annotated_fraction) == (2e-4, 1e-4, 1, 0.1)
    assert [config.epochs_of(phase) for phase in ("semantic", "teacher", "student", "fusion")] == [40, 100, 40, 40]


def test_the_weighted_projection_counts_cells_by_their_nearness():
    net, sample = network(), batch()
    weights = nearness(sample.inputs.projections[:, 0], net.centers)
    assert weights.shape == (sample.inputs.batch_size, len(net.centers))
    # Cameras from their matrices' null spaces, independently of the code's solve.
    for number, matrices in enumerate(sample.inputs.projections[:, 0].double().numpy()):
        there = [matrix for matrix in matrices if np.abs(matrix).sum()]
        places = [(lambda v: v[:3] / v[3])(np.linalg.svd(matrix)[2][-1]) for matrix in there]
        distance = np.min([np.linalg.norm(net.centers.numpy() - place, axis=1) for place in places], 0)
        np.testing.assert_allclose(weights[number].numpy(), 1 - distance / distance.max(), atol=1e-4)
    plain = fusion_loss(net.eval(), sample, WEIGHTS)["projection"]
    weighted = fusion_loss(net, sample, WEIGHTS, weighted=True)["projection"]
    assert plain.item() != weighted.item()
