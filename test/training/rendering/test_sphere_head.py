# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Voxels as 2D logits: what is rendered, through which camera, and what the labels supervise."""

import numpy as np
import pytest
import torch
from occle_train.data.samples import View
from occle_train.data.views import batch_view
from occle_train.rendering.head import SphereHead
from rooms import BUILDING, CAMERA, GRID, ROAD

from occle_core.sparse import SparseTensor

FREE = 0


FILLED = 0.7
"""Spheres that touch cover pi / 4 of a wall seen from the front, and less at its upper edge."""


def wall(x, label, y=range(32), classes=20):
    """Cells of a wall at grid column x, sure of a label."""
    cells = torch.tensor([(0, x, j, k) for j in y for k in range(8)])
    logits = torch.zeros(len(cells), classes)
    logits[:, label] = 8.0
    return cells, logits


def tensor(*walls):
    cells, logits = (torch.cat(parts) for parts in zip(*walls))
    return SparseTensor(logits.requires_grad_(), cells, GRID.shape)


def unknown():
    return torch.full((1, *GRID.shape), 255, dtype=torch.uint8)


def view(labels=BUILDING, T_grid_lidar=None):
    ids = np.full((32, 64), labels, np.uint8) if np.isscalar(labels) else labels
    seen = View(CAMERA, ids, np.ones((32, 64), np.float32))
    return batch_view(seen, 0, np.eye(4) if T_grid_lidar is None else T_grid_lidar)


@pytest.fixture
def head():
    torch.manual_seed(0)
    return SphereHead(20, FREE, GRID, gamma=3e-3, far=20, width=8)


def test_the_nearer_wall_is_seen_and_the_shader_starts_as_nothing(head):
    plain, shaded = head(tensor(wall(15, BUILDING), wall(20, ROAD)), unknown(), [view()])
    assert torch.equal(plain, shaded) and plain.shape == (1, 20, 32, 64)
    seen = plain[0].argmax(0)[12:20, 10:54]
    assert FILLED < (seen == BUILDING).float().mean() < 1 and ROAD in seen  # between the spheres
    assert (plain[0, FREE] < -5e3).all()


def test_under_autocast_the_picture_is_the_same(head):
    cells = tensor(wall(15, BUILDING), wall(20, ROAD))
    with torch.autocast("cpu", torch.bfloat16):
        plain, _ = head(cells.with_features(cells.features.bfloat16()), unknown(), [view()])
    torch.testing.assert_close(plain, head(cells, unknown(), [view()])[0])


def test_free_cells_are_not_rendered_and_what_is_known_decides(head):
    cells = tensor(wall(15, FREE), wall(20, ROAD))
    seen = head(cells, unknown(), [view()])[0][0].argmax(0)[12:20, 20:44]
    assert (seen == ROAD).float().mean() > FILLED and BUILDING not in seen
    known = unknown()
    known[0, 20] = 0
    known[0, 15] = 1
    seen = head(cells, known, [view()])[0][0, :, 16, 32]
    # The wall that is known to be there is seen, though its cells say free: all other classes are alike.
    assert float((seen[1:] - seen[1]).detach().abs().max()) < 1e-4


def test_a_pixel_of_the_ground_belongs_to_the_cell_that_it_sees(head):
    """Two classes side by side on flat ground in the middle of its cells, seen from 1.4 m above."""
    cells = torch.cartesian_prod(torch.tensor([0]), torch.arange(1, 32), torch.arange(32), torch.tensor([1]))
    logits = torch.zeros(len(cells), 20)
    logits[:, ROAD], logits[:, BUILDING] = 8.0 * (cells[:, 1] < 12), 8.0 * (cells[:, 1] >= 12)
    plain = head(SparseTensor(logits, cells, GRID.shape), unknown(), [view()])[0][0].detach()
    # Row v looks at the ground, whose middle is 1.4 m below the camera, 1.4 * 30 / (v - 15.5) metres ahead; the border is at 4.8.
    far, near = plain.argmax(0)[22:25, 12:52], plain.argmax(0)[25:28, 12:52]
    assert (far == BUILDING).float().mean() > 0.8 and (near == ROAD).float().mean() > 0.8


def test_a_turned_grid_is_seen_through_the_same_image(head):
    half = range(4, 18)
    one = head(tensor(wall(15, BUILDING, half), wall(20, ROAD)), unknown(), [view()])[0]
    mirror = np.diag([1.0, -1, 1, 1])
    flipped = tensor(wall(15, BUILDING, [31 - j for j in half]), wall(20, ROAD))
    other = head(flipped, unknown(), [view(T_grid_lidar=mirror)])[0]
    torch.testing.assert_close(one, other, atol=1e-3, rtol=1e-3)
    unturned = head(flipped, unknown(), [view()])[0]
    assert (one - unturned).abs().max() > 1


def test_labels_pull_the_logits_of_the_cells_that_are_seen(head):
    cells = tensor(wall(15, BUILDING), wall(20, ROAD))
    head.loss(cells, unknown(), [view(ROAD)], torch.ones(20), lambda value: value).backward()
    gradient = cells.features.grad
    front, back = gradient[:256], gradient[256:]
    assert front[:, ROAD].sum() < 0 < front[:, BUILDING].sum() and float(front[:, FREE].abs().max()) == 0
    assert back.abs().sum() < 0.05 * front.abs().sum()
    assert all(parameter.grad is not None for parameter in head.parameters())


def test_the_loss_is_the_mean_confidence_weighted_cross_entropy(head):
    labels = np.full((32, 64), 255, np.uint8)
    labels[16, 30:34] = ROAD
    seen = View(CAMERA, labels, np.full((32, 64), 0.5, np.float32))
    cells = tensor(wall(15, BUILDING))
    loss = head.loss(cells, unknown(), [batch_view(seen, 0, np.eye(4))], torch.ones(20), lambda value: value)
    plain = head(cells, unknown(), [view()])[0][0].detach().double()
    p = torch.softmax(plain[:, 16, 30:34], 0)[ROAD]
    assert float(loss.detach()) == pytest.approx(float((-0.5 * torch.log(p)).mean()), rel=1e-4)


def test_without_views_the_loss_is_zero(head):
    cells = tensor(wall(15, BUILDING))
    loss = head.loss(cells, unknown(), [], torch.ones(20), lambda value: value)
    loss.backward()
    assert float(loss.detach()) == 0 and not cells.features.grad.any()


def test_features_are_rendered_through_the_shader_alone():
    torch.manual_seed(0)
    head = SphereHead(20, FREE, GRID, gamma=3e-3, far=20, width=8, channels=3, sunken=False, unshaded=0.0)
    cells = tensor(wall(15, BUILDING))
    features = SparseTensor(torch.randn(len(cells.features), 3, requires_grad=True), cells.coords, GRID.shape)
    plain, shaded = head(cells, unknown(), [view()], features)
    assert torch.equal(plain, shaded) and shaded.shape == (1, 20, 32, 64)
    head.loss(cells, unknown(), [view(ROAD)], torch.ones(20), lambda value: value, features).backward()
    assert features.features.grad.abs().sum() > 0 and cells.features.grad is None  # the class logits take no part
    assert head.shader.head.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("shows_free", [True, False])
def test_a_free_class_that_nothing_teaches_takes_no_part(shows_free):
    """Else the shader would use its logit as one more feature, and inference would read that as free."""
    torch.manual_seed(0)
    head = SphereHead(20, FREE, GRID, gamma=3e-3, far=20, width=8, sunken=False, unshaded=0.0, shows_free=shows_free)
    for part in (head.shader.head, head.shape):
        torch.nn.init.normal_(part.weight)
    cells, known = tensor(wall(15, BUILDING)), torch.ones(1, *GRID.shape, dtype=torch.uint8)
    before = head(cells, known, [view()])[1]
    head.loss(cells, known, [view(ROAD)], torch.ones(20), lambda value: value).backward()
    gradient = cells.features.grad.abs().sum(0)
    assert bool(gradient[FREE] > 0) == shows_free and (gradient[1:] > 0).all()
    with torch.no_grad():
        cells.features[:, FREE] = -30
    assert torch.equal(head(cells, known, [view()])[1], before) != shows_free


def test_the_top_of_a_near_wall_is_higher_where_spheres_are_centred():
    """At 2.6 m a radius of 0.2 m is 2.3 pixels."""
    top = {}
    for sunken in (False, True):
        torch.manual_seed(0)
        head = SphereHead(20, FREE, GRID, gamma=3e-3, far=20, width=8, sunken=sunken)
        picture = head(tensor(wall(6, BUILDING)), unknown(), [view()])[0][0].detach()
        top[sunken] = int((picture[BUILDING, :, 28:36] > 4).any(1).nonzero().min())
    assert 1 <= top[True] - top[False] <= 3


def test_the_share_before_the_shader_is_part_of_the_loss(head):
    nn = torch.nn.init
    nn.normal_(head.shader.head.weight)
    cells, total = tensor(wall(15, BUILDING)), lambda value: value
    losses = []
    for share in (0.0, 0.3, 1.0):
        head.unshaded = share
        losses.append(float(head.loss(cells, unknown(), [view(ROAD)], torch.ones(20), total).detach()))
    assert losses[1] == pytest.approx(0.7 * losses[0] + 0.3 * losses[2], rel=1e-5) and losses[0] != losses[2]
