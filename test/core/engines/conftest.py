"""What the tests of engines share."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    """A cache of the file's own: what one of its tests built is found again by the others."""
    patch = pytest.MonkeyPatch()
    folder = tmp_path_factory.mktemp("cache")
    patch.setenv("OCCLE_CACHE", str(folder))
    yield folder
    patch.undo()
