# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""OccLE's training from files: annotated frames, reading, batches, and that a stopped run is resumed the same way."""

import numpy as np
import pytest
import torch
import yaml
from occle_runs import CONFIG, NETWORK, SCENES, Drive, losses_of, samples_of, spec, trained
from occle_train.commands.fit_occle import settings_of
from occle_train.configs import find_config
from occle_train.loop.steps import TrainingHooks
from occle_train.occle.augment import STUDENT, TEACHER
from occle_train.occle.fit import fit_occle, fresh_network
from occle_train.occle.kept_targets import TeacherPredictions
from occle_train.occle.objectives import OccleBatch
from occle_train.occle.phases import OccleRecipeConfig, predict_teacher_labels
from occle_train.occle.run_config import OccleRun, spec_of
from occle_train.pseudo_labels.cell_folder import CellConfig
from rooms import BUILDING, CLASSES, GRID, ROAD, label_folder

from occle_core.bundle import load_bundle, save_bundle
from occle_core.networks.occle.inputs import prepare


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return label_folder(tmp_path_factory.mktemp("labels"), [Drive(name) for name in SCENES])


@pytest.fixture(scope="module")
def through(tmp_path_factory, labels):
    """The folder and the weights of a run that was not stopped."""
    folder = tmp_path_factory.mktemp("through")
    return folder, trained(folder, samples_of(labels))


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
    def interrupt(phase, step, losses):
        if (phase, step) == stop:
            raise KeyboardInterrupt

    folder, weights = through
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "stopped", samples_of(labels), hooks=TrainingHooks(interrupt))
    seen = []
    hooks = TrainingHooks(lambda phase, step, losses: seen.append((phase, step)))
    again = trained(tmp_path / "stopped", samples_of(labels), hooks=hooks)
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
