# SPDX-License-Identifier: Apache-2.0
"""Built-in synthetic scans, so that every bundle runs before any real data is at hand."""

from .folder import RECIPES, synthetic_case, synthetic_folder
from .many_organs import ManyOrgansRecipe
from .one_organ import OneOrganRecipe
from .recipe import Recipe

__all__ = ["RECIPES", "ManyOrgansRecipe", "OneOrganRecipe", "Recipe", "synthetic_case", "synthetic_folder"]
