import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from everything import load
from everything.config import Recipe
from everything.errors import ConfigError, WeightsError
from everything.recipes.build import build
from everything.recipes.catalogue import configs, samplers, variants
from everything.recipes.resolve import composed, resolve
from everything.variants import VARIANTS

SAM_DEFAULTS = {
    "points_per_batch": 64,
    "pred_iou_thresh": 0.88,
    "stability_score_thresh": 0.95,
    "stability_score_offset": 1.0,
    "box_nms_thresh": 0.7,
    "crop_n_layers": 0,
    "crop_nms_thresh": 0.7,
    "crop_overlap_ratio": 512 / 1500,
    "crop_n_points_downscale_factor": 1,
    "min_mask_region_area": 0,
}


def flat(recipe: Recipe) -> dict[str, object]:
    groups = recipe.model_dump()
    return {k: v for group in groups.values() if isinstance(group, dict) for k, v in group.items()}


def test_defaults_are_sams():
    recipe = resolve("sam-vit-b")
    assert flat(recipe).items() >= SAM_DEFAULTS.items()
    assert recipe.sampler == {"name": "grid-32", "points_per_side": 32, "point_grids": None}


def test_each_layer_wins_over_the_one_before(tmp_path: Path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "variant: sam-vit-l\nsampler: grid-16\n"
        "filters: {pred_iou_thresh: 0.1, stability_score_thresh: 0.2}\n"
        "nms: {box_nms_thresh: 0.3}\n"
    )
    recipe = resolve(
        "sam-vit-b",
        config=file,
        sets=["filters.stability_score_thresh=0.4", "nms.box_nms_thresh=0.5"],
        flags={"box_nms_thresh": 0.6, "points_per_side": 5, "pred_iou_thresh": None},
    )
    assert recipe.variant == "sam-vit-b"
    assert recipe.sampler["points_per_side"] == 5
    assert recipe.filters.pred_iou_thresh == 0.1
    assert recipe.filters.stability_score_thresh == 0.4
    assert recipe.nms.box_nms_thresh == 0.6


def test_a_resolved_recipe_resolves_to_itself(tmp_path: Path):
    recipe = resolve("sam-vit-b", sampler="grid-16", flags={"crop_n_layers": 2})
    content = recipe.model_dump(mode="json", exclude={"version", "weights"})
    file = tmp_path / "recipe.yaml"
    file.write_text(json.dumps(content))
    assert resolve(config=file) == recipe


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "sam-vit-x"}, "did you mean sam-vit-"),
        ({"variant": "sam"}, "did you mean sam-vit-b?"),
        ({"variant": "SAM2_hiera"}, "did you mean sam2-hiera-t?"),
        ({"variant": "FastSAM"}, "did you mean fastsam-s?"),
        ({"variant": ""}, "variant '' is not known; known: ucm"),
        ({"sampler": "TinySAM"}, "did you mean hierarchical, of TinySAM (Shu et al., 2023)?"),
        ({"sampler": "grid-16+yolo"}, "sampler 'yolo' is not known; known: grid"),
        ({"sets": ["filters.pred=0.5"]}, "did you mean filters.pred_iou_thresh?"),
        ({"sampler": "grids"}, "did you mean grid"),
        ({"sets": ["filters.pred_iou_tresh=0.5"]}, "did you mean filters.pred_iou_thresh"),
        ({"sets": ["sampler.points_per_sid=5"]}, "did you mean points_per_side"),
        ({"sets": ["filter.pred_iou_thresh=0.5"]}, "did you mean filters"),
        ({"sets": ["filters.pred_iou_thresh=2"]}, "less than or equal to 1"),
        ({"sets": ["nms.kind=boxes"]}, "'box', 'mask', 'containment' or 'none'"),
        ({"sets": ["pred_iou_thresh"]}, "group.key=value"),
        ({"flags": {"pred_iou_tresh": 1}}, "did you mean pred_iou_thresh"),
        ({"config": "no-such"}, "no such file or named config"),
    ],
)
def test_what_is_unknown_is_one_line_with_the_nearest_name(arguments: dict, message: str):
    with pytest.raises(ConfigError) as caught:
        resolve(**{"variant": "sam-vit-b"} | arguments)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [1\n", "!!python/object:os.system {}\n"])
def test_yaml_that_is_no_recipe_is_refused(tmp_path: Path, text: str):
    file = tmp_path / "bad.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"bad\.yaml") as caught:
        resolve(config=file)
    assert "\n" not in str(caught.value)


def test_digest_changes_with_settings_and_weights_and_not_with_the_place(tmp_path: Path):
    for name in ("a.pt", "b.pt", "c.pt"):
        (tmp_path / name).write_bytes(b"x" if name != "c.pt" else b"y")
    a, b, c = (resolve("sam-vit-b", tmp_path / f"{n}.pt").digest for n in "abc")
    assert a == b != c
    assert resolve("sam-vit-b", tmp_path / "a.pt", flags={"crop_n_layers": 1}).digest != a


def test_a_checkpoint_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"no\.pt: cannot be read"):
        load("sam-vit-b", checkpoint=tmp_path / "no.pt")


def test_a_decoder_that_the_variant_does_not_have_is_not_passed_over():
    with pytest.raises(ConfigError, match="ucm has no plain decoder"):
        load("ucm", decoder="plain")


def test_lists_name_everything_and_are_json():
    assert {r["name"] for r in variants()} >= {"ucm", "sam-vit-b", "sam-vit-l", "sam-vit-h"}
    assert {r["name"] for r in samplers()} >= {"grid", "grid-16", "grid-32", "grid-64"}
    json.dumps([variants(), samplers(), configs()])


@pytest.mark.parametrize("record", configs(), ids=lambda r: r["name"])
def test_every_config_that_comes_along_resolves_and_says_what_it_is_for(record: dict):
    assert len(record["summary"]) > 20
    resolve(config=record["name"])


def test_settings_that_came_later_leave_older_results_valid():
    recipe = resolve("ucm")
    assert recipe.model_dump(mode="json")["output"] == {"form": "json", "label_map": False}
    other = resolve("ucm", sets=["output.parents=true"])
    assert other.model_dump(mode="json")["output"] == {
        "form": "json",
        "label_map": False,
        "parents": True,
    }
    assert other.digest != recipe.digest
    assert type(recipe).model_validate(other.model_dump(mode="json")) == other


def test_a_full_label_map_must_be_asked_for_with_the_map():
    with pytest.raises(ConfigError, match=r"needs output\.label_map: true"):
        resolve("ucm", sets=["output.label_map_full=true"])
    full = resolve("ucm", sets=["output.label_map_full=true", "output.label_map=true"])
    assert full.output.label_map_full


def test_files_of_samplers_count_by_what_is_in_them(tmp_path: Path):
    for name, content in (("a.pt", b"1"), ("b.pt", b"1"), ("c.pt", b"2")):
        (tmp_path / name).write_bytes(content)

    def recipe(name: str, sampler: str = "object-aware", group: str = "sampler") -> Recipe:
        return resolve(sampler=sampler, sets=[f"{group}.detector={tmp_path / name}"])

    one, same, other = (recipe(name) for name in ("a.pt", "b.pt", "c.pt"))
    assert one.sampler["detector"] != same.sampler["detector"]
    assert one.digest == same.digest != other.digest
    pair = recipe("a.pt", "object-aware+grid-16", "sampler.first")
    assert pair.others == {"sampler.first.detector": one.others["sampler.detector"]}
    assert pair.digest == recipe("b.pt", "object-aware+grid-16", "sampler.first").digest


def test_a_file_that_is_another_one_where_the_model_is_loaded_is_refused(tmp_path: Path):
    """A path on another machine of a cluster."""
    weights, head = tmp_path / "w.safetensors", tmp_path / "head.safetensors"
    weights.write_bytes(Path("everything/bundled/weights/nano.safetensors").read_bytes())
    head.write_bytes(b"head")
    recipe = resolve("nano", weights, "object-aware", sets=[f"sampler.detector={head}"])
    head.write_bytes(b"tail")
    with pytest.raises(WeightsError, match=r"sampler\.detector: not the file that the job"):
        build(recipe)
    head.unlink()
    with pytest.raises(WeightsError, match=r"its SHA-256 is none: it is not there"):
        build(recipe)
    weights.write_bytes(Path("everything/bundled/weights/ucm.safetensors").read_bytes())
    with pytest.raises(WeightsError, match=r"w\.safetensors: not the file that the job began with"):
        build(recipe)


def test_a_variant_suits_samplers_to_its_logits():
    def thresh(variant: str, **more: Any) -> float:
        found = resolve(variant, sampler="hierarchical", **more).sampler["high_score_thresh"]
        return float(found)

    assert thresh("ucm", flags={"high_score_thresh": 8.5}) == 8.5
    assert (thresh("ucm"), thresh("nano")) == (18.0, 4.5)
    assert thresh("sam-vit-b") == 8.5
    pair = resolve("nano", sampler="hierarchical+grid-16", sets=["sampler.first.points_per_side=8"])
    assert pair.sampler["first"] == {"points_per_side": 8, "high_score_thresh": 4.5}
    assert pair.sampler["then"]["points_per_side"] == 16


def test_a_group_is_checked_together_with_the_presets(monkeypatch: pytest.MonkeyPatch):
    """label_map_full alone is wrong, and right for a variant that always writes label maps."""
    preset = {"output": {"label_map": True}}
    monkeypatch.setitem(VARIANTS, "mapped", replace(VARIANTS["sam-vit-b"], preset=preset))
    _, tree = composed("mapped", None, None, None, ["output.label_map_full=true"], None)
    assert tree["output"] == {"label_map": True, "label_map_full": True}
    with pytest.raises(ConfigError, match="label_map_full needs"):
        composed("sam-vit-b", None, None, None, ["output.label_map_full=true"], None)


def test_a_mask_threshold_counts_only_where_it_is_given() -> None:
    before = resolve("ucm")
    assert "mask_threshold" not in before.model_dump()["filters"]
    assert resolve("ucm", flags={"mask_threshold": 0.0}).digest == before.digest
    higher = resolve("ucm", sets=["filters.mask_threshold=0.5"])
    assert (higher.filters.mask_threshold, higher.digest == before.digest) == (0.5, False)
    with pytest.raises(ConfigError, match=r"filters\.mask_threshold = nan"):
        resolve("ucm", sets=["filters.mask_threshold=.nan"])


def test_settings_of_some_decoders_are_refused_by_others() -> None:
    asked = ["decoding.hq_token_only=true"]
    with pytest.raises(
        ConfigError, match=r"^decoding\.hq_token_only: ucm has no such setting: .*sam-hq"
    ):
        resolve("ucm", sets=asked)
    assert resolve("sam-hq-vit-h", sets=asked).decoding.hq_token_only
    # Recipes of older results do not have it.
    assert "hq_token_only" not in resolve("ucm").model_dump()["decoding"]
