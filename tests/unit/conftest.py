"""Both architectures, for tests that have one."""

import pytest

from client_vm.architecture import ARCHITECTURES, Architecture


@pytest.fixture(params=ARCHITECTURES, ids=lambda arch: arch.name)
def arch(request: pytest.FixtureRequest) -> Architecture:
    assert isinstance(request.param, Architecture)
    return request.param
