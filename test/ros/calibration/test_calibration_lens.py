# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""CameraInfo -> Lens -> Camera and rectified images, against the distortion formulas written out here."""

from __future__ import annotations

import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo

from occle_core.geometry.camera import Camera
from occle_core.rig.description import LensRig
from occle_core.sensors import camera_info
from occle_core.sensors.camera_info import Lens, calibration_key, lens_from_info, lens_from_rig
from occle_core.sensors.messages import ConversionError
from occle_ros.messages.camera_info import info_from_camera

WIDTH, HEIGHT = 320, 200
K = np.array([[210.0, 0, 158.3], [0, 205.0, 101.7], [0, 0, 1]])
NEW_K = np.array([[190.0, 0, 160.0], [0, 190.0, 99.5], [0, 0, 1]])
PLUMB_BOB = [-0.28, 0.09, 0.002, -0.001, -0.01]
RATIONAL = [0.4, 0.05, 0.001, -0.002, 0.003, 0.7, 0.12, 0.01]
EQUIDISTANT = [0.05, -0.01, 0.004, -0.001]


def rational(x: np.ndarray, y: np.ndarray, d: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Brown-Conrady with a rational radial term (OpenCV's camera model: k1 k2 p1 p2 k3 k4 k5 k6; plumb_bob ends with k3)."""
    k1, k2, p1, p2, k3, k4, k5, k6 = [*d, 0, 0, 0, 0][:8]
    r2 = x * x + y * y
    radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def equidistant(x: np.ndarray, y: np.ndarray, d: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Kannala-Brandt: the image's radius is a polynomial of the angle to the optical axis."""
    r = np.hypot(x, y)
    theta = np.arctan(r)
    bent = theta * (1 + d[0] * theta**2 + d[1] * theta**4 + d[2] * theta**6 + d[3] * theta**8)
    scale = np.where(r > 1e-9, bent / np.maximum(r, 1e-9), 1)
    return x * scale, y * scale


MODELS = {
    "plumb_bob": (PLUMB_BOB, rational),
    "plumb_bob of 4": (PLUMB_BOB[:4], rational),
    "rational_polynomial": (RATIONAL, rational),
    "equidistant": (EQUIDISTANT, equidistant),
    "fisheye": (EQUIDISTANT, equidistant),
}


def info(model: str = "plumb_bob", d: list[float] = PLUMB_BOB, P: np.ndarray | None = NEW_K) -> CameraInfo:
    full = np.zeros((3, 4)) if P is None else np.hstack([P, np.zeros((3, 1))])
    message = CameraInfo(width=WIDTH, height=HEIGHT, distortion_model=model, d=d, k=K.reshape(-1), p=full.reshape(-1))
    message.r = np.eye(3).reshape(-1)
    message.header.frame_id = "cam2_optical"
    return deserialize_message(serialize_message(message), CameraInfo)


def picture(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """A smooth picture that tells where in the recorded image each pixel was."""
    waves = [127 + 100 * np.sin(u / 17), 127 + 100 * np.sin(v / 13), 127 + 100 * np.sin((u + v) / 23)]
    return np.stack(waves, -1)


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("P", [NEW_K, None])
def test_distorted_images_become_those_of_a_pinhole(case, P):
    d, distort = MODELS[case]
    lens = lens_from_info(info(case.split()[0], d, P))
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    recorded = picture(u, v).round().astype(np.uint8)
    image = lens.rectify(recorded)

    wanted = K if P is None else P
    camera = lens.camera(np.eye(4))
    np.testing.assert_allclose(camera.K, wanted)
    xd, yd = distort((u - wanted[0, 2]) / wanted[0, 0], (v - wanted[1, 2]) / wanted[1, 1], d)
    ur, vr = K[0, 0] * xd + K[0, 2], K[1, 1] * yd + K[1, 2]
    seen = (ur > 1) & (ur < WIDTH - 2) & (vr > 1) & (vr < HEIGHT - 2)
    assert seen.mean() > 0.5
    assert np.abs(image.astype(float) - picture(ur, vr))[seen].max() < 3
    unseen = (ur < -2) | (ur > WIDTH + 1) | (vr < -2) | (vr > HEIGHT + 1)
    assert not image[unseen].any()
    assert np.abs(image.astype(int) - recorded).max() > 30  # it made a difference


@pytest.mark.parametrize(
    ("model", "d", "zeros"),
    [
        ("plumb_bob", PLUMB_BOB, 3),
        ("plumb_bob", PLUMB_BOB, 9),
        ("plumb_bob", PLUMB_BOB[:4], 10),
        ("rational_polynomial", RATIONAL, 2),
        ("rational_polynomial", RATIONAL, 6),
        ("rational_polynomial", RATIONAL, 8),
        ("equidistant", EQUIDISTANT, 1),
        ("fisheye", EQUIDISTANT, 10),
    ],
)
def test_zeros_behind_the_models_coefficients_change_nothing(model, d, zeros):
    image = picture(*np.mgrid[:HEIGHT, :WIDTH].astype(float)[::-1]).round().astype(np.uint8)
    expected = lens_from_info(info(model, d)).rectify(image)
    np.testing.assert_array_equal(lens_from_info(info(model, d + [0.0] * zeros)).rectify(image), expected)
    with pytest.raises(ConversionError, match="coefficients"):
        lens_from_info(info(model, d + [0.0] * zeros + [0.01]))


@pytest.mark.parametrize("model", ["", "plumb_bob", "rational_polynomial", "equidistant", "thin_prism"])
@pytest.mark.parametrize("count", [0, 1, 5, 8, 14])
def test_coefficients_of_zero_are_no_distortion_whatever_the_model(model, count):
    assert lens_from_info(info(model, [0.0] * count)).maps is None


def test_points_and_pixels_agree_after_rectification():
    """A bright dot where the distorted camera sees a point is, rectified, where the pinhole camera projects it."""
    lens = lens_from_info(info())
    camera = lens.camera(np.eye(4))
    for point in ([1.0, 0.5, 4.0], [-2.0, -0.8, 5.0], [0.3, 1.2, 4.0]):
        xd, yd = rational(np.array(point[0] / point[2]), np.array(point[1] / point[2]), PLUMB_BOB)
        v, u = np.mgrid[:HEIGHT, :WIDTH]
        dot = 255 * np.exp(-((u - K[0, 0] * xd - K[0, 2]) ** 2 + (v - K[1, 1] * yd - K[1, 2]) ** 2) / 8)
        image = lens.rectify(np.dstack([dot.astype(np.uint8)] * 3))[..., 0].astype(float)
        found = np.array([(image * u).sum(), (image * v).sum()]) / image.sum()
        uv, _, _ = camera.project(np.array([point]))
        np.testing.assert_allclose(found, uv[0], atol=0.15)


def lens_of_rig_file(model: str, d: list[float]) -> Lens:
    fx, fy, cx, cy = K[0, 0], K[1, 1], K[0, 2], K[1, 2]
    return lens_from_rig(LensRig(model=model, fx=fx, fy=fy, cx=cx, cy=cy, distortion=tuple(d)), WIDTH, HEIGHT, "cam2")


@pytest.mark.parametrize(
    ("case", "source"),
    [(case, "CameraInfo") for case in MODELS]
    + [(case, "rig file") for case in ("plumb_bob", "rational_polynomial", "equidistant")],
)
def test_a_halved_lens_rectifies_halved_images_as_the_lens_does_whole_ones(case, source):
    model, d = case.split()[0], MODELS[case][0]
    lens = lens_from_info(info(model, d)) if source == "CameraInfo" else lens_of_rig_file(model, d)
    v, u = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    recorded = picture(u, v).round().astype(np.uint8)
    half = lens.halved
    assert (half.width, half.height) == (WIDTH // 2, HEIGHT // 2) and lens.halved is half

    def halved(image: np.ndarray) -> np.ndarray:
        return image.reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3).mean((1, 3))

    image = half.rectify(halved(recorded).round().astype(np.uint8))
    inside = (halved(lens.rectify(np.full_like(recorded, 255))) == 255) & (half.rectify(np.full_like(image, 255)) == 255)
    assert inside.mean() > 0.5
    assert np.abs(image - halved(lens.rectify(recorded)))[inside].max() < 4
    T = np.eye(4)
    for one, other in ((half.camera(T), lens.camera(T)), (half.camera(T, True), lens.camera(T, True))):
        resized = other.resized(WIDTH // 2, HEIGHT // 2)
        np.testing.assert_allclose(one.K, resized.K)
        np.testing.assert_allclose(one.T_camera_lidar, resized.T_camera_lidar)


def test_maps_are_computed_once_per_content():
    camera_info._maps.cache_clear()
    first, again = lens_from_info(info()), lens_from_info(info())
    assert first.maps is not None and again.maps is not None and first.maps[0] is again.maps[0]
    assert camera_info._maps.cache_info().misses == 1
    assert lens_from_info(info(d=[0.1, 0, 0, 0, 0])).maps[0] is not first.maps[0]


def test_without_distortion_images_pass_untouched_and_the_whole_p_counts():
    message = info(d=[])
    message.p[3] = -NEW_K[0, 0] * 0.54  # a stereo pair's right camera: Tx = -f B
    lens = lens_from_info(message)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    assert lens.rectify(image) is image
    point = np.array([1.0, 0.4, 8, 1])
    expected = np.asarray(message.p).reshape(3, 4) @ point
    uv, _, _ = lens.camera(np.eye(4)).project(point[None, :3])
    np.testing.assert_allclose(uv[0], expected[:2] / expected[2])
    # Where the frame is known to be this camera's own, the way from the first camera does not count.
    uv, _, _ = lens.camera(np.eye(4), own_frame=True).project(point[None, :3])
    np.testing.assert_allclose(uv[0], (NEW_K @ point[:3])[:2] / 8)


def test_a_stereo_pairs_raw_image_is_rectified_into_its_own_frame():
    message = info()
    angle = 0.02
    message.r = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]).reshape(-1)
    message.p[3] = -100.0
    np.testing.assert_array_equal(lens_from_info(message).maps[0], lens_from_info(info()).maps[0])
    np.testing.assert_array_equal(lens_from_info(message).camera(np.eye(4)).T_camera_lidar, np.eye(4))


def test_image_procs_images_keep_the_raw_cameras_distortion_in_their_info():
    lens = lens_from_info(info(), rectified=True)
    assert lens.maps is None
    np.testing.assert_array_equal(lens.P[:, :3], NEW_K)


def test_an_image_of_another_size_is_named_with_both_sizes():
    with pytest.raises(ConversionError, match=r"/cam2/image is 160 x 100, but CameraInfo of 'cam2_optical' is for 320 x 200"):
        lens_from_info(info()).rectify(np.zeros((100, 160, 3), np.uint8), "/cam2/image")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"d": [], "r": [0.0, 1, 0, -1, 0, 0, 0, 0, 1]}, "rotation R .*topic of the raw image"),
        ({"binning_x": 2}, "binned or cropped"),
        ({"p": np.zeros(12), "k": np.zeros(9)}, "not calibrated.*camera_calibration"),
        ({"k": np.zeros(9)}, "not calibrated: its K"),
        ({"width": 0}, "image size must be positive and at most"),
        ({"width": 4_000_000_000}, "image size must be positive and at most"),
        ({"distortion_model": "thin_prism"}, r"5 coefficients .* 'thin_prism'.*plumb_bob \(4 or 5\)"),
        ({"d": [0.1, 0.2]}, "2 coefficients"),
        ({"d": [0.1, np.nan, 0, 0, 0]}, "finite ones"),
    ],
)
def test_camera_infos_that_would_mislead_are_refused(change, words):
    message = info()
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(ConversionError, match=words) as caught:
        lens_from_info(message).camera(np.eye(4))
    assert "cam2_optical" in str(caught.value)


def test_a_region_of_interest_of_the_whole_image_is_none():
    message = info()
    message.roi.width, message.roi.height = WIDTH, HEIGHT
    assert lens_from_info(message).width == WIDTH
    message.roi.height -= 1
    with pytest.raises(ConversionError, match="cropped"):
        lens_from_info(message)


def test_camera_info_carries_the_camera():
    T = np.eye(4)
    T[:3, :3] = [[0, -1, 0], [0, 0, -1], [1, 0, 0]]
    T[:3, 3] = [0.1, -0.2, 0.3]
    camera = Camera(NEW_K, T, 1242, 375)
    message = deserialize_message(serialize_message(info_from_camera(camera, 9, "cam2_optical")), CameraInfo)
    back = lens_from_info(message).camera(T)
    np.testing.assert_array_equal(back.K, NEW_K)
    np.testing.assert_array_equal(back.T_camera_lidar, T)
    assert (back.width, back.height) == (1242, 375)


def test_only_the_content_tells_whether_an_info_changed():
    first, later = info(), info()
    later.header.stamp.sec = 77
    assert calibration_key(first) == calibration_key(later)
    later.k[0] += 1
    assert calibration_key(first) != calibration_key(later)
