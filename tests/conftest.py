"""The fixtures that all tests share."""

from tests.conda.fixtures import conda_prefix, conda_template

__all__ = ["conda_prefix", "conda_template"]
