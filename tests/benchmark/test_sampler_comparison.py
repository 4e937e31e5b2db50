"""Samplers side by side on two small photos: ucm's masks scored, a small SAM of noise timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from everything.benchmark.comparison_report import Comparison
from everything.benchmark.sampler_comparison import compare, spread
from everything.errors import InputError
from everything.io.images.sources import Source
from everything.variants import VARIANTS
from tests.benchmark.test_random_weights import SMALL
from tests.cli.test_main import everything, invoked, printed_json
from tests.photos import photo

SAMPLERS = ["all-instance", "hierarchical", "grid-16", "auto-ppn"]
NAMES = ("chelsea", "rocket")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos of which the left third is marked, and the rest."""
    folder = tmp_path_factory.mktemp("marked")
    for name in NAMES:
        pixels = photo(name, 96)
        (folder / "photos").mkdir(exist_ok=True)
        (folder / "labels").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(folder / f"photos/{name}.png")
        labels = np.full(pixels.shape[:2], 1, np.uint8)
        labels[:, : labels.shape[1] // 3] = 2
        Image.fromarray(labels).save(folder / f"labels/{name}.png")
    return folder


@pytest.fixture(scope="module")
def photos(folder: Path) -> list[Source]:
    return [Source(str(folder / "photos"), f"{name}.png") for name in NAMES]


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("out")


@pytest.fixture(scope="module")
def comparison(folder: Path, photos: list[Source], out: Path) -> Comparison:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "small", SMALL)
        return compare(
            photos, ["ucm"], SAMPLERS, truth=folder, time_on=["small"], timed=1, repeats=2,
            random_seed=0, out=out,
        )  # fmt: skip


def test_scores_are_beside_the_reference(comparison: Comparison):
    found = {one.key.sampler: one for one in comparison.found}
    assert list(found) == SAMPLERS
    assert (found["grid-16"].prompts, found["all-instance"].prompts) == (256, 0)
    assert 16 < found["hierarchical"].prompts < 1024
    assert all(one.scores is not None and one.scores.segments == 4 for one in found.values())
    tree = json.loads(comparison.to_json())
    rows = {row["sampler"]: row for row in tree["found"]}
    # grid-32 is not among them: the first one is the reference.
    assert rows["all-instance"]["of_reference"]["shared@1000"] == 1
    first, other = (rows[name]["scores"]["shared"]["100"] for name in ("all-instance", "grid-16"))
    assert rows["grid-16"]["of_reference"]["shared@100"] == pytest.approx(other / first)


def test_times_are_of_pairs_in_the_same_round(comparison: Comparison):
    times = json.loads(comparison.to_json())["times"]
    ratios = {row["sampler"]: row["time"] for row in times["of_reference"]}
    seconds = {
        (sample["key"]["sampler"], sample["round"]): sum(
            s for stage, s in sample["seconds"].items() if stage != "read"
        )
        for sample in times["samples"]
    }
    pairs = [seconds["grid-16", r] / seconds["all-instance", r] for r in (0, 1)]
    assert ratios["grid-16"]["median"] == pytest.approx(np.median(pairs))
    assert ratios["all-instance"]["median"] == 1


def test_noise_asks_as_much_as_trained_weights_would(comparison: Comparison):
    assert comparison.times is not None
    rows = {row.key.sampler: row for row in comparison.times.rows()}
    assert 64 + 300 < rows["hierarchical"].counts["prompts"] < 64 + 660  # half of 960
    # A small canvas has no room for more boxes that differ.
    assert 72 < rows["auto-ppn"].counts["prompts"] <= 72 + 40
    assert any("high_score_thresh" in note for note in comparison.times.notes)


def test_tables_and_a_picture_are_left(comparison: Comparison, out: Path):
    text = (out / "compare.md").read_text()
    assert text == comparison.markdown()
    assert "| ucm, hierarchical |" in text
    assert "| small, auto-ppn |" in text
    sheet = Image.open(out / "ucm.jpg")
    assert comparison.sheets == [out / "ucm.jpg"]
    assert sheet.width == 4 * 300 + 3 * 6
    assert np.asarray(sheet)[30:].std() > 20


def test_what_is_labelled_is_not_labelled_again(
    comparison: Comparison, folder: Path, photos: list[Source], out: Path
):
    assert comparison.images == 2
    file = out / "labels/ucm/all-instance/annotations/rocket.png.json"
    before = file.stat().st_mtime_ns
    again = compare(photos[1:], ["ucm"], ["all-instance"], truth=folder, out=out)
    assert file.stat().st_mtime_ns == before
    # The other image is there as well, and no part of this comparison.
    assert again.images == 1
    assert again.found[0].scores is not None
    assert again.found[0].scores.segments == 2


def test_truth_of_other_photos_is_refused(folder: Path, tmp_path: Path):
    Image.fromarray(photo("coffee", 64)).save(tmp_path / "coffee.png")
    with pytest.raises(InputError, match="has no ground truth for any of these"):
        compare([Source(str(tmp_path), "coffee.png")], ["ucm"], ["grid-16"], truth=folder)
    with pytest.raises(InputError, match="--demo"):
        compare([], ["ucm"], ["grid-16"])


def test_some_of_many_are_spread_evenly():
    many = [Source("", str(i)) for i in range(10)]
    assert [source.name for source in spread(many, 3)] == ["0", "3", "6"]
    assert spread(many, 11) == spread(many, None) == many


def test_the_command_prints_the_tables(folder: Path, out: Path):
    options = ["--truth", folder, "--samplers", "all-instance", "--out", out]
    text = everything("compare", folder / "photos", *options)
    assert "ucm-lite0, all-instance" in text
    assert "AR@1000" in text
    quiet = invoked("compare", folder / "photos", *options, "-q")
    assert ("AR@1000" in quiet.stdout, quiet.stderr) == (True, "")
    tree = printed_json("compare", folder / "photos", *options)
    assert [row["sampler"] for row in tree["found"]] == ["all-instance"]
    assert tree["times"] is None
