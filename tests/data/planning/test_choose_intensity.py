# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser

from medssl_components.data import DataError
from medssl_components.data.planning import choose_intensity, looks_like_ct

AIR = ((-1000.0, 400.0),)
FOREGROUND = (tuple(range(-100, 301)),)  # 401 values: the percentiles 0.5 and 99.5 are -98 and 298


def apply(block: dict, image: list) -> np.ndarray:
    transform = ConfigParser(config={"intensity": block}).get_parsed_content("intensity")
    return np.asarray(transform({"image": torch.tensor(image, dtype=torch.float32)})["image"])


def test_ct_is_clipped_and_scaled_by_the_foreground(make_case, make_fingerprint) -> None:
    chosen = choose_intensity(make_fingerprint(make_case(percentiles=AIR, foreground=FOREGROUND)))
    assert chosen.modality == "ct"
    clip, scale = chosen.transforms["transforms"]
    assert (clip["a_min"], clip["a_max"]) == (-98, 298)
    deviation = round(float(np.std(FOREGROUND)), 2)
    assert (scale["subtrahend"], scale["divisor"]) == ([100], [deviation])
    result = apply(chosen.transforms, [[[[-1000.0, 100.0, 150.0, 3000.0]]]])
    np.testing.assert_allclose(result[0, 0, 0], [-198 / deviation, 0, 50 / deviation, 198 / deviation], rtol=1e-5)


def test_other_scans_have_a_scale_of_their_own(make_case, make_fingerprint) -> None:
    chosen = choose_intensity(make_fingerprint(make_case()))
    assert chosen.modality == "mr" and "in 0 of 1 scans" in chosen.why
    assert chosen.transforms == {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
    result = apply(chosen.transforms, [[[[0.0, 2.0]]], [[[-5.0, 5.0]]]])
    np.testing.assert_allclose(result.reshape(2, 2), [[-1, 1], [-1, 1]], rtol=1e-5)


def test_a_wide_background_of_zero_is_left_out(make_case, make_fingerprint) -> None:
    shares = (0.9, 0.74, 0.1)
    chosen = choose_intensity(make_fingerprint(*(make_case(nonzero_share=share) for share in shares)))
    assert chosen.transforms["nonzero"] is True and "74 %" in chosen.what
    result = apply(chosen.transforms, [[[[0.0, 0.0, 2.0, 4.0]]]])
    np.testing.assert_allclose(result[0, 0, 0], [0, 0, -1, 1], rtol=1e-5)
    chosen = choose_intensity(make_fingerprint(make_case(nonzero_share=0.75)))
    assert "nonzero" not in chosen.transforms


def test_names_come_before_values_and_the_option_before_both(make_case, make_fingerprint) -> None:
    case = make_case(percentiles=AIR)
    named = make_fingerprint(case, channels=("MRI",))
    assert choose_intensity(named).modality == "mr"
    assert choose_intensity(named).why == "dataset.json names the channels MRI"
    assert choose_intensity(named, "ct").modality == "ct"
    assert choose_intensity(make_fingerprint(make_case(), channels=("CT",))).modality == "ct"
    both = make_case(percentiles=AIR * 2, foreground=FOREGROUND * 2)
    assert choose_intensity(make_fingerprint(both, channels=("CT", "PET"))).modality == "mr"
    with pytest.raises(DataError, match="modality is 'xray'; give auto, ct, mr"):
        choose_intensity(named, "xray")


def test_the_values_of_nine_in_ten_decide(make_case, make_fingerprint) -> None:
    cases = [make_case(percentiles=AIR)] * 9
    assert choose_intensity(make_fingerprint(*cases, make_case())).modality == "ct"
    assert choose_intensity(make_fingerprint(*cases[1:], make_case(), make_case())).modality == "mr"


@pytest.mark.parametrize(
    ("low", "high", "ct"),
    [(-1024, 1200, True), (-3024, 900, True), (-0.77, 6.3, False), (0, 4000, False), (-150, 300, False)],
)
def test_air_is_what_makes_hounsfield_units(make_case, low: float, high: float, ct: bool) -> None:
    assert looks_like_ct(make_case(percentiles=((low, high),))) is ct
    assert looks_like_ct(make_case(percentiles=((low, high), (0, 1)))) is False


def test_channels_of_ct_share_one_range(make_case, make_fingerprint) -> None:
    foreground = np.array([[-100.0, 0, 100], [0, 200, 400]])
    chosen = choose_intensity(make_fingerprint(make_case(percentiles=AIR * 2, foreground=foreground)), "ct")
    clip, scale = chosen.transforms["transforms"]
    assert (clip["a_min"], clip["a_max"]) == (-99, 398)
    assert scale["subtrahend"] == [0, 200]
    assert apply(chosen.transforms, [[[[0.0]]], [[[200.0]]]]).tolist() == [[[[0]]], [[[0]]]]
