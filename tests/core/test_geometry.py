import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from segment_anything.modeling import Sam
from segment_anything.utils.amg import generate_crop_boxes
from segment_anything.utils.transforms import ResizeLongestSide
from torch.nn import functional as F

from everything.core.geometry import (
    Frame,
    crop_boxes,
    padded_frame,
    stretched_frame,
    views,
    whole,
)

sides = st.integers(1, 5000)


@given(st.integers(64, 3000), st.integers(64, 3000), st.integers(0, 3), st.floats(0, 0.6))
def test_crop_boxes_are_those_of_segment_anything(h: int, w: int, layers: int, ratio: float):
    boxes, layer_of = generate_crop_boxes((h, w), layers, ratio)
    assert [(list(box), layer) for box, layer in crop_boxes((h, w), layers, ratio)] == list(
        zip(boxes, layer_of, strict=True)
    )


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 4))
def test_crops_of_tiny_images_cover_them_and_are_never_empty(h: int, w: int, layers: int):
    seen = np.zeros((layers + 1, h, w), bool)
    for (x0, y0, x1, y1), depth in crop_boxes((h, w), layers, 512 / 1500):
        assert 0 <= x0 < x1 <= w
        assert 0 <= y0 < y1 <= h
        seen[depth, y0:y1, x0:x1] = True
    assert seen.all()


def test_views_are_cut_from_the_original_pixels():
    image = np.arange(60 * 90 * 3, dtype=np.uint64).astype(np.uint8).reshape(60, 90, 3)
    for view in views(image, 1, 0.3):
        x0, y0, x1, y1 = view.box
        assert (view.pixels == image[y0:y1, x0:x1]).all()
        assert view.image_size == (60, 90)


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_whole_refuses_what_is_no_rgb_image(image: np.ndarray):
    with pytest.raises(ValueError, match="uint8 array"):
        whole(image)


@given(sides, sides, st.sampled_from([256, 512, 1024]))
def test_padded_frame_is_sams_resize(h: int, w: int, side: int):
    frame = padded_frame((h, w), side)
    expected = ResizeLongestSide.get_preprocess_shape(h, w, side)
    assert frame.content[3] == max(1, expected[0])
    assert frame.content[2] == max(1, expected[1])


frames = st.one_of(
    st.builds(lambda h, w: padded_frame((h, w), 1024), sides, sides),
    st.builds(lambda h, w: stretched_frame((h, w), 512), sides, sides),
    st.builds(lambda h, w: Frame((h, w), (640, 640), (10, 20, 630, 620)), sides, sides),
)


@given(frames, st.floats(0, 1), st.floats(0, 1))
def test_coordinates_come_back(frame: Frame, u: float, v: float):
    xy = torch.tensor([[u * frame.view[1], v * frame.view[0]]], dtype=torch.float64)
    back = frame.from_canvas(frame.to_canvas(xy))
    assert torch.allclose(back, xy, rtol=0, atol=1e-6)


@given(frames)
def test_corners_of_the_view_are_corners_of_the_content(frame: Frame):
    corners = torch.tensor([[0, 0], [frame.view[1], frame.view[0]]], dtype=torch.float64)
    assert torch.allclose(
        frame.to_canvas(corners).flatten(), torch.tensor(frame.content, dtype=torch.float64)
    )


@pytest.mark.parametrize("size", [(60, 100), (100, 60), (64, 64), (1, 200), (333, 250)])
def test_to_view_is_sams_postprocessing(size: tuple[int, int]):
    logits = torch.randn(3, 64, 64, generator=torch.manual_seed(0))
    frame = padded_frame(size, 256)

    class Encoder:
        img_size = 256

    sam = Sam.__new__(Sam)
    torch.nn.Module.__init__(sam)
    object.__setattr__(sam, "image_encoder", Encoder())
    expected = sam.postprocess_masks(logits[None], frame.content[:1:-1], size)[0]
    assert torch.equal(frame.to_view(logits), expected)


def test_one_step_frames_resize_once():
    logits = torch.randn(2, 32, 32, generator=torch.manual_seed(0))
    expected = F.interpolate(logits[None], (50, 70), mode="bicubic", align_corners=False)[0]
    assert torch.equal(stretched_frame((50, 70), 256, "bicubic").to_view(logits), expected)


def test_no_logits_are_no_masks():
    assert padded_frame((5, 7), 64).to_view(torch.zeros(0, 16, 16)).shape == (0, 5, 7)
