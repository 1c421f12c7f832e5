"""Open a graph of a bundle in ONNX Runtime, which finds no file of the machine and takes no more memory than it may."""

import os
from functools import cache

import onnxruntime

from fusionkit.runtime.errors import BundleError
from fusionkit.runtime.inspection import inspect_graph

NOWHERE = "/fusionkit-bundles-have-no-external-data"
LIMIT_BYTES = 8 * 1024**3
"""What all graphs of a process may hold together; half of the machine's memory where that is less."""


def open_graph(content: bytes, name: str, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph ready to run on the CPU.

    Args:
        content: the ONNX file.
        name: for messages.
        threads: for one run.

    Raises:
        BundleError: it breaks a rule (see `fusionkit.runtime.inspection`), or ONNX Runtime refuses it.
    """
    inspect_graph(content, name)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is told by the error alone
    # weights lie in the graph: a graph that names files of the machine instead finds none
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        _limit_memory()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
        raise BundleError(f"{name} must load, but {' '.join(str(error).split())[:300]}") from None


@cache
def _limit_memory() -> None:
    """Graphs share one arena, so that one that blows a number up to gigabytes fails instead of taking the machine."""
    most = LIMIT_BYTES
    if hasattr(os, "sysconf"):  # not on Windows
        most = min(most, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2)
    memory = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    onnxruntime.create_and_register_allocator(memory, onnxruntime.OrtArenaCfg(most, -1, -1, -1))
