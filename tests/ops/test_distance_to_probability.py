# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import torch

from medssl_components.ops import distance_to_logits, distance_to_probability, signed_distance_map


def test_one_object_is_the_sigmoid_of_minus_k_times_the_distance():
    distance = torch.linspace(-1, 1, 2 * 3 * 4 * 5).view(2, 1, 3, 4, 5)
    probability = distance_to_probability(distance, k=20.0)
    assert probability.shape == (2, 2, 3, 4, 5)
    torch.testing.assert_close(probability[:, 1:], torch.sigmoid(-20.0 * distance))


def test_without_a_choice_k_is_100():
    distance = torch.tensor([[0.01]])
    torch.testing.assert_close(distance_to_logits(distance), torch.tensor([[0.0, -1.0]]))
    torch.testing.assert_close(distance_to_probability(distance)[:, 1:], torch.sigmoid(torch.tensor([[-1.0]])))


def test_on_the_border_the_object_is_not_above_a_half():
    assert torch.equal(distance_to_probability(torch.zeros(1, 1, 2)), torch.full((1, 2, 2), 0.5))


def test_logits_have_a_background_of_zero_first():
    distance = torch.tensor([[-0.5, 0.25]])
    torch.testing.assert_close(distance_to_logits(distance, k=4.0), torch.tensor([[0.0, 2.0, -1.0]]))


def test_probabilities_of_several_objects_sum_to_one_and_favour_the_nearest():
    distance = torch.tensor([[[[-0.02]], [[-0.05]], [[0.3]]]])
    probability = distance_to_probability(distance)
    torch.testing.assert_close(probability.sum(1), torch.ones(1, 1, 1))
    assert probability.argmax(1).item() == 2
    assert distance_to_probability(distance.abs()).argmax(1).item() == 0


def test_several_objects_are_a_softmax_with_a_background_of_zero():
    distance = torch.tensor([[-0.5, 0.25], [0.5, 0.0]])
    weights = torch.tensor([[0.0, 2.0, -1.0], [0.0, -2.0, 0.0]]).exp()
    expected = weights / weights.sum(1, keepdim=True)
    torch.testing.assert_close(distance_to_probability(distance, k=4.0), expected)


def test_there_and_back_gives_the_mask_at_full_size():
    generator = torch.Generator().manual_seed(0)
    mask = (torch.rand(2, 1, 9, 8, 7, generator=generator) < 0.4).float()
    probability = distance_to_probability(signed_distance_map(mask, scale=1.0))
    assert torch.equal((probability[:, 1:] > 0.5).float(), mask)


def test_gradient_is_that_of_the_logits_and_finite_far_from_the_border():
    distance = torch.tensor([[[[-1.0, -0.01, 0.01, 1.0]]]], requires_grad=True)
    loss = torch.nn.functional.cross_entropy(distance_to_logits(distance, k=1500.0), torch.tensor([[[0, 0, 1, 1]]]))
    loss.backward()
    torch.testing.assert_close(distance.grad.flatten(), torch.tensor([-1.0, -1.0, 1.0, 1.0]) * 1500 / 4)
