# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from pathlib import Path

import pytest
from monai.bundle import ConfigParser

from medssl_components.data.preparation import DATA_SETS, load_split

PAGES = Path(__file__).resolve().parents[3] / "docs" / "data"


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_recipe_is_a_list_of_transforms_and_every_split_loads(name: str) -> None:
    data_set = DATA_SETS[name]
    assert data_set.name == name and data_set.class_names[0] == "background"
    assert len(data_set.recipes) == sum(len(form.recipes) for form in data_set.forms.values())
    for form in data_set.forms.values():
        assert set(form.patterns) == set(form.expected) == {"image", "label"}
        for recipe in form.recipes.values():
            entries = [dict(entry) for entry in recipe.transforms]
            made = ConfigParser({"transforms": entries}).get_parsed_content("transforms")
            assert all(map(callable, made)) and len(made) == len(entries)
    for split in data_set.splits:
        load_split(split, data_set.splits)


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_has_a_page_with_its_recipes_and_splits(name: str) -> None:
    text = (PAGES / f"{name}.md").read_text(encoding="utf-8")
    assert f"prepare {name} --source" in text
    for word in (*DATA_SETS[name].recipes, *DATA_SETS[name].splits):
        assert f"`{word}`" in text
    for heading in ("Where from", "Terms", "Command", "What the recipe does", "Splits", "Traps", "Citation"):
        assert f"\n## {heading}\n" in text
