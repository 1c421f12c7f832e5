"""Open a graph of a bundle in ONNX Runtime, which finds no file of the machine."""

import onnxruntime

from fusionkit.runtime.errors import BundleError

NOWHERE = "/fusionkit-bundles-have-no-external-data"


def open_graph(content: bytes, name: str, threads: int = 1) -> onnxruntime.InferenceSession:
    """A graph ready to run on the CPU.

    Args:
        content: the ONNX file.
        name: for messages.
        threads: for one run.

    Raises:
        BundleError: ONNX Runtime refuses it.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is told by the error alone
    # weights lie in the graph: a graph that names files of the machine instead finds none
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", NOWHERE)
    try:
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime has many error classes and no public root
        raise BundleError(f"{name} must load, but {str(error).splitlines()[0]}") from None
