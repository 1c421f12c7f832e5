"""From a bundle to predictions, without torch."""

from fusionkit.runtime.bundle import Bundle as Bundle
from fusionkit.runtime.bundle import read_bundle as read_bundle
from fusionkit.runtime.errors import BundleError as BundleError
from fusionkit.runtime.manifest import Manifest as Manifest
from fusionkit.runtime.manifest import Sensor as Sensor
from fusionkit.runtime.manifest import Task as Task
from fusionkit.runtime.manifest import read_manifest as read_manifest
from fusionkit.runtime.session import Session as Session
from fusionkit.runtime.step import StepSession as StepSession
