# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Every value in which a shipped configuration differs from the paper's has a row on the page, and the page is in step."""

import copy
from pathlib import Path

import pytest
import yaml
from occle_train.experiments import paper_differences
from occle_train.experiments.paper_differences import DATA, KINDS, PAGE, differences, main, page, pairs, problems
from occle_train.minkocc.recipe_config import MinkOccRecipeConfig
from occle_train.rendering.head import NEAR, OPACITY, RADIUS

from occle_core.networks.minkocc.config import base as minkocc_base
from occle_core.networks.occle.config import CROPS
from occle_core.networks.occle.config import base as occle_base

ROOT = Path(__file__).resolve().parents[3]


def test_the_page_is_what_the_configurations_say():
    """Repair with: python -m occle_train.experiments.paper_differences docs/reference"""
    assert (ROOT / "docs" / "reference" / PAGE).read_text("utf-8") == page()


def test_a_difference_without_a_row_and_a_row_without_a_difference_are_found(monkeypatch):
    rows = yaml.safe_load(DATA.read_text("utf-8"))
    assert problems(rows) == []
    fewer = copy.deepcopy(rows)
    del fewer["minkocc"]["class_balance_beta"]
    fewer["occle"]["recipe.epochs"] = {}
    assert problems(fewer) == [
        "minkocc: class_balance_beta differs from the paper's configuration and has no row",
        "occle: recipe.epochs has a row and does not differ",
    ]
    read = paper_differences._read
    monkeypatch.setattr(paper_differences, "_read", lambda kind, name: {**read(kind, name), "seed": len(name)})
    assert any("seed differs" in text for text in problems(rows))
    with pytest.raises(ValueError, match="has no row"):
        page()


def test_every_configuration_has_the_papers_beside_it():
    assert pairs("minkocc") == ["minkocc_0", "minkocc_10", "minkocc_100"]
    assert pairs("occle") == ["occle_kitti360", "occle_nuscenes", "occle_semantickitti"]
    text = page()
    for kind in KINDS:
        for difference in differences(kind):
            assert f"| `{difference.key}` |" in text
    assert "| `recipe.keep_voxel_labels` | IV-A, II-B | false (minkocc_0, minkocc_10) | true (minkocc_0, minkocc_10) |" in text


def test_the_papers_values():
    """Sec. IV-D and V-B of MinkOcc, 4.2 and D.2 of OccLE."""
    fit = paper_differences._read("minkocc", "minkocc_10_paper")
    assert (fit["epochs"], fit["batch_size"], fit["learning_rate"], fit["weight_decay"]) == (30, 2, 1e-4, 0)
    assert (fit["semantic_weight"], fit["occupancy_weight"], fit["class_balance_beta"]) == (0.5, 1.0, 0.9)
    assert fit["recipe"]["sweeps"] == 10 and fit["recipe"]["moving_points"] == "keep"
    assert fit["truth_mask"] == "camera" and fit["recipe"]["alpha"] == 0.1 and not fit["recipe"]["keep_voxel_labels"]
    run = paper_differences._read("occle", "occle_semantickitti_paper")
    recipe = run["recipe"]
    assert (recipe["epochs"], recipe["teacher_epochs"], recipe["batch_size"], recipe["learning_rate"]) == (40, 100, 1, 2e-4)
    assert recipe["weight_decay"] == 1e-4 and recipe["annotated_fraction"] == 0.1 and run["crop_images"]


def test_the_sizes_that_rows_name():
    """Of the presets `base`, which rows of the page spell out."""
    size, points, unet = minkocc_base().image_size, minkocc_base().points, minkocc_base().unet
    assert size == (704, 256) and minkocc_base().image.channels == 128 and (points.max_points, points.max_views) == (35, 2)
    assert (unet.encoder_channels[0], unet.encoder_channels[-1], unet.encoder_blocks) == (64, 256, (2, 2, 2, 2))
    assert unet.decoder_channels == (64, 96, 128) and unet.prune_thresholds == (0.42, 0.3, 0.2)
    recipe = MinkOccRecipeConfig()
    assert (recipe.view_width, recipe.view_height, recipe.max_depth, recipe.gamma) == (176, 100, 60, 3e-3)
    assert (recipe.switch_steps, recipe.switch_grad_clip, RADIUS, OPACITY, NEAR) == (200, 1, 0.5, 4, 0.3)
    network = occle_base("kitti")
    assert network.channels == 32 and network.semantic.image_channels == (32, 64, 128) and network.geometric.num_heads == 2
    assert network.semantic.lidar_channels == (32, 48, 64, 96) and (network.num_frames, network.frame_stride) == (5, 3)
    assert (network.fusion.stage_channels, network.fusion.state_size, network.fusion.expand) == ((64, 96, 128, 128), 16, 2)
    assert (network.image_size, CROPS["kitti"]) == ((1224, 376), (1220, 370)) and occle_base("nuscenes").image_size == (1600, 904)


def test_usage(tmp_path, capsys):
    assert main([]) == 2 and "usage" in capsys.readouterr().err
    assert main([str(tmp_path)]) == 0 and (tmp_path / PAGE).exists()
