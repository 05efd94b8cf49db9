"""The fixtures that all tests share."""

from tests.conda.fixtures import conda_prefix, conda_template
from tests.lab.fixtures import conda_lab, fresh_lab, lab, pytest_report_header

__all__ = [
    "conda_lab",
    "conda_prefix",
    "conda_template",
    "fresh_lab",
    "lab",
    "pytest_report_header",
]
