# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The map as a whole: what frames leave behind, when it starts anew, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from map_frames import BUILDING, CAR, CLASSES, ROAD, SECOND, center, occupancy, pose, scan, state

from occle_core import taxonomy
from occle_core.geometry.grid import VoxelGrid
from occle_core.mapping import MapConfig, RollingMap
from occle_core.mapping.config import UNITS

SMALL = MapConfig(size=(16.0, 16.0, 6.4))
TENTH = SECOND // 10


def drive(frames, config=SMALL):
    """A map after (occupancy, scan, pose) of frames a tenth of a second apart."""
    world = RollingMap(CLASSES, config)
    for number, (grid, points, T) in enumerate(frames):
        assert world.update(grid, points, T, number * TENTH).accepted
    return world


def test_an_occupied_cell_stands_where_the_pose_puts_it():
    for yaw in (0.0, np.pi / 2, -np.pi / 2, np.pi):
        T = pose(100.4, -20.0, 0.8, yaw)
        shot = drive([(occupancy([(8, 8, 4)]), scan(), T)]).snapshot()
        where = T[:3, :3] @ center((8, 8, 4)) + T[:3, 3]
        assert state(shot, where)[0] > 0 and state(shot, where)[1] == BUILDING
        assert shot.occupied.sum() == 1
        np.testing.assert_allclose(shot.voxels()[0][0], where, atol=1e-4)


def test_what_the_network_does_not_know_stays_unknown():
    shot = drive([(occupancy(base=255), scan(), pose())]).snapshot()
    assert not shot.log_odds.any()
    np.testing.assert_array_equal(shot.probability, 0.5)


def test_evidence_is_the_share_of_the_log_odds_that_the_configuration_names():
    shot = drive([(occupancy([(8, 8, 4)]), scan(), pose())]).snapshot()
    p, q = float(np.float16(0.95)), float(np.float16(0.02))
    assert state(shot, center((8, 8, 4)))[0] == round(np.log(p / (1 - p)) * SMALL.network_gain * UNITS)
    free = np.round(np.log(q / (1 - q)) * SMALL.network_gain * UNITS)
    assert state(shot, center((2, 2, 4)))[0] == free
    assert state(shot, center((9, 9, 5)))[0] == np.floor(free * SMALL.beside)


def test_rays_clear_what_they_pass_and_returns_mark():
    eye, target = center((0, 8, 4)), center((12, 8, 4))
    T = pose()
    frame = replace(scan([target - eye]), T_grid_lidar=pose(*eye))
    shot = drive([(occupancy(base=255), frame, T)]).snapshot()
    steps = [state(shot, center((i, 8, 4)))[0] for i in range(14)]
    hit, miss = round(min(SMALL.hit, SMALL.occupied_limit) * UNITS), round(SMALL.miss * UNITS)
    assert steps == [-miss] * 12 + [hit, 0]
    assert np.count_nonzero(shot.log_odds) == 13


def test_flat_rays_clear_no_ground_that_carries_a_column_and_all_else():
    """A ray inside the road's layer for metres: the road stays, a wall and a road on top of the road do not."""
    eye = center((0, 8, 4))
    cells = {(4, 8, 4): ROAD, (6, 8, 4): BUILDING, (8, 8, 4): ROAD, (8, 8, 3): ROAD}
    grid = occupancy(cells)
    passing = replace(scan([center((12, 8, 4)) - eye]), T_grid_lidar=pose(*eye))
    shot = drive([(grid, scan(), pose())] * 3 + [(occupancy(base=255), passing, pose())] * 20).snapshot()
    assert [state(shot, center(cell))[0] > 0 for cell in cells] == [True, False, False, True]


def test_the_network_puts_more_ground_on_sure_ground_only_with_a_return():
    below, cell = (8, 8, 3), (8, 8, 4)
    sure = [(occupancy([below], ROAD), scan([center(below)]), pose())] * 2
    for label, points, occupied in ((ROAD, [], False), (ROAD, [center(cell)], True), (BUILDING, [], True)):
        both = occupancy({below: ROAD, cell: label})
        shot = drive([*sure, *[(both, scan(points), pose())] * 20]).snapshot()
        assert state(shot, center(below))[0] > 0
        assert (state(shot, center(cell))[0] > 0) == occupied
    unsure = drive([(occupancy([below, cell], ROAD), scan(), pose())] * 20).snapshot()
    assert state(unsure, center(cell))[0] > 0  # both at once: neither is the ground of the other


def test_returns_say_which_part_of_the_networks_cell_is_occupied():
    """The map's cells lie a quarter cell beside the network's: the one that holds the return counts, and no other."""
    wall, T = (8, 8, 4), pose(0.1)
    around_centre, beyond = (T[:3, 3] + center(wall) + (shift, 0, 0) for shift in (-0.1, 0.3))
    for points, occupied, clear in (([], around_centre, beyond), ([center(wall) + (0.15, 0, 0)], beyond, around_centre)):
        shot = drive([(occupancy([wall]), scan(points), T)]).snapshot()
        assert state(shot, occupied)[0] > 0 and state(shot, occupied)[1] == BUILDING
        assert state(shot, clear)[0] <= 0 and shot.occupied.sum() == 1


def test_what_may_move_is_seen_where_it_arrives_in_two_frames_and_named_by_it():
    """The cell was a building for a second, then free: neither the free space nor the old name holds the car back."""
    cell = (8, 8, 4)
    past = [(occupancy([cell]), scan(), pose())] * 10 + [(occupancy(), scan(), pose())] * 40
    assert state(drive(past).snapshot(), center(cell))[0] == -round(SMALL.free_limit * UNITS)
    arrived = drive([*past, *[(occupancy([cell], CAR), scan(), pose())] * 2]).snapshot()
    assert state(arrived, center(cell))[0] > 0 and state(arrived, center(cell))[1] == CAR
    built = drive([*past, *[(occupancy([cell]), scan(), pose())] * 2]).snapshot()
    assert state(built, center(cell))[0] < 0


def test_random_rays_clear_what_fine_steps_along_them_find():
    rng = np.random.default_rng(3)
    points = rng.uniform(-7.5, 7.5, (60, 3)) * (1, 1, 0.4) + (0, 0, 0.1)
    shot = drive([(occupancy(base=255), scan(points), pose())]).snapshot()
    along = np.linspace(0, 1, 20_001)[:, None, None] * points
    at = (along - shot.grid.origin) / shot.grid.resolution
    inside = ((at >= 0) & (at < shot.grid.shape)).all(axis=-1)
    touched = np.zeros(shot.grid.shape, int)
    cells = np.floor(at[inside]).astype(int)
    np.add.at(touched, tuple(cells.T), 1)
    hit = np.zeros(shot.grid.shape, bool)
    hit[tuple(np.floor((points - shot.grid.origin) / shot.grid.resolution).astype(int).T)] = True
    assert (shot.log_odds[hit] > 0).all()
    assert (shot.log_odds[(touched > 60) & ~hit] < 0).all()  # farther than a cell's rounding inside
    near = np.zeros(shot.grid.shape, bool)
    for shift in np.stack(np.meshgrid(*[(-0.01, 0.01)] * 3), -1).reshape(-1, 3):
        nudged = np.floor(at[inside] + shift).astype(int)
        nudged = nudged[((nudged >= 0) & (nudged < shot.grid.shape)).all(axis=1)]
        near[tuple(nudged.T)] = True
    assert not shot.log_odds[~near & ~hit].any()


def test_every_beam_of_a_standing_lidar_clears_in_its_turn():
    """The rows of a scan repeat: every second ray of four beams a column is always one of the same two."""
    beams = [center((12, y, 4)) for y in (2, 6, 10, 14)]
    walls = [center((6, y, 4)) * (1, 0.55, 1) for y in (2, 6, 10, 14)]  # halfway along the beams, from the LiDAR at (0, 0, 0)
    config = replace_config(rays=51, hit=1.0)
    frames = [(occupancy(base=255), scan(walls), pose())] + [(occupancy(base=255), scan(beams * 25), pose())] * 8
    assert all(state(drive(frames[:1], config).snapshot(), wall)[0] > 0 for wall in walls)
    assert all(state(drive(frames, config).snapshot(), wall)[0] < 0 for wall in walls)


def test_what_neither_scan_nor_network_says_stays():
    """The car turns away: the building behind it remains, and so does its class."""
    first = (occupancy([(8, 8, 4)]), scan(), pose())
    world = drive([first, *[(occupancy(base=255), scan(), pose(yaw=np.pi))] * 20])
    assert state(world.snapshot(), center((8, 8, 4)))[1] == BUILDING
    assert world.snapshot().occupied.sum() == 1


def test_a_car_that_drives_on_leaves_no_trail_and_is_seen_where_it_arrives():
    """A block stops for three seconds, then moves a cell every other frame over ground that was free all the time."""
    world = RollingMap(CLASSES, SMALL)
    for number in range(46):
        x = 2 + max(0, number - 30) // 2
        cells = [(x + i, 8 + j, 4 + k) for i in range(3) for j in range(2) for k in range(2)]
        world.update(occupancy(cells, CAR), scan([center(cell) for cell in cells]), pose(), number * TENTH)
    shot = world.snapshot()
    assert x == 9
    assert {state(shot, center(cell))[1] for cell in cells} == {CAR}
    assert all(state(shot, center(cell))[0] > 0 for cell in cells)
    assert shot.occupied.sum() == len(cells)


def test_what_a_car_gathered_does_not_carry_the_road_below_it():
    cell = (8, 8, 4)
    frames = [(occupancy([cell], CAR), scan(), pose())] * 10 + [(occupancy([cell], ROAD), scan(), pose())] * 20
    shots = [drive(frames[:count]).snapshot() for count in range(10, 31)]
    states = [state(shot, center(cell)) for shot in shots]
    first = next(number for number, (_, label) in enumerate(states) if label == ROAD)
    p = float(np.float16(0.95))
    assert states[first - 1][0] == round(SMALL.occupied_limit * UNITS)
    assert states[first][0] == round(np.log(p / (1 - p)) * SMALL.network_gain * UNITS)


def test_unobserved_cars_are_forgotten_within_seconds_and_buildings_are_not():
    both = occupancy({(8, 4, 4): CAR, (8, 10, 4): BUILDING})
    frames = [(both, scan(), pose())] * 10
    later = [(occupancy(base=255), scan(), pose())] * int(SMALL.dynamic_memory * 10 + 1)
    shot = drive([*frames, *later]).snapshot()
    assert state(shot, center((8, 4, 4)))[0] == 0
    assert state(shot, center((8, 10, 4))) == (pytest.approx(SMALL.occupied_limit * UNITS, abs=2), BUILDING)


def test_the_map_does_not_depend_on_where_the_world_begins():
    """A shift by whole cells, however far, changes nothing but the window's place: no precision is lost far out."""
    rng = np.random.default_rng(5)

    def run(shift):
        world = RollingMap(CLASSES, SMALL)
        for number in range(12):
            cells = [tuple(c) for c in np.random.default_rng(number).integers(0, (16, 16, 8), (60, 3))]
            points = np.random.default_rng(100 + number).uniform(-7, 7, (200, 3)) * (1, 1, 0.3)
            T = pose(0.37 * number, -0.21 * number, 0.05 * number, 0.13 * number)
            T[:3, 3] += shift
            world.update(occupancy(cells, int(1 + number % 3)), scan(points), T, number * TENTH)
        return world.snapshot()

    near = run(np.zeros(3))
    for cells in (np.array([5000, -3000, 10]), rng.integers(-100_000, 100_000, 3)):
        far = run(cells * 0.4)
        differing = np.count_nonzero(near.log_odds != far.log_odds) / near.log_odds.size
        assert differing < 1e-3  # a centre that lies on a cell's face may fall to either side
        np.testing.assert_allclose(np.asarray(far.grid.origin) - near.grid.origin, cells * 0.4, atol=1e-6)


def test_scrolling_agrees_with_a_map_large_enough_not_to_scroll():
    small, large = RollingMap(CLASSES, SMALL), RollingMap(CLASSES, MapConfig(size=(64.0, 64.0, 6.4)))
    for number in range(60):
        cells = [tuple(c) for c in np.random.default_rng(number).integers(0, (16, 16, 8), (200, 3))]
        T = pose(0.4 * number, 0.4 * np.sin(number / 5), 0.0, 0.05 * number)
        for world in (small, large):
            world.update(occupancy(cells), scan(), T, number * TENTH)
    a, b = small.snapshot(), large.snapshot()
    shift = np.round((np.asarray(a.grid.origin) - b.grid.origin) / 0.4).astype(int)
    part = b.log_odds[tuple(slice(s, s + n) for s, n in zip(shift, a.grid.shape))]
    # Where the small map's window always was, they are equal; cells at its rim left and came back.
    inner = np.s_[14:26, 14:26]
    np.testing.assert_array_equal(a.log_odds[inner], part[inner])
    assert np.count_nonzero(a.log_odds) > 1000


def test_leaving_the_window_in_one_step_leaves_nothing_behind():
    world = drive([(occupancy([(8, 8, 4)]), scan(), pose())], replace_config(max_speed=1e6))
    world.update(occupancy(base=255), scan(), pose(500.0), 2 * TENTH)
    assert not world.snapshot().log_odds.any()
    assert world.snapshot().grid.origin[0] == pytest.approx(492.0)


def replace_config(**values):
    return SMALL.model_copy(update=values)


@pytest.mark.parametrize(
    ("T", "reason"),
    [
        (None, "no_pose"),
        (np.full((4, 4), np.nan), "bad_pose"),
        (np.eye(3), "bad_pose"),
        (np.diag([2.0, 1, 1, 1]), "bad_pose"),
        (np.diag([-1.0, 1, 1, 1]), "bad_pose"),
    ],
)
def test_a_frame_without_a_usable_pose_is_refused_and_changes_nothing(T, reason):
    world = drive([(occupancy([(8, 8, 4)]), scan(), pose())])
    before = world.snapshot()
    update = world.update(occupancy(), scan(), T, TENTH)
    assert (update.accepted, update.refused) == (False, reason)
    np.testing.assert_array_equal(world.snapshot().log_odds, before.log_odds)
    assert world.update(occupancy(), scan(), pose(), 2 * TENTH).restarted == ""


@pytest.mark.parametrize(
    ("x", "seconds", "restarted"),
    [
        (0.3, 0.1, ""),
        (20.0, 0.1, "pose_jump"),
        (20.0, 5.0, ""),
        (0.0, -0.1, "clock_jump"),
        (0.0, 11.0, "clock_jump"),
        (0.0, 0.0, ""),
    ],
)
def test_jumps_start_the_map_anew(x, seconds, restarted):
    world = RollingMap(CLASSES, SMALL)
    world.update(occupancy([(8, 8, 4)]), scan(), pose(), 10 * SECOND)
    update = world.update(occupancy(base=255), scan(), pose(x), round((10 + seconds) * SECOND))
    assert update.accepted and update.restarted == restarted
    if restarted:
        assert not world.snapshot().log_odds.any()


def test_other_classes_are_an_error():
    world = RollingMap(taxonomy.load("occ3d_nuscenes"), SMALL)
    with pytest.raises(ValueError, match="occ3d_nuscenes classes, the occupancy semantickitti"):
        world.update(occupancy(), scan(), pose())


def test_empty_scans_and_points_beyond_the_map_are_harmless():
    far = scan([(1e4, 0, 0), (np.nan, 0, 0), (np.inf, 1, 1), (0, 0, -300.0)])
    shot = drive([(occupancy(base=255), scan(), pose()), (occupancy(base=255), far, pose())]).snapshot()
    assert (shot.log_odds <= 0).all() and (shot.log_odds < 0).any()


def test_cells_of_a_finer_map_read_a_coarser_network():
    config = MapConfig(size=(16.0, 16.0, 6.4), resolution=0.2)
    shot = drive([(occupancy([(8, 8, 4)]), scan(), pose())], config).snapshot()
    assert shot.grid.shape == (80, 80, 32) and shot.occupied.sum() == 8
    with pytest.raises(ValueError, match=r"cells of 0.5 m are larger than the occupancy's of 0.4 m.*MapConfig\(resolution=0.4\)"):
        drive([(occupancy(), scan(), pose())], MapConfig(resolution=0.5))


def test_equal_frames_give_equal_maps_and_memory_stays():
    def run():
        world = RollingMap(CLASSES, SMALL)
        sizes = set()
        for number in range(50):
            cells = [tuple(c) for c in np.random.default_rng(number).integers(0, (16, 16, 8), (100, 3))]
            world.update(occupancy(cells, CAR), scan([(3, 1, 0), (2, -1, 0.3)]), pose(0.5 * number), number * TENTH)
            sizes.add(sum(a.nbytes for a in (world.evidence.log_odds, world.evidence.labels, world.evidence.votes)))
        return world.snapshot(), sizes

    (a, sizes), (b, _) = run(), run()
    assert sizes == {3 * np.prod(SMALL.shape)}
    for name in ("log_odds", "labels", "votes"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_uncalibrated_occupancies_count_by_their_confidence():
    plain = replace(occupancy([(8, 8, 4)]), occupied_scores=None)
    shot = drive([(plain, scan(), pose())]).snapshot()
    p = float(np.float16(0.9))
    assert state(shot, center((8, 8, 4)))[0] == round(np.log(p / (1 - p)) * SMALL.network_gain * UNITS)
    assert state(shot, center((2, 2, 4)))[0] < 0


def test_constants_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="smaller than a cell"):
        MapConfig(size=(10, 10, 0.1))
    with pytest.raises(ValueError, match="no cell could reach"):
        MapConfig(free_limit=0.2)
    assert VoxelGrid((0, 0, 0), MapConfig().shape, 0.4).size == 250 * 250 * 20
