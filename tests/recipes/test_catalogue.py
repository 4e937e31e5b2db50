from __future__ import annotations

import pytest

from everything.errors import ConfigError
from everything.recipes.catalogue import configs, samplers, settings
from everything.recipes.resolve import resolve
from everything.samplers import SAMPLERS
from everything.variants import VARIANTS


def by_name(*arguments: object, **choices: object) -> dict[str, dict[str, object]]:
    return {record["name"]: record for record in settings(*arguments, **choices)}


@pytest.mark.parametrize("sampler", [*SAMPLERS, "object-aware+grid-16"])
def test_every_setting_of_every_sampler_has_a_meaning(sampler: str) -> None:
    for name, record in by_name(sampler=sampler).items():
        assert len(str(record["meaning"])) > 5, name


@pytest.mark.parametrize("variant", VARIANTS)
def test_settings_of_every_variant_need_no_weights(variant: str) -> None:
    assert by_name(variant)["filters.pred_iou_thresh"]["default"] == 0.88


@pytest.mark.parametrize("config", [record["name"] for record in configs()])
def test_values_are_those_of_the_recipe(config: str) -> None:
    found = by_name("ucm", "hierarchical", config, ["nms.kind=none"])
    recipe = resolve("ucm", None, "hierarchical", config, ["nms.kind=none"])
    names = set()
    for group, values in recipe.model_dump().items():
        if isinstance(values, dict) and group != "others":
            for name, value in values.items():
                if (group, name) != ("sampler", "name"):
                    names.add(f"{group}.{name}")
                    assert found[f"{group}.{name}"]["value"] == value
    assert names <= found.keys()
    assert found["nms.kind"]["value"] == "none"
    assert found["nms.kind"]["choices"] == ["box", "mask", "containment", "none"]


def test_a_pair_of_samplers_has_the_settings_of_both() -> None:
    found = by_name(sampler="object-aware+grid-16")
    assert found["sampler.then.points_per_side"]["value"] == 16
    assert found["sampler.first.max_det"]["choices"] is None


def test_wrong_choices_are_errors() -> None:
    with pytest.raises(ConfigError, match="did you mean grid"):
        settings(sampler="gird")


def test_samplers_have_their_own_defaults() -> None:
    sides = {each["name"]: each["settings"].get("points_per_side") for each in samplers()}
    assert sides["grid-64"] == 64
