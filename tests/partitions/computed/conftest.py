"""The atlas, and a cohort of two subjects that is computed once for all test processes."""

import os

import pytest
from filelock import FileLock

from partitions.computed.atlas import load_atlas
from partitions.computed.cohort import write_cohort
from partitions.computed.ct.head import grow_head
from partitions.computed.ct.tasks import TASKS
from partitions.computed.site_profiles import PROFILES
from partitions.manifest import read_manifest

PAIR = {profile.site: (0, 0, 0) for profile in PROFILES}
PAIR |= {"north": (1, 0, 0), "east": (0, 0, 1)}
"""One subject at 3 T and one at 1.5 T, with other sequences, grids and stored axes."""


@pytest.fixture(scope="session")
def atlas():
    return load_atlas()


@pytest.fixture(scope="session")
def head(atlas):
    return grow_head(atlas)


@pytest.fixture(scope="session")
def pair(tmp_path_factory, atlas):
    """Folder and manifests of a cohort of two subjects; shared by all tests, so do not edit it."""
    own = tmp_path_factory.getbasetemp()
    # Test processes of one session (pytest-xdist) have their folders side by side.
    shared = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "pair"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(TASKS["mr"].sizes, "pair", PAIR)
        with FileLock(f"{shared}.lock"):
            if not (shared / "cohort.json").is_file():
                write_cohort(shared, seed=7, size="pair", workers=1)
        manifests = [read_manifest(shared / profile.site, profile.site) for profile in PROFILES]
        yield shared, tuple(manifests)
