"""Multi-modal sensor fusion on PyTorch."""

from fusionkit import _checkout as _checkout

__version__ = "0.1.0"
