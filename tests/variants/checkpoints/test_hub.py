"""Models of the Hugging Face Hub: pinned, cached, offline; one line where they cannot be had."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from everything.errors import ConfigError, WeightsError
from everything.recipes.build import build, load
from everything.recipes.resolve import resolve, variant_record
from tests.variants.tiny_transformers import save

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the Hub, without a network."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


@pytest.fixture
def cached(cache: Path) -> Path:
    """A model in the cache, as the Hub's client leaves it."""
    repo = cache / "models--someone--tiny-sam2"
    (repo / "refs").mkdir(parents=True)
    (repo / "refs" / "main").write_text(COMMIT)
    save("Sam2Model", repo / "snapshots" / COMMIT)
    return repo


@pytest.mark.parametrize("revision", ["", "@main", f"@{COMMIT}"])
def test_the_commit_is_recorded_and_offline_the_cache_is_used(cached: Path, revision: str) -> None:
    recipe = resolve(f"hf:someone/tiny-sam2{revision}")
    assert recipe.variant == f"hf:someone/tiny-sam2@{COMMIT}"
    assert (recipe.checkpoint, len(recipe.weights)) == (None, 64)
    assert recipe.filters.pred_iou_thresh == 0.8
    assert build(recipe).recipe == recipe
    assert "https://huggingface.co/someone/tiny-sam2" in variant_record(recipe.variant).licence
    # A branch that moves later changes nothing for a recipe that is made already.
    (cached / "refs" / "main").write_text("f" * 40)
    assert resolve(recipe.variant).digest == recipe.digest


def test_offline_what_is_not_cached_is_one_line(cached: Path) -> None:
    for name in ("hf:someone/other", "hf:someone/tiny-sam2@v2"):
        with pytest.raises(WeightsError, match=r"is not in the cache.*HF_HUB_OFFLINE.*hf:/FOLDER$"):
            resolve(name)


@pytest.mark.parametrize(
    "name", ["hf:", "hf:tiny", "hf:a/b/c", "hf:a/b@", "hf:a b/c", "hf:../x@y z"]
)
def test_names_that_are_none_say_how_to_write_them(cache: Path, name: str) -> None:
    with pytest.raises((ConfigError, WeightsError), match=r"hf:ORG/NAME|cannot be read"):
        resolve(name)


def test_a_checkpoint_besides_is_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match="drop --checkpoint"):
        resolve("hf:someone/tiny-sam2", "model.safetensors")
    with pytest.raises(ConfigError, match="hf: write hf:ORG/NAME, or hf:/FOLDER"):
        resolve("hf")


ANSWERS = {
    "gated": (403, "GatedRepo", "gated: accept its licence on that page, then run `hf auth login`"),
    "missing": (401, "RepoNotFound", "not found, or private"),
    "old": (404, "RevisionNotFound", "has no revision main"),
    "other": (404, "EntryNotFound", r"has no config\.json at revision main"),
}


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hub does for models that cannot be had."""

    def do_HEAD(self) -> None:
        if self.path.startswith("/api/"):  # a gated model's list of files is public
            self._listed()
            return
        code, reason, _ = ANSWERS.get(self.path.split("/")[2], ANSWERS["gated"])
        self.send_response(code)
        self.send_header("X-Error-Code", reason)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD

    def _listed(self) -> None:
        tree = [{"type": "file", "path": "config.json", "oid": "1", "size": 1}]
        about = {"id": "facebook/sam3", "sha": COMMIT, "siblings": [{"rfilename": "config.json"}]}
        content = json.dumps(tree if "/tree/" in self.path else about).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ANSWERS)
def test_what_the_hub_refuses_says_what_to_do(hub: None, name: str) -> None:
    with pytest.raises(WeightsError, match=ANSWERS[name][2]) as raised:
        resolve(f"hf:someone/{name}")
    assert str(raised.value).startswith(f"https://huggingface.co/someone/{name}: ")
    assert "\n" not in str(raised.value)


GATED = (
    r"^https://huggingface\.co/facebook/sam3: gated: accept its licence on that page, then run `hf "
)


def test_sam3_says_where_to_accept_its_licence(hub: None) -> None:
    with pytest.raises(WeightsError, match=f"{GATED}.*copy: --checkpoint FOLDER$"):
        resolve("sam3")
    with pytest.raises(WeightsError, match=f"{GATED}.*copy: --set sampler.model=FOLDER$"):
        load("ucm", "concepts", concepts="dog")


def test_the_list_names_them() -> None:
    from typer.testing import CliRunner

    from everything.cli.main import app

    listed = CliRunner().invoke(app, ["variants", "--json"])
    assert "hf:ORG/NAME" in [row["name"] for row in json.loads(listed.stdout)]
