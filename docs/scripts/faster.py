"""What might make the default network faster on a CPU: ``python docs/scripts/faster.py``.

Each way is timed in processor seconds of one evaluation, the fastest of five, and compared with the network
as it is released: contiguous instead of channels-last images, bf16, ``torch.compile``, a frozen trace with
oneDNN's fusions and, where they are installed (``pip install openvino onnxruntime onnx``), OpenVINO and ONNX
Runtime.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy

import torch
from torch import Tensor, nn

from mrisr.core.process import keep_freed_memory
from mrisr.evaluation.statistics import Table
from mrisr.models.store import load_model
from mrisr.networks import channels_last

IMAGES, EDGE = 2, 384
#: Ways are adopted from this factor on, at answers that differ by at most this on a range of 2.
GAIN, TOLERANCE = 1.3, 1e-3


def fastest(run: Callable[[], Tensor]) -> tuple[float, Tensor]:
    """Processor seconds of the fastest of five runs after two, and what it gives."""
    found = [run() for _ in range(2)][-1]
    seconds = []
    for _ in range(5):
        began = time.process_time()
        run()
        seconds.append(time.process_time() - began)
    return min(seconds), found


def ways() -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """Name and evaluation, the way it is done first."""
    model = load_model("partdiff-inplane")
    plain = model.restorer.network.noisy
    network = channels_last(deepcopy(plain))
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(IMAGES, 1, EDGE, EDGE, generator=generator) * 2 - 1
    given = (x, x, torch.full((IMAGES,), 0.25), torch.ones(IMAGES, model.card.condition))

    def in_bf16() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return network(*given).float()

    yield "as it is: channels-last, fp32", lambda: network(*given)
    yield "contiguous", lambda: plain(*given)
    yield "bf16", in_bf16
    traced = torch.jit.freeze(torch.jit.trace(network, given))
    fused = torch.jit.optimize_for_inference(traced)
    yield "frozen trace, fused by oneDNN", lambda: fused(*given)
    compiled = torch.compile(network)
    began = time.perf_counter()
    compiled(*given)
    took = time.perf_counter() - began
    yield f"torch.compile ({took:.0f} s to compile)", lambda: compiled(*given)
    with suppress(ImportError):
        yield in_openvino(plain, given)
    with suppress(ImportError):
        yield in_onnx_runtime(plain, given)


def in_openvino(network: nn.Module, given: tuple[Tensor, ...]) -> tuple[str, Callable[[], Tensor]]:
    """The network as OpenVINO runs it, in fp32."""
    import openvino

    found = openvino.convert_model(network, example_input=given)
    hint = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.compile_model(found, "CPU", hint)
    arrays = [x.numpy() for x in given]
    return f"OpenVINO {openvino.__version__[:6]}", lambda: torch.from_numpy(compiled(arrays)[0])


def in_onnx_runtime(
    network: nn.Module, given: tuple[Tensor, ...]
) -> tuple[str, Callable[[], Tensor]]:
    """The network as ONNX Runtime runs it."""
    import onnx  # noqa: F401 (the export needs it)
    import onnxruntime

    file, names = io.BytesIO(), ["x", "low", "g", "condition"]
    torch.onnx.export(network, given, file, input_names=names, dynamo=False)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    arrays = dict(zip(names, (x.numpy() for x in given), strict=True))
    name = f"ONNX Runtime {onnxruntime.__version__}"
    return name, lambda: torch.from_numpy(session.run(None, arrays)[0])


def trials() -> Table:
    """Time, gain and difference of every way."""
    cells, first = [], None
    with torch.inference_mode():
        for name, run in ways():
            seconds, found = fastest(run)
            first = first or (seconds, found)
            gain, off = first[0] / seconds, float((found - first[1]).abs().max())
            taken = (
                "" if found is first[1] else "yes" if gain >= GAIN and off <= TOLERANCE else "no"
            )
            cells.append([name, f"{seconds:.3f}", f"x{gain:.2f}", f"{off:.0e}", taken])
    title = f"One evaluation of {IMAGES} images of {EDGE} x {EDGE}"
    return Table(title, ["way", "processor s", "gain", "largest difference", "adopted"], cells)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    keep_freed_memory()
    print(trials().as_markdown())
