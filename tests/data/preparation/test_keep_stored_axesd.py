# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import nibabel
import numpy as np
import torch
from monai.data import MetaTensor
from scipy.spatial.transform import Rotation

from medssl_components.data.preparation import KeepStoredAxesd


def test_an_oblique_stack_keeps_its_axes_its_voxels_and_their_size() -> None:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", [70, 20, 100], degrees=True).as_matrix() @ np.diag([1.2, 1.4, 9.0])
    affine[:3, 3] = (10, -20, 30)
    assert nibabel.aff2axcodes(affine) != ("R", "A", "S")
    values = torch.arange(24.0).reshape(1, 2, 3, 4)
    found = KeepStoredAxesd(keys="image")({"image": MetaTensor(values, affine=affine)})["image"]
    assert nibabel.aff2axcodes(found.affine) == ("R", "A", "S")
    np.testing.assert_allclose(found.affine, np.diag([1.2, 1.4, 9.0, 1.0]), atol=1e-6)
    assert torch.equal(found.as_tensor(), values)
