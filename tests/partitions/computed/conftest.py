"""One small cohort and the atlas, shared by the tests of this folder."""

import pytest

from partitions.computed.atlas import load_atlas
from partitions.computed.cohort import write_cohort


@pytest.fixture(scope="session")
def atlas():
    return load_atlas()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """Folder and manifests of the smoke cohort."""
    folder = tmp_path_factory.mktemp("cohort") / "smoke"
    return folder, write_cohort(folder, seed=7, size="smoke", workers=2)
