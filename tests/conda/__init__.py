"""Makes real conda environments for the tests."""

from tests.conda.bulk import make_many_files
from tests.conda.environments import (
    build_channel,
    change_package,
    create_base,
    create_environment,
    installed_packages,
)
from tests.conda.template import ENVIRONMENT, CondaPrefix, Template, cache_root, template
from tests.conda.user_files import add_user_files
from tests.conda.wheel import install_wheel, uninstall

__all__ = [
    "ENVIRONMENT",
    "CondaPrefix",
    "Template",
    "add_user_files",
    "build_channel",
    "cache_root",
    "change_package",
    "create_base",
    "create_environment",
    "install_wheel",
    "installed_packages",
    "make_many_files",
    "template",
    "uninstall",
]
