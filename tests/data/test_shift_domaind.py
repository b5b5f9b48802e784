# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import NormalizeIntensity

from medssl_components.data import ShiftDomaind


def scan(name: str = "case_01", shape: tuple[int, ...] = (1, 5, 4, 3)) -> MetaTensor:
    values = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 300 - 50
    return MetaTensor(values, affine=torch.diag(torch.tensor([2.0, 1, 1, 1])), meta={"case_name": name})


def item(domain: str | None = "b", **options: str) -> dict:
    return {"image": scan(**options), **({"domain": domain} if domain else {})}


@pytest.mark.parametrize("domain", ["a", None])
def test_images_of_other_domains_and_of_none_stay_as_they_are(domain: str | None) -> None:
    given = item(domain)
    assert ShiftDomaind("image", "b", invert=True, gamma=2.0, bias=0.5)(given)["image"] is given["image"]


def test_the_item_and_the_place_of_the_image_stay() -> None:
    given = {**item(), "label": torch.ones(1, 5, 4, 3)}
    before = given["image"].clone()
    made = ShiftDomaind("image", "b", invert=True)(given)
    assert torch.equal(given["image"], before)
    assert made["label"] is given["label"] and made["domain"] == "b"
    assert torch.equal(made["image"].affine, given["image"].affine)
    assert made["image"].meta["case_name"] == "case_01"


def test_values_of_gamma_and_inversion_by_hand() -> None:
    image = MetaTensor(torch.tensor([10.0, 15.0, 30.0, 50.0])[None, :, None, None])
    for options, expected in [
        ({}, [10, 15, 30, 50]),
        ({"invert": True}, [50, 45, 30, 10]),
        ({"gamma": 2.0}, [10, 10.625, 20, 50]),  # 10 + 40 (1/8)^2, 10 + 40 (1/2)^2
        ({"invert": True, "gamma": 2.0}, [50, 40.625, 20, 10]),
    ]:
        made = ShiftDomaind("image", "b", **options)({"image": image, "domain": "b"})["image"]
        torch.testing.assert_close(made.flatten().as_tensor(), torch.tensor(expected, dtype=torch.float32))


def test_an_inverted_image_is_the_negative_after_normalisation() -> None:
    given = item()
    normalise = NormalizeIntensity()
    made = normalise(ShiftDomaind("image", "b", invert=True)(given)["image"])
    torch.testing.assert_close(made.as_tensor(), -normalise(given["image"]).as_tensor(), atol=1e-5, rtol=1e-5)


def test_shading_is_exponential_along_one_direction_of_length_1() -> None:
    low, bias = 2.0, 0.5
    image = MetaTensor(torch.full((1, 5, 5, 5), 3.0), meta={"case_name": "case_01"})
    image[0, 0, 0, 0] = low  # so that the range is 2 to 3
    made = ShiftDomaind("image", "b", bias=bias)({"image": image, "domain": "b"})["image"].as_tensor()
    exponent = torch.log(made[0] - low) / bias
    assert exponent[2, 2, 2].item() == pytest.approx(0, abs=1e-6)
    direction = [exponent[place].item() for place in [(4, 2, 2), (2, 4, 2), (2, 2, 4)]]
    assert math.hypot(*direction) == pytest.approx(1, abs=1e-5)
    assert exponent[4, 4, 4].item() == pytest.approx(sum(direction), abs=1e-5)
    assert exponent[3, 2, 0].item() == pytest.approx(direction[0] / 2 - direction[2], abs=1e-5)


def test_shading_is_a_function_of_the_case() -> None:
    shift = ShiftDomaind("image", "b", bias=0.5)
    first = shift(item(name="case_01"))["image"]
    assert torch.equal(first, shift(item(name="case_01"))["image"])
    assert torch.equal(first, ShiftDomaind("image", "b", bias=0.5)(item(name="case_01"))["image"])
    assert not torch.allclose(first, shift(item(name="case_02"))["image"])


def test_each_channel_has_its_own_range() -> None:
    image = torch.tensor([[0.0, 1.0], [100.0, 300.0]])[:, :, None]
    made = ShiftDomaind("image", "b", invert=True)({"image": image, "domain": "b"})["image"]
    assert made[..., 0].tolist() == [[1, 0], [300, 100]]


def test_an_image_of_one_value_keeps_it() -> None:
    image = torch.full((1, 3, 3, 3), 7.0)
    shift = ShiftDomaind("image", "b", invert=True, gamma=2.0, bias=0.5)
    assert torch.equal(shift({"image": image, "domain": "b"})["image"], image)


@pytest.mark.parametrize("gamma", [0.0, -1.0])
def test_gamma_is_positive(gamma: float) -> None:
    with pytest.raises(ValueError, match=f"gamma is {gamma}; give a positive number"):
        ShiftDomaind("image", "b", gamma=gamma)
