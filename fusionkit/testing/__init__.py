"""The public conformance suites, in the manner of scikit-learn's ``check_estimator``.

``check_fusion(MyOperation, layers=2)`` runs every check over the component and returns the results, or raises a
`ConformanceError` that names each broken check with the numbers. ``fusionkit conform my_lab.fusion:MyOperation`` prints them.
"""

from fusionkit.testing.case import Case as Case
from fusionkit.testing.cases import cases_of as cases_of
from fusionkit.testing.result import CheckResult as CheckResult
from fusionkit.testing.result import ConformanceError as ConformanceError
from fusionkit.testing.suite import CHECKS as CHECKS
from fusionkit.testing.suite import check_component as check_component
from fusionkit.testing.suite import check_encoder as check_encoder
from fusionkit.testing.suite import check_fusion as check_fusion
from fusionkit.testing.suite import check_generator as check_generator
from fusionkit.testing.suite import check_loss as check_loss
from fusionkit.testing.suite import check_modality as check_modality
from fusionkit.testing.suite import check_objective as check_objective
