# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's training from files: annotated frames, reading, batches, and that a stopped run is resumed the same way."""

import numpy as np
import pytest
import torch
import yaml
from occle_train.commands.fit_occle import settings_of
from occle_train.configs import find_config
from occle_train.data.accumulate import accumulate
from occle_train.occle.augment import STUDENT, TEACHER
from occle_train.occle.batches import PhaseBatches, PhaseSampler, annotated_share, steps_of
from occle_train.occle.fit import fit_occle, fresh_network
from occle_train.occle.kept_targets import TeacherPredictions
from occle_train.occle.objectives import OccleBatch
from occle_train.occle.phases import OccleRecipeConfig, predict_teacher_labels
from occle_train.occle.run_config import OccleRun, spec_of
from occle_train.occle.samples import OccleSamples
from occle_train.pseudo_labels.cell_folder import CellConfig
from rooms import BUILDING, CLASSES, GRID, ROAD, Rooms, label_folder

from occle_core.bundle import load_bundle, save_bundle, spec_for
from occle_core.datasets import DatasetError
from occle_core.networks.occle.config import tiny as occle_tiny
from occle_core.networks.occle.inputs import prepare

SCENES = ("a", "b", "c", "d")
NETWORK = occle_tiny(frames=2)
STEPS = {"semantic": 3, "teacher": 3, "student": 3, "fusion": 3}
CONFIG = OccleRecipeConfig(
    annotated_fraction=0.25,
    batch_size=2,
    learning_rate=1e-2,
    min_annotated_fraction=0.5,
    confidence_threshold=0.5,
    phase_steps=STEPS,
    checkpoint_every=2,
)


class Drive(Rooms):
    """Rooms that the sensors move through; `nonsense` names the frames whose voxel truth is another one."""

    def __init__(self, name, nonsense=()):
        super().__init__(name, 4)
        self.nonsense, self.opened = set(nonsense), set()

    def pose(self, i):
        T = np.eye(4)
        T[0, 3] = 0.7 * i
        return T

    def truth(self, i, grid):
        self.opened.add(i)
        if i in self.nonsense:
            return np.random.default_rng(1).integers(0, 20, grid.shape).astype(np.uint8)
        return super().truth(i, grid)


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return label_folder(tmp_path_factory.mktemp("labels"), [Drive(name) for name in SCENES])


def samples_of(labels, config=CONFIG, drives=None, network=NETWORK):
    return OccleSamples(drives or [Drive(name) for name in SCENES], GRID, network, config, labels)


def spec():
    return spec_for(NETWORK, GRID, "semantickitti", "rooms")


def trained(folder, samples, config=CONFIG, **more):
    torch.set_num_threads(1)
    return fit_occle(spec(), samples, config, folder, **more).state_dict()


@pytest.fixture(scope="module")
def through(tmp_path_factory, labels):
    """The folder and the weights of a run that was not stopped."""
    folder = tmp_path_factory.mktemp("through")
    return folder, trained(folder, samples_of(labels))


def losses_of(folder):
    lines = {file.parent.name: file.read_text().splitlines() for file in folder.glob("*/log.csv")}
    return {phase: [line.rsplit(",", 4)[0] for line in found] for phase, found in lines.items()}  # without the times and the memory


def test_no_voxel_truth_of_an_unannotated_frame_influences_anything(tmp_path, labels, through):
    """All weights after all phases are equal to the bit when every other frame's truth is nonsense."""
    folder, weights = through
    plain = samples_of(labels)
    chosen = {name: set() for name in SCENES}
    for number, i in (plain.index[item] for item in plain.annotated):
        chosen[SCENES[number]].add(i)
    drives = [Drive(name, nonsense=set(range(4)) - chosen[name]) for name in SCENES]
    others = trained(tmp_path / "others", samples_of(labels, drives=drives))
    assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert losses_of(folder) == losses_of(tmp_path / "others")
    assert {drive.name: drive.opened for drive in drives} == chosen and sum(map(len, chosen.values())) == 4
    # The same change of annotated frames is noticed: the comparison can fail.
    drives = [Drive(name, nonsense=chosen[name]) for name in SCENES]
    own = trained(tmp_path / "own", samples_of(labels, drives=drives))
    assert not all(torch.equal(weights[name], own[name]) for name in weights)


@pytest.mark.parametrize("stop", [("teacher", 2), ("fusion", 1)])
def test_a_stopped_run_goes_on_to_the_same_weights_and_logs(tmp_path, labels, through, stop):
    def interrupt(phase, step, steps, losses):
        if (phase, step) == stop:
            raise KeyboardInterrupt

    folder, weights = through
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", samples_of(labels), on_progress=interrupt)
    seen = []
    again = trained(tmp_path / "stopped", samples_of(labels), on_progress=lambda phase, step, *_: seen.append((phase, step)))
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    assert losses_of(folder) == losses_of(tmp_path / "stopped")
    assert seen and seen[0][0] == stop[0] and len(seen) <= 12 - 3 * ["semantic", "teacher", "student", "fusion"].index(stop[0])


def test_another_configuration_does_not_go_on(tmp_path, labels):
    config = CONFIG.model_copy(update={"ablate": ("semantic", "geometric")})
    trained(tmp_path, samples_of(labels), config)
    assert {file.parent.name for file in tmp_path.glob("*/log.csv")} == {"fusion"}
    with pytest.raises(ValueError, match="another configuration"):
        trained(tmp_path, samples_of(labels), config.model_copy(update={"learning_rate": 1e-3}))


def test_the_logs_name_the_terms_of_their_phase(through):
    heads = {phase: lines[0] for phase, lines in losses_of(through[0]).items()}
    assert heads == {
        "semantic": "step,image,lidar,total,learning_rate,gradient_norm",
        "teacher": "step,geometry,total,learning_rate,gradient_norm",
        "student": "step,geometry,total,learning_rate,gradient_norm",
        "fusion": "step,occupancy,projection,image,lidar,total,learning_rate,gradient_norm",
    }


def test_the_teachers_predictions_are_kept_for_unannotated_frames_only(labels, through):
    samples, (folder, _) = samples_of(labels), through
    (place,) = (folder / "teacher").glob("teacher_labels-*")
    kept = {(file.parent.name, int(file.stem)) for file in place.glob("*/*.npz")}
    annotated = {(SCENES[number], i) for number, i in (samples.index[item] for item in samples.annotated)}
    assert kept and not kept & annotated and len(kept) == len(samples) - len(annotated)
    teacher_labels = TeacherPredictions(samples, place)
    assert not teacher_labels.missing and all((teacher_labels(item) == 255).all() for item in samples.annotated)
    teacher = fresh_network(spec(), CONFIG)
    teacher.load_state_dict(torch.load(folder / "teacher" / "checkpoint.pt", weights_only=True)["network"])
    item = next(item for item in range(len(samples)) if item not in samples.annotated)
    inputs = prepare(*samples.frames(item), GRID, NETWORK)
    assert torch.equal(
        teacher_labels(item), predict_teacher_labels(teacher.eval(), OccleBatch(inputs, torch.empty(0), torch.empty(0)), CONFIG)[0]
    )
    assert {0, 1} & set(teacher_labels(item).unique().tolist())


def test_points_outside_the_present_grid_do_not_matter(labels):
    """What is cut away beforehand is what the inputs leave out anyway, also of the frame before, whose grid lay elsewhere."""
    samples = samples_of(labels)
    drive = samples.datasets[1]
    frames, poses = samples.frames(6)
    whole = prepare([drive.frame(2), drive.frame(1)], [drive.pose(2), drive.pose(1)], GRID, NETWORK)
    cut = prepare(frames, poses, GRID, NETWORK)
    assert len(frames) == 2 and len(frames[1].points) < len(drive.points(1))
    for one, other in zip(whole.scans, cut.scans):
        assert all(torch.equal(a, b) for a, b in zip(vars(one).values(), vars(other).values()))
    assert torch.equal(whole.images, cut.images) and torch.equal(whole.projections, cut.projections)
    assert len(samples.frames(4)[0]) == 1  # a sequence's first frame has no history


def test_which_frames_a_phase_draws(labels):
    samples = samples_of(labels)
    annotated = set(samples.annotated)

    def pick_pool(phase, config=CONFIG):
        return [items for _, items in PhaseSampler(samples, phase, config, 0, 64)]

    assert {item for items in pick_pool("teacher") for item in items} == annotated
    for phase in ("student", "fusion"):
        assert all(items[1] in annotated for items in pick_pool(phase))
        assert {items[0] for items in pick_pool(phase)} == set(range(16))
    assert sorted(item for items in pick_pool("semantic")[:8] for item in items) == list(range(16))
    paper = CONFIG.model_copy(update={"min_annotated_fraction": 0.0})
    assert sorted(item for items in pick_pool("fusion", paper)[:8] for item in items) == list(range(16))
    alone = CONFIG.model_copy(update={"ablate": ("semantic", "geometric", "projection")})
    assert {item for items in pick_pool("fusion", alone) for item in items} == annotated
    blind = CONFIG.model_copy(update={"ablate": ("semantic", "geometric", "annotations")})
    assert annotated_share("fusion", blind) == 0
    late = PhaseSampler(samples, "student", CONFIG, 60, 64)
    assert [items for _, items in late] == pick_pool("student")[60:] and len(late) == 4


def test_passes_are_counted_over_the_frames_that_a_phase_draws(labels):
    samples = samples_of(labels)
    config = CONFIG.model_copy(update={"phase_steps": {}, "epochs": 3, "teacher_epochs": 5})
    assert [steps_of(samples, phase, config) for phase in ("semantic", "teacher", "student", "fusion")] == [24, 10, 24, 24]


def test_a_batch_is_the_same_whenever_it_is_made_and_disturbed_in_phase_two_only(labels):
    samples = samples_of(labels)
    undisturbed = prepare(*samples.frames(5), GRID, NETWORK)
    for phase, disturbed in (("semantic", False), ("teacher", True), ("student", True), ("fusion", False)):
        batches = PhaseBatches(samples, phase, CONFIG, (lambda item: samples.truth(item)) if phase == "student" else None)
        one, two = batches[7, [5, 2]], batches[7, [5, 2]]
        assert torch.equal(one.inputs.images, two.inputs.images) and torch.equal(
            one.inputs.scans[0].points, two.inputs.scans[0].points
        )
        assert torch.equal(one.inputs.images[0], undisturbed.images[0]) != disturbed
        assert (one.teacher_labels is not None) == (phase == "student")
        assert one.labels.shape == (2, 1, 32, 64) and one.truth.shape == (2, *GRID.shape)


def test_labels_weights_and_what_the_bundle_says(tmp_path, labels):
    samples = samples_of(labels)
    pixels = samples.pixels(0)
    assert set(pixels.unique().tolist()) == {BUILDING, ROAD, 255}
    weights = samples.weights(CLASSES.free)
    counts = sum(np.bincount(samples.truth(item).flatten(), minlength=20) for item in samples.annotated)
    assert weights.voxels[ROAD] == pytest.approx(1 / np.log(counts[ROAD]), rel=1e-6) and weights.voxels[1] == 1
    assert weights.geometry[1] == pytest.approx(1 / np.log(counts[1:].sum()), rel=1e-6)
    found = samples.provenance()
    assert found["voxel_labels"]["frames"] == 4 and found["voxel_labels"]["of"] == 16 and found["pseudo_labels"] == {"by": "hand"}
    assert sum(map(len, found["voxel_labels"]["which"].values())) == 4
    network = fit_occle(spec(), samples, CONFIG.model_copy(update={"ablate": ("semantic", "geometric")}), tmp_path / "fit")
    save_bundle(tmp_path / "bundle", spec(), network)
    assert load_bundle(tmp_path / "bundle")[0].network == NETWORK


def test_fine_tuning_starts_every_part_from_the_given_weights(tmp_path, labels, through):
    samples, start = samples_of(labels), fresh_network(spec(), CONFIG.model_copy(update={"seed": 5}))
    still = CONFIG.model_copy(update={"learning_rate": 1e-30, "weight_decay": 0.0})
    weights = trained(tmp_path / "still", samples, still, initial=start)
    parameters = dict(start.named_parameters())
    assert all(torch.allclose(weights[name], value, rtol=0, atol=1e-20) for name, value in parameters.items())
    seeds = dict(fresh_network(spec(), still).named_parameters())
    assert sum(not torch.allclose(weights[name], value) for name, value in seeds.items()) > 50
    # What began from other weights is not gone on with.
    with pytest.raises(ValueError, match="another configuration"):
        trained(through[0], samples, initial=start)


def test_annotations_can_be_accumulated_from_labelled_scans(labels):
    drive = Drive("a")
    drive.has_truth = lambda i: False
    drive.moving = lambda i: np.zeros(len(drive.points(i)), np.bool_)
    drive.point_labels = lambda i: drive.world(i)[tuple(GRID.index(drive.points(i))[0].T)]
    samples = samples_of(labels, CONFIG.model_copy(update={"truth": "accumulated"}), [drive])
    (item,) = samples.annotated
    truth = samples.truth(item).numpy()
    np.testing.assert_array_equal(truth, accumulate(drive, item, GRID, before=4, after=4))
    assert {0, ROAD, BUILDING, 255} <= set(np.unique(truth)) and not drive.opened
    unannotated = next(other for other in range(len(samples)) if other != item)
    assert (samples.truth(unannotated) == 255).all()


def test_cells_that_no_camera_saw_are_unknown(labels):
    drive = Drive("a")
    seen = np.zeros(GRID.shape, np.bool_)
    seen[:10] = True
    drive.masks = lambda i: {"camera": seen, "lidar": np.ones_like(seen)}
    samples = samples_of(labels, drives=[drive])
    (item,) = samples.annotated
    truth = samples.truth(item).numpy()
    assert (truth[10:] == 255).all() and (truth[:10] == drive.world(item)[:10]).all()


def test_what_is_missing_is_said(labels):
    blind = Drive("a")
    blind.has_truth = lambda i: False
    with pytest.raises(DatasetError, match="no frame of a has a voxel truth"):
        samples_of(labels, drives=[blind])
    lost = Drive("a")
    lost.pose = lambda i: None
    with pytest.raises(DatasetError, match="no poses, which a network of 2 frames needs"):
        samples_of(labels, drives=[lost])
    assert len(samples_of(labels, drives=[lost], network=occle_tiny(frames=1)).frames(2)[0]) == 1
    with pytest.raises(DatasetError, match="no labels of new, frame 0"):
        samples_of(labels, drives=[Drive("new")]).pixels(0)


def test_every_nth_frame_is_trained_on_and_the_others_are_history(labels):
    samples = samples_of(labels, CONFIG.model_copy(update={"frame_interval": 3, "annotated_fraction": 0.5}))
    assert samples.index[:4] == [(0, 0), (0, 3), (1, 0), (1, 3)] and len(samples.annotated) == 4
    frames, _ = samples.frames(1)
    assert [frame.stamp for frame in frames] == [3, 2]


@pytest.mark.parametrize("kind", ["", "_paper"])
def test_the_shipped_configurations_have_the_papers_values(kind):
    rigs = {"occle_semantickitti": "kitti", "occle_nuscenes": "nuscenes", "occle_kitti360": "kitti360"}
    runs = {n: OccleRun.model_validate(yaml.safe_load(find_config(f"{n}{kind}").read_text())) for n in rigs}
    assert {name: run.rig for name, run in runs.items()} == rigs
    paper = {"grad_clip": 1e6, "projection_stride": 1} if kind else {"voxel_pseudo_labels": CellConfig()}
    for run in runs.values():
        values = {"frame_interval": 1, "checkpoint_every": 500}
        if not kind:  # nearer points are nuScenes' own vehicle
            assert run.recipe.voxel_pseudo_labels.min_range == (2.5 if run.rig == "nuscenes" else 0)
            values["voxel_pseudo_labels"] = CellConfig()
        assert run.recipe.model_copy(update=values) == OccleRecipeConfig(**paper)
        assert (run.recipe.teacher_augment, run.recipe.student_augment) == (TEACHER, STUDENT)
    specs = {name: spec_of(run, run.rig) for name, run in runs.items()}
    assert {name: (s.network.num_frames, s.network.width, s.network.height, s.grid.resolution) for name, s in specs.items()} == {
        "occle_semantickitti": (5, 1224, 376, 0.2),
        "occle_nuscenes": (1, 1600, 904, 0.4),
        "occle_kitti360": (5, 1408, 376, 0.2),
    }
    crops = {"occle_semantickitti": (1220, 370), "occle_nuscenes": (1600, 900), "occle_kitti360": (1408, 376)}
    assert {name: s.network.crop for name, s in specs.items()} == (crops if kind else dict.fromkeys(crops))


def test_a_crop_needs_the_network_of_its_size():
    with pytest.raises(ValueError, match="crop_images: the paper's crop fits size base"):
        spec_of(OccleRun(crop_images=True), "kitti")


def test_the_command_line_goes_before_the_file(tmp_path):
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"rig": "kitti", "size": "base", "recipe": {"seed": 4}}))
    run = settings_of(str(tmp_path / "run.yaml"), [], {}, size="tiny", steps=7)
    assert (run.size, run.recipe.seed) == ("tiny", 4) and set(run.recipe.phase_steps.values()) == {7}
    with pytest.raises(ValueError, match="size"):
        settings_of(None, [], {}, size="huge")


def test_bfloat16_is_refused_on_a_cpu(tmp_path, labels):
    config = CONFIG.model_copy(update={"precision": "bf16"})
    with pytest.raises(ValueError, match="bf16 is for GPUs"):
        trained(tmp_path, samples_of(labels, config), config)
