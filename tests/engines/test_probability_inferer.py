# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from medssl_components.engines import ProbabilityInferer


def logits_from_window_mean(windows):
    """Logits that are the same in a whole window, so that windows over one voxel disagree."""
    mean = windows.mean(dim=(2, 3, 4), keepdim=True).expand_as(windows)
    return torch.cat([torch.zeros_like(mean), 4 * mean], dim=1)


def reference(image, patch, stride, network):
    """Average of softmax over windows in two nested lists of starts, the last one shifted inside."""
    starts = []
    for side, roi, step in zip(image.shape[2:], patch, stride, strict=True):
        number = max(0, -(-(side - roi) // step)) + 1
        starts.append([min(k * step, side - roi) for k in range(number)])
    total = torch.zeros(1, 2, *image.shape[2:])
    count = torch.zeros(1, 1, *image.shape[2:])
    for x in starts[0]:
        for y in starts[1]:
            for z in starts[2]:
                place = (..., slice(x, x + patch[0]), slice(y, y + patch[1]), slice(z, z + patch[2]))
                total[place] += network(image[place]).softmax(1)
                count[place] += 1
    return total / count


@pytest.mark.parametrize("stride", [(2, 3, 4), (4, 4, 4), (1, 4, 3)])
def test_averages_probabilities_over_windows_at_the_given_stride(stride):
    image = torch.randn(1, 1, 11, 9, 7, generator=torch.Generator().manual_seed(0)) * 3
    inferer = ProbabilityInferer(roi_size=(4, 4, 4), stride=stride, precision="fp32")
    expected = reference(image, (4, 4, 4), stride, logits_from_window_mean)
    torch.testing.assert_close(inferer(image, logits_from_window_mean), expected)


def test_differs_from_averaging_logits():
    image = torch.randn(1, 1, 9, 9, 9, generator=torch.Generator().manual_seed(0)) * 3
    inferer = ProbabilityInferer(roi_size=(4, 4, 4), overlap=0.5, precision="fp32")
    stock = super(ProbabilityInferer, inferer).__call__(image, logits_from_window_mean).softmax(1)
    assert not torch.allclose(inferer(image, logits_from_window_mean), stock, atol=1e-3)


def test_paper_stride_survives_rounding():
    """18 of 112 is not a binary fraction; one window too many or too few would change the average."""
    inferer = ProbabilityInferer(roi_size=(112, 112, 80), stride=(18, 18, 4))
    intervals = [int(roi * (1 - overlap)) for roi, overlap in zip((112, 112, 80), inferer.overlap, strict=True)]
    assert intervals == [18, 18, 4]
    for roi in range(1, 129):
        for step in range(1, roi + 1):
            overlap = ProbabilityInferer(roi_size=(roi,), stride=(step,)).overlap[0]
            assert int(roi * (1 - overlap)) == step


@pytest.mark.parametrize(("stride", "windows"), [((32, 32, 16), 8), ((16, 16, 4), 45)])
def test_number_of_windows_of_the_papers(stride, windows):
    """SKCDF and A&D slide a window of 128 x 128 x 64 voxels over scans of 160 x 160 x 80."""
    seen = []

    def network(window):
        seen.append(len(window))
        return torch.cat([window, window], dim=1)

    ProbabilityInferer(roi_size=(128, 128, 64), stride=stride, precision="fp32")(
        torch.zeros(1, 1, 160, 160, 80), network
    )
    assert sum(seen) == windows


def test_small_volumes_are_padded_and_probabilities_sum_to_one():
    image = torch.randn(1, 1, 3, 9, 2)
    probs = ProbabilityInferer(roi_size=(4, 4, 4), precision="fp32")(image, logits_from_window_mean)
    assert probs.shape == (1, 2, 3, 9, 2)
    torch.testing.assert_close(probs.sum(1), torch.ones(1, 3, 9, 2))


def test_gaussian_weighs_the_centre():
    image = torch.randn(1, 1, 12, 4, 4, generator=torch.Generator().manual_seed(0)) * 3
    constant = ProbabilityInferer(roi_size=(4, 4, 4), precision="fp32")(image, logits_from_window_mean)
    gaussian = ProbabilityInferer(roi_size=(4, 4, 4), mode="gaussian", precision="fp32")(image, logits_from_window_mean)
    assert not torch.allclose(constant, gaussian, atol=1e-3)


@pytest.mark.parametrize("stride", [(0, 4, 4), (5, 4, 4), (4, 4)])
def test_impossible_stride_is_an_error(stride):
    with pytest.raises(ValueError, match="stride"):
        ProbabilityInferer(roi_size=(4, 4, 4), stride=stride)


class TwoVoices(torch.nn.Module):
    """Disagrees with itself where the image is positive."""

    def forward(self, image):
        return torch.cat([torch.zeros_like(image), image], dim=1)

    def forward_with_uncertainty(self, image):
        return self.forward(image), (image > 0).float()


def test_disagreement_is_averaged_over_windows_and_comes_last():
    image = torch.randn(1, 1, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    options = {"roi_size": (4, 4, 4), "stride": (2, 2, 2), "precision": "fp32"}
    output = ProbabilityInferer(**options, uncertainty="disagreement")(image, TwoVoices())
    plain = ProbabilityInferer(**options)(image, TwoVoices())
    torch.testing.assert_close(output[:, :2], plain)
    torch.testing.assert_close(output[:, 2:], (image > 0).float())


def test_network_without_disagreement_is_one_line():
    inferer = ProbabilityInferer(roi_size=(4, 4, 4), uncertainty="disagreement")
    with pytest.raises(ValueError, match='^uncertainty "disagreement" is not for Identity, .*; use "entropy"$'):
        inferer(torch.zeros(1, 1, 4, 4, 4), torch.nn.Identity())
