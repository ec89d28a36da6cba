"""One cluster for all tests here, if this machine can have one."""

import cluster
import pytest
from lab import Site


@pytest.fixture(scope="session")
def site(toy):
    reason = cluster.missing()
    if reason is not None:
        pytest.skip(reason)
    with cluster.Cluster() as brought_up:
        yield Site.make(brought_up, toy)
