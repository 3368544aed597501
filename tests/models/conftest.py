from __future__ import annotations

import pytest

from flamingo_eval.api import Model
from flamingo_eval.records import Pixels
from tests.support.small_flamingo import picture, save_small


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(save_small(tmp_path_factory.mktemp("small")))


@pytest.fixture
def pictures() -> list[Pixels]:
    return [picture(seed) for seed in range(4)]
