from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from everything.cli.main import app
from everything.recipes.catalogue import settings
from tests.fakes import build, build_nothing, save_photo

SAM_FLAGS = [
    "--points-per-side", "--points-per-batch", "--pred-iou-thresh", "--stability-score-thresh",
    "--stability-score-offset", "--mask-threshold", "--box-nms-thresh", "--crop-n-layers",
    "--crop-nms-thresh", "--crop-overlap-ratio", "--crop-n-points-downscale-factor",
    "--min-mask-region-area",
]  # fmt: skip


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two photos, and discs in place of models."""
    import everything.jobs.label as job

    monkeypatch.setitem(job.label.__kwdefaults__, "build", build)
    for number in range(2):
        save_photo(tmp_path / f"photos/{number}.jpg", number)
    return tmp_path / "photos"


def everything(*arguments: object, code: int = 0) -> str:
    """What a command prints, stdout and stderr together."""
    return invoked(*arguments, code=code).output


def printed_json(*arguments: object, code: int = 0) -> Any:
    """The JSON that a command prints; stderr, where progress and the log go, is no part of it."""
    return json.loads(invoked(*arguments, "--json", code=code).stdout)


def invoked(*arguments: object, code: int = 0) -> Result:
    terminal = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], env=terminal)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def label(*arguments: object, code: int = 0) -> str:
    return everything("label", "--variant", "sam-vit-b", "--no-preview", *arguments, code=code)


def test_help_explains_every_option_and_exit_code() -> None:
    text = everything("label", "--help")
    for flag in [
        *SAM_FLAGS,
        "--out",
        "--variant",
        "--checkpoint",
        "--sampler",
        "--config",
        "--set",
    ]:
        assert flag in text
    for flag in ["--workers", "--overwrite", "--demo", "--json"]:
        assert flag in text
    for code in ["0 all done", "3 some images failed", "2 an option", "1 the job", "130"]:
        assert code in text


def test_help_shows_the_defaults_of_sams_settings() -> None:
    defaults = {
        record["name"].rpartition(".")[2]: record["default"] for record in settings(None, "grid")
    }
    lines = everything("label", "--help").splitlines()
    for flag in SAM_FLAGS:
        line = next(line for line in lines if f"{flag} " in line)
        default = float(line.partition("[default: (")[2].partition(")")[0])
        assert default == pytest.approx(defaults[flag[2:].replace("-", "_")], abs=5e-5), flag


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "numpy", "pydantic"}
    code = f"import sys, everything.cli.main; print({heavy!r} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code]).decode().strip() == "set()"


def test_version_and_module() -> None:
    assert everything("--version").startswith("everything ")
    command = [sys.executable, "-m", "everything", "--version"]
    assert subprocess.check_output(command).decode().startswith("everything ")


def test_a_job_ends_with_a_table(photos: Path, tmp_path: Path) -> None:
    text = label(photos, "--out", tmp_path / "out", "--sampler", "grid-16")
    assert "seconds per image" in text
    assert "annotations" in text
    assert "sam-vit-b: Apache-2.0" in text
    assert len(list((tmp_path / "out/annotations").iterdir())) == 2


def test_a_look_at_the_first_photos_before_the_rest(photos: Path, tmp_path: Path) -> None:
    job = (photos, "--out", tmp_path / "out", "--points-per-side", 2, "--json")
    first = json.loads("{" + label(*job, "--limit", 1).partition("{")[2])
    assert (first["images"], first["done"]) == (1, 1)
    both = json.loads("{" + label(*job).partition("{")[2])
    assert (both["images"], both["done"], both["skipped"]) == (2, 1, 1)


def test_flags_reach_the_recipe(photos: Path, tmp_path: Path) -> None:
    flags = {
        flag: 3 if "thresh" not in flag and "ratio" not in flag else 0.25 for flag in SAM_FLAGS
    }
    flags["--crop-n-layers"] = 1
    options = [part for pair in flags.items() for part in pair]
    out = tmp_path / "out"
    label(photos, "--out", out, "--sampler", "grid", *options, "--set", "nms.kind=mask")
    document = json.loads((out / "annotations/0.jpg.json").read_bytes())
    recipe = document["recipe"]
    for flag, value in flags.items():
        name = flag.removeprefix("--").replace("-", "_")
        (group,) = [group for group in recipe.values() if isinstance(group, dict) and name in group]
        assert group[name] == value
    assert recipe["nms"]["kind"] == "mask"
    assert (recipe["variant"], recipe["sampler"]["name"]) == ("sam-vit-b", "grid")
    again = label(photos, "--out", out, "--config", out / "recipe.yaml")
    assert "skipped" in again  # the written recipe is the recipe
    assert len(list((out / "annotations").iterdir())) == 2


def test_json_for_programs(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.jpg").touch()
    arguments = [photos, "--out", tmp_path / "out", "--points-per-side", 2]
    result = CliRunner().invoke(
        app, ["label", "--variant", "sam-vit-b", "--no-preview", "--json", *map(str, arguments)]
    )
    summary = json.loads(result.stdout)
    assert (summary["images"], summary["done"], summary["failed"]) == (3, 2, 1)
    assert "broken.jpg: the file is empty" in summary["failures"][0]
    assert result.exit_code == 3


def test_failed_photos_are_listed(photos: Path, tmp_path: Path) -> None:
    (photos / "broken[red].jpg").touch()
    text = label(photos, "--out", tmp_path / "out", "--points-per-side", 2, code=3)
    assert "broken[red].jpg: the file is empty: get another copy of it" in text
    assert "errors.jsonl" in text


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "give images or folders, or --demo"),
        (["nothing.jpg"], 2, "nothing.jpg: no such file or directory"),
        (["--demo", "PHOTOS"], 2, "give images or folders, or --demo"),
        (["PHOTOS", "--sampler", "gird"], 2, "did you mean grid"),
        (["PHOTOS", "--set", "nms.knd=mask"], 2, "did you mean nms.kind?"),
        (["PHOTOS", "--pred-iou-thresh", "7"], 2, "filters.pred_iou_thresh = 7.0"),
        (["PHOTOS", "--config", "nothing.yaml"], 2, "nothing.yaml: no such file"),
        (["PHOTOS", "--workers", "0"], 2, "--workers 0: give a number from 1 on, or auto"),
        (["PHOTOS", "--workers", "all"], 2, "--workers all: give a number from 1 on, or auto"),
        (["PHOTOS", "--out", "PHOTOS/0.jpg"], 1, "not a directory"),
    ],
)
def test_mistakes_are_one_line(
    photos: Path, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    given = [argument.replace("PHOTOS", str(photos)) for argument in arguments]
    if "--out" not in given:
        given += ["--out", str(tmp_path / "out")]
    text = label(*given, code=code)
    assert message in text
    assert "Traceback" not in text
    assert not (tmp_path / "out").exists()


def test_another_recipe_is_refused(photos: Path, tmp_path: Path) -> None:
    label(photos, "--out", tmp_path / "out", "--points-per-side", 2)
    text = label(photos, "--out", tmp_path / "out", "--points-per-side", 3, code=1)
    assert "sampler.points_per_side is 2 there and 3 now" in text
    label(photos, "--out", tmp_path / "out", "--points-per-side", 3, "--overwrite")


def test_missing_weights(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import everything.jobs.label as job

    monkeypatch.setitem(job.label.__kwdefaults__, "build", build_nothing)
    assert "discs.pth: not found" in label(photos, "--out", tmp_path / "out", code=1)


@pytest.mark.parametrize("what", ["variants", "samplers", "configs"])
def test_lists(what: str) -> None:
    records = printed_json(what)
    assert len({record["name"] for record in records}) == len(records) > 0
    table = everything(what)
    assert all(record["name"] in table for record in records)


def test_settings_are_listed_with_what_presets_made_of_them() -> None:
    records = printed_json("settings", "--sampler", "all-instance")
    assert {record["name"]: record["value"] for record in records}["nms.kind"] == "none"
    table = everything("settings", "--variant", "nano", "--set", "filters.pred_iou_thresh=0.33")
    line = next(line for line in table.splitlines() if "filters.pred_iou_thresh" in line)
    assert "0.33" in line
    assert all(record["name"] in table for record in records if "sampler." not in record["name"])
    assert "did you mean" in everything("settings", "--sampler", "gird", code=2)


def test_models_are_listed_by_how_they_come() -> None:
    lines = everything("variants").splitlines()
    assert lines[0].strip() == "bundled"
    assert lines[1].split()[:3] == ["ucm", "2.3", "M"]
    downloaded = [line.strip() for line in lines].index("downloaded at first use")
    assert lines[downloaded + 1].startswith("sam-vit-b ")


def test_the_demo_needs_no_network(tmp_path: Path) -> None:
    """The README's first command, but for its grid: real photos, the real model."""
    environment = os.environ | {"http_proxy": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "everything", "label", "--demo", "--out", str(tmp_path)]
    command += ["--points-per-side", "8", "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    summary = json.loads(done.stdout)
    assert summary["done"] == summary["images"] >= 8
    assert summary["masks"] > 5 * summary["images"]
    assert Path(summary["preview"]).is_file()


def test_bench_writes_its_tables(tmp_path: Path) -> None:
    save_photo(tmp_path / "photo.png", size=(64, 80))
    settings = ["--repeats", 1, "--warmup", 0, "--no-memory", "--threads", 1]
    names = ["--variants", "ucm", "--samplers", "grid-16, boxes-2"]
    done = invoked("bench", tmp_path, *names, *settings, "--out", tmp_path / "out", "--quiet")
    assert done.stderr == ""
    assert "boxes-2" in done.stdout
    content = json.loads((tmp_path / "out" / "bench.json").read_text())
    assert [row["key"]["sampler"] for row in content["rows"]] == ["grid-16", "boxes-2"]
    assert "| model | grid-16 | boxes-2 |" in (tmp_path / "out" / "bench.md").read_text()


def test_bench_says_in_a_line_what_is_wrong(tmp_path: Path) -> None:
    assert "--demo" in everything("bench", code=2)
    save_photo(tmp_path / "photo.png")
    assert "transformers" in everything("bench", tmp_path, "--against", "transformer", code=2)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--variant", "sam-vit-x"],
        ["--sampler", "grid-33"],
        ["--set", "nms.kind=circle"],
        ["--set", "nms.knid=box"],
        ["--pred-iou-thresh", "3"],
        ["missing"],
    ],
)
def test_what_is_wrong_is_said_before_anything_heavy_is_imported(
    tmp_path: Path, wrong: list[str]
) -> None:
    (tmp_path / "images").mkdir()
    code = (
        "import sys\nfrom everything.cli.main import app\n"
        f"sys.argv = ['everything', 'label', 'images', '--out', 'out', *{wrong!r}]\n"
        "try:\n    app()\n"
        "except SystemExit as end:\n    print(end.code, 'torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["2", "False"]
    assert done.stderr.startswith("everything: ")
