"""Weights that are not what they should be: one line that says so, nothing run, nothing kept."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from everything.errors import WeightsError
from everything.variants.checkpoints.reader import read_state
from everything.variants.checkpoints.weights import Weights, sha256

STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "hub" / "checkpoints"


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


WRAPPED = {"model": STATE, "epoch": 3}


@pytest.mark.parametrize(
    "content", [STATE, WRAPPED, {"state_dict": STATE}, {"state_dict": WRAPPED}]
)
def test_wrappings_are_taken_off(tmp_path: Path, content: object) -> None:
    state = read_state(saved(tmp_path / "weights.pth", content))
    assert state.keys() == STATE.keys()
    assert all(torch.equal(state[name], STATE[name]) for name in STATE)


def test_several_state_dicts_become_one(tmp_path: Path) -> None:
    state = read_state(saved(tmp_path / "weights.pt", {"Encoder": STATE, "Decoder": STATE}))
    assert sorted(state) == ["Decoder.a.weight", "Decoder.b", "Encoder.a.weight", "Encoder.b"]


def test_files_of_old_pytorch_and_safetensors_are_read(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    save_file(STATE, tmp_path / "new.safetensors")
    for name in ("old.pth", "new.safetensors"):
        assert torch.equal(read_state(tmp_path / name)["a.weight"], STATE["a.weight"])


def test_tensors_stay_in_the_file_until_they_are_used(tmp_path: Path) -> None:
    path = saved(tmp_path / "weights.pth", {"w": torch.zeros(1000)})
    state = read_state(path)
    # The file is changed behind the mapping's back: a copy would not notice.
    content = path.read_bytes()
    start = content.index(bytes(4000))
    with path.open("r+b") as file:
        file.seek(start + 40)
        file.write(b"\x00\x00\x80\x3f")
    assert state["w"].sum() == 1


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return Path.write_text, (self.target, "code ran")


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, zipped: bool) -> None:
    victim = tmp_path / "victim.txt"
    content = {"w": torch.zeros(2), "payload": Malicious(victim)}
    torch.save(content, tmp_path / "bad.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"bad\.pth: contains Python objects other than tensors"):
        read_state(tmp_path / "bad.pth")
    assert not victim.exists()
    # The payload is a real one: what is refused would have run.
    buffer = io.BytesIO(pickle.dumps(Malicious(victim)))
    pickle.load(buffer)
    assert victim.read_text() == "code ran"


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    saved(tmp_path / "model.pt", {"model": torch.nn.Linear(2, 2)})
    with pytest.raises(WeightsError, match="use a checkpoint that is a plain state dict"):
        read_state(tmp_path / "model.pt")


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path: Path, part: float, suffix: str) -> None:
    whole = tmp_path / f"whole.{suffix}"
    save_file(STATE, whole) if suffix == "safetensors" else torch.save(STATE, whole)
    cut = tmp_path / f"cut.{suffix}"
    cut.write_bytes(whole.read_bytes()[: int(part * whole.stat().st_size)])
    with pytest.raises(WeightsError, match=rf"cut\.{suffix}: not a readable checkpoint"):
        read_state(cut)


@pytest.mark.parametrize("content", [[1, 2], {"a": "text"}, {}, {"model": {"w": [1.0]}}])
def test_a_file_without_a_state_dict_is_refused(tmp_path: Path, content: object) -> None:
    with pytest.raises(WeightsError, match=r"odd\.pth: contains no state dict"):
        read_state(saved(tmp_path / "odd.pth", content))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"none\.pth: not a readable checkpoint \(.*No such file"
    ):
        read_state(tmp_path / "none.pth")
    with pytest.raises(WeightsError, match=r"none\.pth: cannot be read"):
        sha256(tmp_path / "none.pth")


def test_what_cannot_be_fetched_says_what_to_do(
    tmp_path: Path, hub: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = Weights((tmp_path / "gone.pth").as_uri())
    with pytest.raises(WeightsError, match=r"gone\.pth: cannot be fetched .*--checkpoint"):
        gone.path()
    manual = Weights("https://drive.example/file/d/1", file="manual.pth", by_hand="people only")
    with pytest.raises(WeightsError, match=r"people only: put the file at .*manual\.pth"):
        manual.path()
    saved(hub / "manual.pth", STATE)
    assert manual.path() == hub / "manual.pth"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(WeightsError, match=r"HF_HUB_OFFLINE is set: copy .*gone\.pth"):
        gone.path()


def test_a_file_put_into_the_cache_is_checked_once(hub: Path, tmp_path: Path) -> None:
    hub.mkdir(parents=True)
    file = saved(hub / "tiny.pth", STATE)
    weights = Weights("https://host.example/tiny.pth", sha256(file))
    assert weights.path() == file
    stamp = (hub / "tiny.pth.checked").read_text()
    assert weights.sha256 in stamp
    saved(file, {"a": torch.zeros(99)})
    with pytest.raises(
        WeightsError, match=r"tiny\.pth: its SHA-256 is .*https://host.* remove the file"
    ):
        weights.path()
    (hub / "tiny.pth.checked").write_text("{")  # of a process that was killed
    saved(file, STATE)
    assert weights.path() == file
    assert (hub / "tiny.pth.checked").read_text() != "{"


def test_a_hash_that_nobody_published_is_told(
    tmp_path: Path, hub: Path, caplog: pytest.LogCaptureFixture
) -> None:
    remote = saved(tmp_path / "tiny.pth", STATE)
    weights = Weights(remote.as_uri())
    weights.path()
    assert weights.digest() in caplog.text
    assert "no SHA-256 is published" in caplog.text
    caplog.clear()
    weights.path()  # it is there: nothing is fetched, nothing said
    assert not caplog.text
