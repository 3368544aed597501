from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from flamingo_eval.models.initialise import initialise
from flamingo_eval.training.towers import (
    Contrastive,
    ContrastiveConfig,
    TextTower,
    TextTowerConfig,
    class_embeddings,
    classify,
    retrieval_recall,
    two_term_loss,
)
from tests.support.small_flamingo import SMALL

TEXT = TextTowerConfig(vocabulary=40, context=6, width=16, layers=2, heads=2, ff_width=32)


def directions(n: int, width: int = 8, seed: int = 0) -> torch.Tensor:
    return F.normalize(torch.randn(n, width, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_loss_is_the_sum_of_both_directions() -> None:
    images, texts = directions(4, seed=1), directions(4, seed=2)
    logits = 10 * images @ texts.T
    rows = -sum(logits[i].log_softmax(0)[i] for i in range(4)) / 4
    columns = -sum(logits[:, i].log_softmax(0)[i] for i in range(4)) / 4
    assert float(two_term_loss(images, texts, 10.0)) == pytest.approx(float(rows + columns), abs=1e-5)


def test_unmatched_towers_cost_twice_log_n() -> None:
    same = torch.ones(5, 8) / math.sqrt(8)
    assert float(two_term_loss(same, same, 14.0)) == pytest.approx(2 * math.log(5), abs=1e-5)


def test_equal_captions_share_the_target() -> None:
    images = directions(2)
    texts = images[:1].expand(2, -1)  # one caption for both pictures
    same = torch.ones(2, 2, dtype=torch.bool)
    assert float(two_term_loss(images, texts, 5.0, same)) < float(two_term_loss(images, texts, 5.0)) + 1e-6
    ideal = images[:1].expand(2, -1)
    assert float(two_term_loss(ideal, ideal, 5.0, same)) == pytest.approx(2 * math.log(2), abs=1e-5)


def test_label_smoothing_raises_the_loss_of_a_perfect_match() -> None:
    images = torch.eye(4)
    assert two_term_loss(images, images, 50.0, None, 0.1) > two_term_loss(images, images, 50.0) + 0.1


def test_padding_does_not_reach_the_text_embedding() -> None:
    tower = TextTower(TEXT)
    initialise(tower, torch.Generator().manual_seed(0))
    real = torch.tensor([[True, True, False, False]])
    one, other = tower(torch.tensor([[3, 4, 0, 0]]), real), tower(torch.tensor([[3, 4, 9, 9]]), real)
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(one, tower(torch.tensor([[3, 4]]), torch.ones(1, 2, dtype=torch.bool)))


@pytest.mark.slow
def test_learns_which_picture_belongs_to_which_text() -> None:
    config = ContrastiveConfig(SMALL.vision, TEXT, width=16, label_smoothing=0.0)
    model = Contrastive(config)
    initialise(model, torch.Generator().manual_seed(0))
    pixels = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    tokens, real = torch.arange(12).view(6, 2), torch.ones(6, 2, dtype=torch.bool)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        model(pixels, tokens, real).backward()
        optimiser.step()
    with torch.no_grad():
        images, texts = model.embed_images(pixels), model.embed_texts(tokens, real)
    assert classify(images, class_embeddings(texts[:, None])).tolist() == list(range(6))
    assert retrieval_recall(images, texts, range(6), at=(1,)) == {"image_to_text_r@1": 1.0, "text_to_image_r@1": 1.0}
    torch.testing.assert_close(images.norm(dim=1), torch.ones(6))


def test_recall_counts_a_picture_with_any_of_its_texts() -> None:
    images = torch.eye(3)
    texts = torch.tensor([[0.9, 0.1, 0.0], [0.8, 0.6, 0.0], [0.0, 1.0, 0.0], [0.0, 0.7, 0.6]])
    recall = retrieval_recall(images, texts, [0, 1, 1, 2], at=(1, 2))
    # pictures: 0 finds text 0; 1 finds text 2; 2 finds text 3. Texts: 0 right, 1 takes 0, 2 right, 3 takes 1
    assert recall["image_to_text_r@1"] == 1.0
    assert recall["text_to_image_r@1"] == 0.5
    assert recall["text_to_image_r@2"] == 1.0


def test_classes_average_their_templates() -> None:
    texts = torch.stack([torch.eye(4)[:2], torch.eye(4)[2:]])  # 2 classes, 2 templates
    assert classify(torch.eye(4), class_embeddings(texts)).tolist() == [0, 0, 1, 1]
