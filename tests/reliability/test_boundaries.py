"""What others wrote cannot write elsewhere, run anything, or become part of a page."""

from __future__ import annotations

import ast
import io
import json
import shutil
import tarfile
from functools import cache, partial
from pathlib import Path
from urllib.request import Request

import pytest
from rich.console import Console

from everything.core.file_names import as_text
from everything.errors import InputError, WeightsError
from everything.io.images.listing import list_images
from everything.io.storage.locations import located
from everything.jobs.label import label
from everything.report.build import write_report
from everything.variants.checkpoints.download import OnlySecure
from tests.fakes import RECIPE, build
from tests.reliability.corpus import seeds

HOME = Path(__file__).parents[2]
OUTSIDE = ["../up.jpg", "/tmp/everything-abs.jpg", "a/../../up.jpg", "a//b.jpg", "./../up.jpg"]
ODD = ["C:\\x.jpg", "..\\up.jpg", "\\\\host\\share\\x.jpg", "CON.jpg", "~/x.jpg", "$HOME/x.jpg"]
HARMFUL = [
    "<img src=x onerror=alert(1)>.jpg",
    "\"'><svg onload=alert(2)>.jpg",
    "</script><script>alert(3)</script>.jpg",
    "a\nb\r\u2028c.jpg",
    "{{ 7*7 }}${alert(4)}`.jpg",
    "javascript:alert(5).jpg",
    "&lt;b&gt;&amp;.jpg",
    "\u202egpj.exe.jpg",
    "\\u003cimg src=x onerror=alert(6)\\u003e.jpg",
]


def archive(file: Path) -> None:
    """Members with names that lead out, links and devices; then one good photo."""
    with tarfile.open(file, "w") as tar:
        for name in [*OUTSIDE, *ODD, "good.jpg"]:
            member = tarfile.TarInfo(name)
            member.size = len(seeds()["jpeg"])
            tar.addfile(member, io.BytesIO(seeds()["jpeg"]))
        kinds = {tarfile.SYMTYPE: "/etc/passwd", tarfile.LNKTYPE: "/etc/passwd"}
        for kind, target in (*kinds.items(), (tarfile.CHRTYPE, ""), (tarfile.FIFOTYPE, "")):
            member = tarfile.TarInfo(f"link{kind.decode()}.jpg")
            member.type, member.linkname = kind, target
            tar.addfile(member)


def table(file: Path) -> None:
    """Rows whose names lead out; then one good photo."""
    (file.parent / "p.jpg").write_bytes(seeds()["jpeg"])
    names = [*OUTSIDE, *ODD, "nul\0.jpg", "half \ud800.jpg", "good.jpg"]
    file.write_text("\n".join(json.dumps({"uri": "p.jpg", "name": name}) for name in names))


@pytest.mark.parametrize(("make", "name"), [(archive, "x.tar"), (table, "x.jsonl")])
def test_names_of_members_and_rows_stay_inside(tmp_path: Path, make, name: str) -> None:
    home, out = tmp_path / "deep" / "home", tmp_path / "deep" / "out"
    home.mkdir(parents=True)
    make(home / name)
    before = set(tmp_path.rglob("*"))
    summary = label(
        partial(list_images, [home / name], out), out, RECIPE, build=build, preview=False,
        console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert summary.done >= 1
    told = [json.loads(line) for line in (out / "errors.jsonl").read_text().splitlines()]
    reasons = {
        line["name"]: "a link or" if "/link" in line["name"] else "leads out of the results"
        for line in told
    }
    assert all(reasons[line["name"]] in line["error"] for line in told), told
    assert {line["name"].removeprefix("x.tar/") for line in told} >= {
        as_text(name) for name in OUTSIDE if not name.startswith(("/", "./"))
    }
    new = {path for path in tmp_path.rglob("*") if out not in path.parents} - before
    assert new == {out}
    assert not list(Path("/tmp").glob("everything-abs*"))
    assert not any(path.is_symlink() for path in out.rglob("*"))


@pytest.mark.parametrize(
    "url", ["ftp://x/a", "ssh://x/a", "gopher://x", "s3::http://x/a", "data://a", "javascript://x",
            "github://a:b@/x", "zip://a::http://b", "local:///etc", "simplecache::s3://a/b",
            "FILE:///etc/passwd"],
)  # fmt: skip
def test_only_places_that_are_meant(url: str) -> None:
    with pytest.raises(InputError, match="images and results cannot be stored there"):
        located(url)


def test_a_download_does_not_leave_tls() -> None:
    start = Request("https://example.org/a.pth")
    go = partial(OnlySecure().redirect_request, start, io.BytesIO(), 302, "Found", {})
    assert go("https://cdn.example.org/a.pth").full_url == "https://cdn.example.org/a.pth"
    for executor in ("http://example.org/a.pth", "ftp://example.org/a.pth"):
        with pytest.raises(WeightsError, match="redirects to"):
            go(executor)


# Calls that could run what a file says, or write where it says. Each is looked at in review: here
# are the files that may have them.
GUARDED = {
    "torch.load": {
        "variants/checkpoints/reader.py",
        "detectors/safe_unpickle.py",
        "training/loop.py",
        "training/output_folder.py",
    },
    "yaml.load": {"core/safe_yaml.py"},
    "np.load": {"io/datasets/label_maps.py"},
}
REFUSED = {
    "pickle.load", "pickle.loads", "eval", "exec", "os.system", "os.popen", "yaml.unsafe_load",
    "yaml.full_load", "tar.extract", "tar.extractall", "archive.extract", "archive.extractall",
    "inside.extract", "inside.extractall", "torch.hub.load", "torch.jit.load", "subprocess.run",
    "subprocess.Popen", "shutil.unpack_archive", "torch.package.PackageImporter",
}  # fmt: skip


@cache
def calls() -> list[tuple[str, str, ast.Call]]:
    """Every call in the package: file, dotted name, and how."""
    found = []
    for folder in ("everything", "samplers", "batch_jobs", "configs"):
        for file in sorted((HOME / folder).rglob("*.py")):
            where = file.relative_to(HOME).as_posix().removeprefix("everything/")
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call):
                    found.append((where, ast.unparse(node.func), node))
    return found


def test_no_call_runs_or_unpacks_what_a_file_says() -> None:
    bad = [(where, name) for where, name, _ in calls() if name in REFUSED]
    bad += [(where, n) for where, n, _ in calls() if n in GUARDED and where not in GUARDED[n]]
    assert bad == []
    told = {"torch.load": "weights_only=True", "np.load": "allow_pickle=False"}
    for where, name, call in calls():
        if name in told:
            assert told[name] in ast.unparse(call), where
        for keyword in call.keywords:
            assert keyword.arg != "shell", where
            if keyword.arg == "trust_remote_code":
                assert ast.unparse(keyword.value) == "False", where
            if keyword.arg == "autoescape":
                assert ast.unparse(keyword.value) == "True", where


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_page_shows_names_and_runs_none(tmp_path: Path) -> None:
    """From real photos with these names, through a job, to what a browser makes of its report."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    photos, out = tmp_path / "<b>photos</b>", tmp_path / "<i onclick=alert(7)>out"
    for name in HARMFUL:
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        (photos / name).write_bytes(seeds()["jpeg"])
        (photos / f"broken {name.replace('/', ' ')}").write_bytes(b"")
    summary = label(
        partial(list_images, [photos], out), out, RECIPE, build=build, preview=False,
        console=Console(file=io.StringIO()),
    )  # fmt: skip
    assert (summary.done, summary.failed) == (len(HARMFUL), len(HARMFUL))
    page_file = write_report(out)
    bad: list[str] = []
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page()
        page.on("pageerror", lambda error: bad.append(str(error)))
        page.on("console", lambda message: bad.append(message.text))
        page.on("dialog", lambda dialog: (bad.append(dialog.message), dialog.dismiss()))
        local = ("file:", "data:")
        page.on("request", lambda r: None if r.url.startswith(local) else bad.append(r.url))
        page.goto(page_file.as_uri())
        page.locator("#failures summary").click()
        page.wait_for_timeout(200)
        names = page.locator("#grid .name").all_text_contents()
        assert len(names) == len(HARMFUL)
        assert "<img src=x onerror=alert(1)>.jpg" in names
        assert "</script><script>alert(3)</script>.jpg" in names
        assert r"a\nb\r\u2028c.jpg" in names
        assert (
            page.locator("#grid script, #grid svg[onload], img[src='x'], i[onclick]").count() == 0
        )
        for number in range(len(HARMFUL)):
            page.goto(f"{page_file.as_uri()}#{number}")
            playwright.expect(page.locator("#shown")).to_contain_text("shown")
        browser.close()
    assert bad == []
