from __future__ import annotations

import pytest
from small_flamingo import picture, save_small

from flamingo_eval.models.model import Model
from flamingo_eval.records import Pixels


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return Model.load(save_small(tmp_path_factory.mktemp("small")))


@pytest.fixture
def pictures() -> list[Pixels]:
    return [picture(seed) for seed in range(4)]
