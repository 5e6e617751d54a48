# Copyright occle contributors. SPDX-License-Identifier: Apache-2.0
"""The Triton kernel: its results under Triton's interpreter against plain loops, its place in graphs, its machine code for GPUs."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from occle_core.sparse import triton_gemm

needs_triton = pytest.mark.skipif(not triton_gemm.INSTALLED, reason="Triton is not installed: pip install triton==3.7.1")

# Triton's interpreter has no products of bfloat16; that type is only compiled below.
# name: rows of the input N, channels C, output channels D, kernel offsets K, rows of the output M, type
CASES = {
    "power of two": (200, 32, 32, 27, 130, torch.float32),
    "odd channels": (90, 5, 3, 27, 70, torch.float32),
    "channels in several steps": (50, 70, 19, 8, 65, torch.float32),
    "outputs in several steps": (40, 16, 140, 3, 20, torch.float32),
    "one offset": (33, 12, 24, 1, 33, torch.float32),
    "one voxel": (1, 8, 8, 27, 1, torch.float32),
    "no output": (10, 8, 8, 27, 0, torch.float32),
    "no input": (0, 8, 6, 8, 12, torch.float32),
    "half": (120, 32, 48, 27, 100, torch.float16),
}

INTERPRET = """
import sys, torch
from occle_core.sparse import triton_gemm
run = torch.compile(lambda *case: triton_gemm.gather_gemm_forward(*case), backend="aot_eager", fullgraph=True, dynamic=True)
cases = torch.load(sys.argv[1])
plain = {name: triton_gemm.gather_gemm_forward(*case) for name, case in cases.items()}
torch.save((plain, run(*cases["odd channels"])), sys.argv[2])
"""


def make_case(size, channels, width, kernel, count, dtype):
    generator = torch.Generator().manual_seed(size)
    features = torch.randn(size, channels, generator=generator).to(dtype)
    weight = (torch.randn(kernel, channels, width, generator=generator) / (kernel * channels) ** 0.5).to(dtype)
    rows = torch.randint(0, size + 1, (count, kernel), dtype=torch.int32, generator=generator)
    rows[torch.rand(rows.shape, generator=generator) < 0.4] = size
    return features, weight, rows


def expected(features, weight, rows):
    """Offset by offset in double precision."""
    source = torch.cat([features, features.new_zeros(1, features.shape[1])]).double()
    return sum(source[rows[:, k].long()] @ weight[k].double() for k in range(len(weight)))


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory):
    """(results per case, a compiled one's) from a process in which Triton interprets: it decides when it is imported."""
    folder = tmp_path_factory.mktemp("triton")
    torch.save({name: make_case(*sizes) for name, sizes in CASES.items()}, folder / "cases.pt")
    command = [sys.executable, "-c", INTERPRET, str(folder / "cases.pt"), str(folder / "out.pt")]
    done = subprocess.run(command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "out.pt")


@pytest.mark.parametrize(
    ("settings", "allowed"),
    [
        ({"fp32_precision": "tf32"}, True),
        ({"fp32_precision": "none"}, False),
        ({"allow_tf32": True}, True),
        ({"allow_tf32": False}, False),
    ],
)
def test_tf32_is_read_from_torchs_settings_before_and_since_2_9(monkeypatch, settings, allowed):
    monkeypatch.setattr(torch.backends.cuda, "matmul", SimpleNamespace(**settings))
    assert triton_gemm._allows_tf32() is allowed


@needs_triton
@pytest.mark.parametrize("name", CASES)
def test_kernel_equals_a_sum_over_offsets(interpreted, name):
    case = make_case(*CASES[name])
    out = interpreted[0][name]
    assert out.dtype == CASES[name][-1]
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3}[out.dtype]
    torch.testing.assert_close(out.double(), expected(*case), rtol=tolerance, atol=tolerance)


@needs_triton
def test_compiled_graph_calls_the_kernel(interpreted):
    torch.testing.assert_close(interpreted[1], interpreted[0]["odd channels"], rtol=0, atol=0)


def test_exported_program_holds_one_operator():
    class Layer(torch.nn.Module):
        def forward(self, features, weight, rows):
            return triton_gemm.gather_gemm_forward(features, weight, rows) + 1

    case = make_case(*CASES["odd channels"])
    count = torch.export.Dim("count", min=2)
    program = torch.export.export(Layer(), case, dynamic_shapes=(None, None, {0: count}))
    called = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert called[0] is torch.ops.occle.gather_gemm.default and len(called) == 2


def test_operator_is_registered_as_torch_expects():
    features, weight, rows = make_case(*CASES["no output"])
    torch.library.opcheck(triton_gemm.gather_gemm_forward, (features, weight, rows))


@pytest.mark.parametrize(
    ("features", "weight", "rows"),
    [
        (torch.zeros(4, 3), torch.zeros(8, 2, 5), torch.zeros(6, 8, dtype=torch.int32)),
        (torch.zeros(4, 3), torch.zeros(7, 3, 5), torch.zeros(6, 8, dtype=torch.int32)),
        (torch.zeros(4, 3), torch.zeros(8, 3, 5), torch.zeros(6, 8, dtype=torch.int64)),
        (torch.zeros(4, 3).half(), torch.zeros(8, 3, 5), torch.zeros(6, 8, dtype=torch.int32)),
        (torch.zeros(4, 3).double(), torch.zeros(8, 3, 5).double(), torch.zeros(6, 8, dtype=torch.int32)),
    ],
)
def test_what_does_not_fit_is_refused(features, weight, rows):
    with pytest.raises(ValueError, match="expected features"):
        triton_gemm.gather_gemm_forward(features, weight, rows)


def test_cpu_tensors_are_left_to_pytorch():
    assert not triton_gemm.available(torch.zeros(1, 1))


def test_triton_is_not_imported_before_it_computes():
    """It takes 67 MB of a node that runs on a CPU."""
    code = "import sys, occle_core.predictor; sys.exit('triton' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_triton
@pytest.mark.parametrize(("dtype", "channels", "width"), [("fp16", 32, 48), ("bf16", 20, 16), ("fp32", 64, 64)])
@pytest.mark.parametrize("capability", [80, 89, 90, 120])
def test_kernel_compiles_for_gpus(capability, dtype, channels, width, tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from occle_core.sparse.triton_kernel import gather_gemm_kernel

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    floats = {name: f"*{dtype}" for name in ("features", "weight", "out")}
    sizes = {"C": channels, "D": width, "K": 27, "EXACT": True, "BLOCK_M": triton_gemm.BLOCK_ROWS}
    constants = {**sizes, **triton_gemm.block_sizes(channels, width)}
    types = {**floats, "rows": "*i32", "size": "i32", "count": "i32", **dict.fromkeys(constants, "constexpr")}
    order = gather_gemm_kernel.arg_names
    source = ASTSource(gather_gemm_kernel, signature={name: types[name] for name in order}, constexprs=constants)
    options = {"num_warps": triton_gemm.WARPS, "num_stages": triton_gemm.STAGES}
    binary = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    assert len(binary.asm["cubin"]) > 0
    assert ("mma" in binary.asm["ptx"]) == (dtype != "fp32"), "float32 must not be rounded to tf32, half must use tensor cores"
