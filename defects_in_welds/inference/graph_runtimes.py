"""Network graphs in runtimes other than PyTorch: their packages are optional, and imported when one is asked for."""

import importlib
import logging
import os
import sys
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from defects_in_welds.params import UserError

Graph = Callable[[Tensor], list[Tensor]]
"""From one tensor to several, on the CPU; the first axis of all is free. A thread's next call overwrites them."""

SUFFIXES_OF = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}
"""Of the files that hold a graph, by runtime; the first is the one to open."""

PRECISIONS_OF = {"onnx": ("float32", "int8"), "openvino": ("float32", "bfloat16", "int8")}
"""By runtime. ONNX Runtime has no bfloat16 convolutions for CPUs."""

PACKAGE_OF = {"onnx": "onnxruntime", "openvino": "openvino"}
"""That runs graphs, by runtime."""


_log = logging.getLogger(__name__)


def require_package(name: str) -> Any:  # noqa: ANN401 - a module without types
    """Import an optional package, and keep it from reporting to its makers.

    Raises:
        UserError: If it is not installed.
    """
    # ONNX Runtime sends who computes what from 1.29 on, and makes an id of the machine, unless this is set before.
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    # OpenVINO sends that it was imported. Without this package of its own, which it then finds missing, it does not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != package:
            raise
        raise UserError(
            f"the package {package} is not installed; run `pip install -e '.[runtimes]'` in the folder of the project"
        ) from None


@cache
def openvino_core() -> Any:  # noqa: ANN401
    """Start OpenVINO, once for the process.

    Its CPU plug-in gives the thread that starts it another stack for signal handlers, and takes that away at its end.
    Where several do so in turn, the last one puts back a stack that is gone, and the next signal with a handler ends
    the process with a segmentation fault (seen with 2026.4.1).

    Raises:
        UserError: If it is not installed.
    """
    return require_package("openvino").Core()


def open_graph(path: Path, runtime: str, precision: str, at_once: int = 1) -> Graph:
    """Open a graph, to run on as many threads as torch has.

    Args:
        path: Its file.
        runtime: A key of `PRECISIONS_OF`.
        precision: One of those of the runtime.
        at_once: How many of our threads use it at a time; each call then has its share of the cores.

    Raises:
        UserError: If the runtime is not installed.
        RuntimeError: If the runtime cannot read the file.
    """
    package = require_package(PACKAGE_OF[runtime])
    if runtime == "onnx":
        return _open_onnx(package, path, at_once)
    return _open_openvino(openvino_core(), path, precision, at_once)


def _open_onnx(onnxruntime: Any, path: Path, at_once: int) -> Graph:  # noqa: ANN401
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = max(1, torch.get_num_threads() // at_once)
    # Its threads would otherwise keep the cores busy in vain while torch's are at work between two graphs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors alone
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # of classes of its own
        raise RuntimeError(f"ONNX Runtime: {error}") from None
    (given,) = session.get_inputs()

    def run(values: Tensor) -> list[Tensor]:
        return [torch.from_numpy(found) for found in session.run(None, {given.name: values.numpy()})]

    return run


def _open_openvino(core: Any, path: Path, precision: str, at_once: int) -> Graph:  # noqa: ANN401
    is_bfloat16 = precision == "bfloat16"
    if is_bfloat16 and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        _log.warning("this processor has no bfloat16: %s is computed in float32", path)
        is_bfloat16 = False
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if is_bfloat16 else "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": at_once,
        "ENABLE_CPU_PINNING": False,  # pinned, threads of two graphs may share a core
    }
    compiled = core.compile_model(str(path), "CPU", settings)
    of_thread = threading.local()

    def run(values: Tensor) -> list[Tensor]:
        if not hasattr(of_thread, "request"):
            of_thread.request = compiled.create_infer_request()
        found = of_thread.request.infer([values.numpy()], share_inputs=True)
        return [torch.from_numpy(each) for each in found.values()]

    return run
