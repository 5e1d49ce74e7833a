import pytest


@pytest.fixture(scope='module', autouse=True)
def _no_garbage_collection():
    """mmengine collects garbage with every data set, half a second among so many modules."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('gc.collect', lambda *args: 0)
        yield
