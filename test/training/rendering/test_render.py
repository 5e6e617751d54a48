# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The sphere renderer against a loop over pixels and spheres, and its gradients against finite differences."""

import math

import numpy as np
import occle_train.rendering.spheres
import pytest
import torch
from occle_train.rendering.bounds import pixel_bounds
from occle_train.rendering.spheres import render_spheres

from occle_core.geometry.camera import Camera

AXES = np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
SIZE = (22, 12)
RANGE = (0.5, 30.0)


def camera(yaw=0.0, shift=(0.0, 0.0, 0.0), roll=0.0):
    turn = np.array([[math.cos(yaw), -math.sin(yaw), 0], [math.sin(yaw), math.cos(yaw), 0], [0, 0, 1]])
    T = np.eye(4)
    T[:3, :3], T[:3, 3] = turn, shift
    K = np.array([[15.0, 0, 10.3], [0, 16.0, 5.6], [0, 0, 1]])
    about = np.array([[math.cos(roll), -math.sin(roll), 0], [math.sin(roll), math.cos(roll), 0], [0, 0, 1]])
    return Camera(about @ K, AXES @ np.linalg.inv(T), *SIZE)


def scene(count, seed=0, dtype=torch.float64, channels=3):
    """Spheres all around the camera, from smaller than a pixel to filling the view."""
    rng = np.random.default_rng(seed)
    arrays = (
        rng.uniform((-4, -8, -2), (25, 8, 2), (count, 3)),
        rng.normal(size=(count, channels)),
        np.exp(rng.uniform(math.log(0.05), math.log(1.5), count)),
        rng.uniform(0.05, 1, count),
    )
    return [torch.tensor(array, dtype=dtype) for array in arrays]


def loop(centers, features, radii, opacity, camera, size, gamma, background, depth_range):
    """The definition, pixel by pixel, in Python's own numbers."""
    camera = camera.resized(*size)
    near, far = depth_range
    R, t = camera.T_camera_lidar[:3, :3], camera.T_camera_lidar[:3, 3]
    focal = math.sqrt(abs(np.linalg.det(camera.K[:2, :2])))
    image = np.zeros((len(background), size[1], size[0]))
    for v in range(size[1]):
        for u in range(size[0]):
            ray = np.linalg.solve(camera.K, [u, v, 1.0])
            ray /= np.linalg.norm(ray)
            terms = [(1.0, 1e-6 / gamma, np.asarray(background, float))]
            for center, feature, radius, o in zip(*(value.double().numpy() for value in (centers, features, radii, opacity))):
                c = R @ center + t
                along = float(c @ ray)
                distance = float(np.linalg.norm(c - along * ray))
                d = 1 - distance / radius
                if c[2] > 0 and radius * focal / c[2] < 1:
                    pixel = np.floor((camera.K @ c)[:2] / c[2] + 0.5)
                    if (pixel == (u, v)).all():
                        d, distance, along = 1.0, 0.0, float(np.linalg.norm(c))
                if d <= 0:
                    continue
                half = math.sqrt(max(radius**2 - distance**2, 0))
                entry, leave = along - half, along + half
                if entry < near or leave > far:
                    continue
                z = 1 - (entry - near) / (far - near)
                terms.append((o * d, o * z / gamma, feature))
            peak = max(exponent for _, exponent, _ in terms)
            weights = [amount * math.exp(exponent - peak) for amount, exponent, _ in terms]
            image[:, v, u] = sum(w * value for w, (_, _, value) in zip(weights, terms)) / sum(weights)
    return image


@pytest.mark.parametrize("gamma", [1.0, 0.05, 1e-3, 1e-5])
def test_against_a_loop(gamma):
    spheres, background = scene(60), torch.tensor([0.3, -0.2, 0.9]).double()
    for one in (camera(), camera(yaw=2.5, shift=(3, 1, 0.2)), camera(roll=0.4)):
        expected = loop(*spheres, one, SIZE, gamma, background, RANGE)
        rendered = render_spheres(*spheres, one, SIZE, gamma, background, RANGE)
        assert np.abs(expected - background.numpy()[:, None, None]).max() > 0.3
        np.testing.assert_allclose(rendered.numpy(), expected, atol=1e-9)


def test_single_precision_and_another_image_size():
    spheres, background = scene(60, dtype=torch.float32), torch.tensor([0.3, -0.2, 0.9])
    rendered = render_spheres(*spheres, camera(), (33, 9), 0.05, background, RANGE)
    assert rendered.shape == (3, 9, 33) and rendered.dtype == torch.float32
    np.testing.assert_allclose(rendered.numpy(), loop(*spheres, camera(), (33, 9), 0.05, background, RANGE), atol=2e-3)


@pytest.mark.parametrize("gamma", [1.0, 0.05])
def test_gradients_against_finite_differences(gamma):
    generator = torch.Generator().manual_seed(1)
    # Away from where the definition jumps: the depth range and the one-pixel limit.
    centers = torch.rand(6, 3, generator=generator, dtype=torch.float64) * torch.tensor([6.0, 4, 2]) + torch.tensor([4.0, -2, -1])
    radii = torch.tensor([0.9, 0.6, 1.2, 0.8, 0.05, 0.08], dtype=torch.float64)
    inputs = [
        value.requires_grad_()
        for value in (
            centers,
            torch.randn(6, 2, generator=generator, dtype=torch.float64),
            radii,
            torch.rand(6, generator=generator, dtype=torch.float64) * 0.8 + 0.1,
            torch.randn(2, generator=generator, dtype=torch.float64),
        )
    ]
    cameras = [camera(), camera(yaw=0.3, shift=(0.5, 0.2, 0))]

    def render(centers, features, radii, opacity, background):
        return render_spheres(centers, features, radii, opacity, cameras, (7, 4), gamma, background, RANGE)

    assert torch.autograd.gradcheck(render, inputs, atol=1e-6, rtol=1e-4)


def test_gradients_against_autograd_on_the_dense_formula():
    spheres = [value.requires_grad_() for value in scene(40, seed=4)]
    background = torch.randn(3, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(3, SIZE[1], SIZE[0], dtype=torch.float64)
    for gamma in (0.5, 0.02, 1e-3):
        ours = torch.autograd.grad(
            (render_spheres(*spheres, camera(), SIZE, gamma, background, RANGE) * upstream).sum(), [*spheres, background]
        )
        theirs = torch.autograd.grad((dense(*spheres, gamma, background) * upstream).sum(), [*spheres, background])
        for a, b in zip(ours, theirs):
            assert b.abs().max() > 0
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


def dense(centers, features, radii, opacity, gamma, background):
    """All spheres times all pixels, with torch's own softmax."""
    one, (near, far) = camera(), RANGE
    u, v = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    rays = torch.from_numpy(np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3) @ np.linalg.inv(one.K).T)
    rays = rays / rays.norm(dim=1, keepdim=True)
    c = centers @ torch.from_numpy(one.T_camera_lidar[:3, :3]).T
    along = rays @ c.T
    distance = (c[None] - along[..., None] * rays[:, None]).norm(dim=2)
    uvw = c.detach() @ torch.from_numpy(one.K).T
    pixel = torch.floor(uvw[:, :2] / uvw[:, 2:] + 0.5)
    small = (c[:, 2] > 0) & (radii * math.sqrt(15 * 16) < c[:, 2])
    own = small & (pixel[:, 0] == torch.from_numpy(u.reshape(-1, 1))) & (pixel[:, 1] == torch.from_numpy(v.reshape(-1, 1)))
    d = torch.where(own, 1.0, 1 - distance / radii)
    met = d > 0
    square = torch.where(own | ~met, radii**2, radii**2 - distance**2)
    half = torch.sqrt(square)
    along = torch.where(own, c.norm(dim=1), along)
    met = met & (along - half >= near) & (along + half <= far)
    z = 1 - (along - half - near) / (far - near)
    logits = torch.where(met, torch.log(torch.where(met, opacity * d, 1.0)) + opacity * z / gamma, -torch.inf)
    logits = torch.cat([torch.full((len(rays), 1), 1e-6 / gamma, dtype=torch.float64), logits], 1)
    image = torch.softmax(logits, 1) @ torch.cat([background[None], features])
    return image.T.reshape(-1, SIZE[1], SIZE[0])


def test_culling_changes_nothing(monkeypatch):
    spheres, background = scene(200, seed=2), torch.zeros(3).double()
    for value in spheres:
        value.requires_grad_()
    cameras = [camera(yaw) for yaw in (0, 1.2, 2.4, 3.6, 4.8)] + [camera(roll=2.0)]
    upstream = torch.randn(6, 3, SIZE[1], SIZE[0], dtype=torch.float64)

    def run():
        image = render_spheres(*spheres, cameras, SIZE, 0.03, background, RANGE)
        return image.detach(), torch.autograd.grad((image * upstream).sum(), spheres)

    culled = run()

    def everywhere(centers, radii, K, size, far):
        *_, own = pixel_bounds(centers, radii, K, size, far)
        zero = torch.zeros(len(centers), dtype=torch.int64)
        return zero, zero, zero + size[0], zero + size[1], own

    monkeypatch.setattr(occle_train.rendering.spheres, "pixel_bounds", everywhere)
    full = run()
    torch.testing.assert_close(culled[0], full[0], rtol=0, atol=1e-12)
    for a, b in zip(culled[1], full[1]):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_the_chunk_size_does_not_matter(chunk, monkeypatch):
    spheres, background = scene(12, seed=3), torch.ones(3).double()
    for value in spheres:
        value.requires_grad_()
    size = (7, 5)

    def run():
        image = render_spheres(*spheres, camera(), size, 1e-3, background, RANGE)
        return image.detach(), torch.autograd.grad(image.square().sum(), spheres)

    whole = run()
    monkeypatch.setattr(occle_train.rendering.spheres, "CHUNK", chunk)
    parts = run()
    torch.testing.assert_close(parts[0], whole[0], rtol=1e-9, atol=1e-12)
    for a, b in zip(parts[1], whole[1]):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_several_cameras_are_the_single_ones():
    spheres, background = scene(50), torch.zeros(3).double()
    cameras = [camera(), camera(yaw=1.0), camera(shift=(-3, 0, 0))]
    together = render_spheres(*spheres, cameras, SIZE, 0.1, background, RANGE)
    assert together.shape == (3, 3, SIZE[1], SIZE[0])
    for image, one in zip(together, cameras):
        assert torch.equal(image, render_spheres(*spheres, one, SIZE, 0.1, background, RANGE))


@pytest.mark.parametrize(
    "center, radius", [((-5.0, 0, 0), 1.0), ((0.2, 0, 0), 1.0), ((1.0, 0, 0), 0.9), ((40.0, 0, 0), 2.0), ((29.5, 0, 0), 1.0)]
)
def test_behind_around_too_near_and_too_far_spheres_are_not_seen(center, radius):
    background = torch.tensor([1.0, 2.0])
    sphere = torch.tensor([center]), torch.ones(1, 2), torch.tensor([radius]), torch.ones(1)
    image = render_spheres(*sphere, camera(), SIZE, 0.1, background, RANGE)
    assert torch.equal(image, background[:, None, None].expand(2, SIZE[1], SIZE[0]))


def test_no_spheres_leave_the_background_and_gradients_exist():
    empty = [value.requires_grad_() for value in (torch.zeros(0, 3), torch.zeros(0, 4), torch.zeros(0), torch.zeros(0))]
    background = torch.arange(4.0, requires_grad=True)
    image = render_spheres(*empty, camera(), SIZE, 1e-5, background, RANGE)
    assert torch.equal(image, background[:, None, None].expand(4, SIZE[1], SIZE[0]))
    image.sum().backward()
    assert torch.equal(background.grad, torch.full((4,), float(SIZE[0] * SIZE[1])))
    assert all(value.grad.shape == value.shape for value in empty)


def test_the_nearer_sphere_hides_the_other_at_small_gamma():
    centers, features = torch.tensor([[6.0, 0, 0], [4.0, 0, 0]]), torch.eye(2)
    for order in ([0, 1], [1, 0]):
        image = render_spheres(
            centers[order], features[order], torch.full((2,), 1.5), torch.ones(2), camera(), SIZE, 1e-5, torch.zeros(2), RANGE
        )
        assert torch.allclose(image[:, 5, 10], torch.tensor([0.0, 1.0]), atol=1e-5)


def test_a_sphere_under_a_pixel_is_seen_in_one_pixel():
    # 12.3 m ahead, 0.21 m left: between the pixels' rays, and only 2 cm wide.
    sphere = torch.tensor([[12.3, 0.21, 0.0]]), torch.ones(1, 1), torch.tensor([0.01]), torch.ones(1)
    image = render_spheres(*sphere, camera(), SIZE, 1e-3, torch.zeros(1), RANGE)
    assert (image > 0.5).nonzero().tolist() == [[0, 6, 10]]


def test_transparent_spheres_are_not_seen_but_learn():
    opacity = torch.zeros(1, requires_grad=True)
    image = render_spheres(
        torch.tensor([[5.0, 0, 0]]), torch.ones(1, 1), torch.ones(1), opacity, camera(), SIZE, 0.1, torch.zeros(1), RANGE
    )
    assert not image.any()
    image.sum().backward()
    assert opacity.grad > 0


def test_what_does_not_fit_is_said():
    good = dict(
        zip(("centers", "features", "radii", "opacity"), scene(3)),
        camera=camera(),
        size=SIZE,
        gamma=0.1,
        background=torch.zeros(3).double(),
        depth_range=RANGE,
    )
    cases = {
        "radii": (torch.ones(4).double(), "radii"),
        "background": (torch.zeros(2).double(), "background"),
        "opacity": (torch.ones(3), "float32"),
        "gamma": (2.0, "gamma"),
        "depth_range": ((5.0, 1.0), "near < far"),
        "size": ((0, 5), "size"),
        "camera": ([], "no camera"),
    }
    for name, (value, message) in cases.items():
        with pytest.raises(ValueError, match=message):
            render_spheres(**{**good, name: value})


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_what_the_cpu_gives():
    spheres, background = scene(300, dtype=torch.float32), torch.zeros(3)
    results = []
    for device in ("cpu", "cuda"):
        moved = [value.to(device).requires_grad_() for value in spheres]
        image = render_spheres(*moved, [camera(), camera(1.0)], SIZE, 0.05, background.to(device), RANGE)
        results.append([image.detach().cpu(), *(g.cpu() for g in torch.autograd.grad(image.square().sum(), moved))])
    for a, b in zip(*results):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
