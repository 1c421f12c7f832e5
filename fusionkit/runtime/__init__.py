"""From a bundle to predictions, without torch."""

from fusionkit.runtime.bundle import Bundle as Bundle
from fusionkit.runtime.bundle import BundleError as BundleError
from fusionkit.runtime.bundle import read_bundle as read_bundle
from fusionkit.runtime.session import Session as Session
