# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The selective scan against the recurrence as a loop, its gradients against finite differences, its export against itself."""

import contextlib
import io

import numpy as np
import pytest
import torch
from torch import nn

from occle_core.networks.occle import mamba
from occle_core.networks.occle.mamba import Mamba, linear_recurrence, selective_scan


def problem(batch=2, channels=3, states=4, length=37, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    rates = -torch.exp(draw(channels, states))
    return {
        "u": draw(batch, channels, length),
        "delta": draw(batch, channels, length),
        "A": rates,
        "B": draw(batch, states, length),
        "C": draw(batch, states, length),
        "D": draw(channels),
        "z": draw(batch, channels, length),
        "delta_bias": draw(channels),
    }


def loop(u, delta, A, B, C, D=None, z=None, delta_bias=None, delta_softplus=False):
    """Token by token, state by state, in Python floats."""
    u, delta, A, B, C = (value.double().numpy() for value in (u, delta, A, B, C))
    batch, channels, length = u.shape
    out = np.zeros_like(u)
    for b in range(batch):
        for d in range(channels):
            state = np.zeros(A.shape[1])
            for t in range(length):
                dt = delta[b, d, t] + (0 if delta_bias is None else float(delta_bias[d]))
                if delta_softplus:
                    dt = np.logaddexp(0, dt)
                for n in range(A.shape[1]):
                    state[n] = np.exp(dt * A[d, n]) * state[n] + dt * B[b, n, t] * u[b, d, t]
                y = float(state @ C[b, :, t]) + (0 if D is None else float(D[d]) * u[b, d, t])
                if z is not None:
                    gate = float(z[b, d, t])
                    y *= gate / (1 + np.exp(-gate))
                out[b, d, t] = y
    return torch.from_numpy(out)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 8, 37, 64])
def test_scan_equals_the_recurrence(length):
    case = problem(length=length)
    torch.testing.assert_close(
        selective_scan(**case, delta_softplus=True), loop(**case, delta_softplus=True), rtol=1e-10, atol=1e-10
    )


@pytest.mark.parametrize("left_out", ["D", "z", "delta_bias"])
def test_optional_parts_can_be_left_out(left_out):
    case = problem(length=9)
    del case[left_out]
    torch.testing.assert_close(selective_scan(**case, delta_softplus=True), loop(**case, delta_softplus=True))


def test_groups_of_channels_have_their_own_maps():
    """Two scans side by side are one scan with two groups."""
    one, other = problem(channels=3, length=13), problem(channels=3, length=13, seed=1)
    together = {name: torch.cat([one[name], other[name]], 0 if one[name].ndim < 3 and name != "u" else 1) for name in one}
    together |= {name: torch.stack([one[name], other[name]], 1) for name in "BC"}
    out = selective_scan(**together, delta_softplus=True)
    torch.testing.assert_close(out[:, :3], loop(**one, delta_softplus=True))
    torch.testing.assert_close(out[:, 3:], loop(**other, delta_softplus=True))
    with pytest.raises(ValueError, match="4 groups"):
        selective_scan(**{**together, "B": torch.zeros(2, 4, 4, 13), "C": torch.zeros(2, 4, 4, 13)})


def test_step_sizes_are_taken_as_they_are_without_softplus():
    case = problem(length=9)
    case["delta"] = case["delta"].abs() * 0.1
    torch.testing.assert_close(selective_scan(**case), loop(**case))


@pytest.mark.parametrize("name", list(problem()))
def test_gradients_equal_finite_differences(name):
    case = problem(batch=2, channels=2, states=3, length=11)

    def scan(value):
        return selective_scan(**{**case, name: value}, delta_softplus=True)

    assert torch.autograd.gradcheck(scan, case[name].requires_grad_())


def test_recurrence_needs_no_decay():
    """Growing, alternating and vanishing factors: nothing is divided by, no logarithm is taken."""
    a = torch.tensor([2.0, -3.0, 0.0, 1e-30, 5.0, -1.0, 0.0], dtype=torch.float64).view(1, 7, 1)
    b = torch.arange(1.0, 8, dtype=torch.float64).view(1, 7, 1)
    expected, h = [], 0.0
    for factor, push in zip(a.flatten().tolist(), b.flatten().tolist()):
        h = factor * h + push
        expected.append(h)
    assert linear_recurrence(a, b).flatten().tolist() == pytest.approx(expected, rel=1e-15)
    assert torch.autograd.gradcheck(linear_recurrence, (a.requires_grad_(), b.requires_grad_()))


def test_large_decays_stay_exact_in_single_precision():
    """Steps of 20 with rates of -16 fall by e^-320 a token: factored forms overflow there."""
    case = problem(length=50, dtype=torch.float32)
    case["delta"] = case["delta"].abs() * 20
    case["A"] = -torch.arange(1.0, 5).repeat(3, 1) * 4
    torch.testing.assert_close(selective_scan(**case).double(), loop(**case), rtol=1e-4, atol=1e-4)


def test_half_precision_is_computed_in_single():
    case = problem(length=64, dtype=torch.float32)
    halves = {name: value.bfloat16() for name, value in case.items()}
    out = selective_scan(**halves, delta_softplus=True)
    assert out.dtype == torch.bfloat16
    wide = {name: value.float() for name, value in halves.items()}
    torch.testing.assert_close(out, selective_scan(**wide, delta_softplus=True).bfloat16())
    exact = selective_scan(**case, delta_softplus=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(selective_scan(**case, delta_softplus=True), exact)


@pytest.mark.parametrize(
    ("name", "value"),
    [("delta", torch.zeros(2, 3, 9)), ("B", torch.zeros(2, 5, 10)), ("D", torch.zeros(4)), ("u", torch.zeros(3, 10))],
)
def test_shapes_that_do_not_fit_are_named(name, value):
    with pytest.raises(ValueError, match=rf"\b{name}\b"):
        selective_scan(**{**problem(length=10, dtype=torch.float32), name: value})


class Scan(nn.Module):
    def forward(self, u, delta, A, B, C, D, z, delta_bias):
        return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus=True)


def export(module, example, names):
    with contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
        program = torch.export.export(module, example, strict=False)
        return torch.onnx.export(program, dynamo=True, opset_version=18, input_names=names, output_names=["y"], verbose=False)


def run(exported, arrays, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    exported.save(tmp_path / "model.onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(tmp_path / "model.onnx", options, providers=["CPUExecutionProvider"])
    return session.run(["y"], arrays)[0]


def test_exported_scan_says_the_same(tmp_path):
    pytest.importorskip("onnxscript")
    case = problem(batch=1, length=100, dtype=torch.float32)
    exported = export(Scan(), tuple(case.values()), list(case))
    # Nothing that depends on data, and far fewer nodes than tokens would need.
    kinds = [node.op_type for node in exported.model_proto.graph.node]
    assert not {"Loop", "If", "Scan", "NonZero"} & set(kinds) and len(kinds) < 150
    other = problem(batch=1, length=100, dtype=torch.float32, seed=1)
    y = run(exported, {name: value.numpy() for name, value in other.items()}, tmp_path)
    torch.testing.assert_close(torch.from_numpy(y), Scan()(**other), rtol=1e-4, atol=1e-5)


def test_exported_scan_grows_with_the_logarithm_of_the_length():
    count = {}
    for length in (64, 1024):
        case = problem(batch=1, length=length, dtype=torch.float32)
        count[length] = len(torch.export.export(Scan(), tuple(case.values()), strict=False).graph.nodes)
    assert count[1024] < 2 * count[64]


def test_block_is_causal_and_sees_far_back():
    torch.manual_seed(0)
    block = Mamba(8, state=4).eval()
    tokens = torch.randn(1, 50, 8)
    changed = tokens.clone()
    changed[0, 20] += 1
    difference = (block(changed) - block(tokens)).abs().amax((0, 2))
    assert (difference[:20] == 0).all() and (difference[20:] > 0).all()


def test_block_equals_the_papers_steps():
    """Projection, causal convolution, SiLU, selection, scan, gate, projection; each written out."""
    torch.manual_seed(1)
    block = Mamba(6, state=3).double()
    tokens = torch.randn(2, 11, 6, dtype=torch.float64)
    x, z = torch.einsum("oc,blc->bol", block.in_proj.weight, tokens).split(12, 1)
    convolved = torch.zeros_like(x)
    for t in range(11):
        for k in range(4):
            if t - 3 + k >= 0:
                convolved[:, :, t] += block.conv1d.weight[:, 0, k] * x[:, :, t - 3 + k]
    x = convolved + block.conv1d.bias[:, None]
    x = x * torch.sigmoid(x)
    chosen = torch.einsum("oc,bcl->bol", block.x_proj.weight, x)
    delta = torch.einsum("oc,bcl->bol", block.dt_proj.weight, chosen[:, :1])
    with torch.no_grad():
        y = loop(x, delta, -torch.exp(block.A_log), chosen[:, 1:4], chosen[:, 4:], block.D, z, block.dt_proj.bias, True)
        torch.testing.assert_close(block(tokens), torch.einsum("oc,bcl->blo", block.out_proj.weight, y))


def test_steps_start_between_a_thousandth_and_a_tenth():
    steps = torch.nn.functional.softplus(Mamba(64).dt_proj.bias.detach())
    assert (steps > 0.999e-3).all() and (steps < 0.1001).all()


def test_kernels_are_for_cuda_only():
    assert mamba._kernel_for(torch.zeros(1)) is None


def test_kernels_say_the_same():
    if not torch.cuda.is_available() or mamba._installed_kernel() is None:
        pytest.skip("needs a CUDA device and the mamba-ssm package")
    case = problem(channels=16, states=16, length=300, dtype=torch.float32)
    device = {name: value.cuda() for name, value in case.items()}
    torch.testing.assert_close(
        selective_scan(**device, delta_softplus=True).cpu(), selective_scan(**case, delta_softplus=True), rtol=1e-3, atol=1e-3
    )
