# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""Pretrained trunks: torchvision's names, nothing executed, what does not fit is said."""

import pickle

import pytest
import torch
from occle_train.loop.image_weights import load_image_weights
from safetensors.torch import save_file

from occle_core.bundle import rig_spec
from occle_core.geometry.grid import VoxelGrid
from occle_core.networks.blocks.resnet import ResNet
from occle_core.networks.minkocc.config import ImageConfig, MinkOccConfig
from occle_core.networks.minkocc.network import MinkOcc
from occle_core.networks.occle.config import GeometricConfig, tiny
from occle_core.networks.occle.network import OccLE


def torchvision_like(name="resnet18", width=64):
    """A state dict with torchvision's names: all four stages and a classifier."""
    torch.manual_seed(3)
    trunk = ResNet(name, width)
    return {**trunk.state_dict(), "fc.weight": torch.zeros(1000, trunk.channels[-1]), "fc.bias": torch.zeros(1000)}


def minkocc(stages=3):
    image = ImageConfig(num_cameras=1, width=64, height=32, base_width=64, num_stages=stages, channels=8)
    return MinkOcc(MinkOccConfig(image=image), 20, (16, 16, 8))


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_the_trunk_takes_the_weights_and_the_rest_stays(tmp_path, suffix):
    weights, file = torchvision_like(), tmp_path / f"resnet18{suffix}"
    (save_file if suffix == ".safetensors" else lambda content, path: torch.save(content, path))(weights, file)
    network = minkocc()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = load_image_weights(file, network)
    after = network.state_dict()
    trunk = [name for name in after if name.startswith("trunk.")]
    assert all(torch.equal(after[name], weights[name.removeprefix("trunk.")]) for name in trunk)
    assert all(torch.equal(after[name], before[name]) for name in after if name not in trunk)
    assert found["file"] == file.name and len(found["sha256"]) == 16


def test_occles_geometric_branch_takes_them_too(tmp_path):
    torch.save(torchvision_like(), tmp_path / "w.pth")
    config = tiny().model_copy(update={"geometric": GeometricConfig(base_width=64, num_stages=2)})
    network = OccLE(config, 20, VoxelGrid((0, -6.4, -2.0), (32, 32, 16), 0.4))
    load_image_weights(tmp_path / "w.pth", network)
    (trunk,) = [module for module in network.geometric.modules() if isinstance(module, ResNet)]
    assert torch.equal(trunk.conv1.weight, torchvision_like()["conv1.weight"])


def test_what_does_not_fit_is_said(tmp_path):
    weights = torchvision_like()
    cases = {
        "narrow": (torchvision_like(width=32), r"its conv1.weight is \(32, 3, 7, 7\), the network's is \(64, 3, 7, 7\).*base"),
        "less": ({name: value for name, value in weights.items() if not name.startswith("layer2")}, r"no layer2.*more in it"),
        "other": ({**weights, "neck.weight": torch.zeros(1)}, "neck.weight is no weight of a ResNet"),
        "nested": ({"state_dict": weights}, "no state dict of tensors"),
    }
    for name, (content, message) in cases.items():
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(ValueError, match=message):
            load_image_weights(tmp_path / f"{name}.pth", minkocc())
    with pytest.raises(ValueError, match="no such file"):
        load_image_weights(tmp_path / "gone.pth", minkocc())
    (tmp_path / "text.safetensors").write_text("hello")
    with pytest.raises(ValueError, match="no state dict of tensors alone"):
        load_image_weights(tmp_path / "text.safetensors", minkocc())


class Trap:
    def __reduce__(self):
        return (open, ("trap", "w"))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_no_code_of_a_file_is_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.pth").write_bytes(pickle.dumps({"conv1.weight": Trap()}))
    torch.save({"conv1.weight": Trap()}, tmp_path / "zipped.pth")
    for name in ("trap.pth", "zipped.pth"):
        with pytest.raises(ValueError, match="no state dict of tensors alone") as error:
            load_image_weights(tmp_path / name, minkocc())
        assert "weights_only" not in str(error.value)  # PyTorch recommends to turn it off
    assert not (tmp_path / "trap").exists()


def test_the_papers_size_has_torchvisions_resnet50():
    trunk = rig_spec("base", "nuscenes").build().trunk.state_dict()
    shapes = {name: tuple(trunk[name].shape) for name in ("conv1.weight", "layer1.0.conv3.weight", "layer4.2.conv3.weight")}
    assert shapes == {
        "conv1.weight": (64, 3, 7, 7),
        "layer1.0.conv3.weight": (256, 64, 1, 1),
        "layer4.2.conv3.weight": (2048, 512, 1, 1),
    }
