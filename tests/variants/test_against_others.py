"""The same seeded weights in another library's network: the same masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from everything.config import Decoding
from everything.core.geometry import whole
from everything.core.prompts import Prompts
from everything.errors import WeightsError
from everything.variants.checkpoints.hf_keys import HQ_HUGGING_FACE, HUGGING_FACE
from everything.variants.checkpoints.key_mapping import Blueprint, Dialect
from everything.variants.networks import edgetam, efficientvit, hq_sam, repvit, sam, sam2, tinyvit
from tests.photos import photo
from tests.variants.synthetic import blueprint, checkpoint, options

POINTS = torch.tensor([[[300.0, 410.0]], [[700.0, 90.0]], [[15.0, 15.0]]])
LABELS = torch.tensor([[1], [0], [1]])
BOX = torch.tensor([[[100.0, 200.0], [600.0, 900.0]]])
CORNERS = torch.tensor([[2, 3]])


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


def ours(model: Any, embedding: Any, points: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    candidates = embedding.propose(points, labels, True)
    return candidates.draw(torch.arange(len(candidates.scores))), candidates.scores


def spoken(state: dict[str, Tensor], plan: Blueprint[Any], dialect: Dialect) -> dict[str, Tensor]:
    """A checkpoint in another naming."""
    other = replace(plan, names=dialect.names, unused=dialect.unused).official_names()
    return {other[own]: state[official] for own, official in plan.official_names().items()}


@pytest.mark.parametrize("name", ["sam-vit-b", "slimsam-50", "slimsam-77"])
def test_sam_and_slimsam_are_transformers(name: str) -> None:
    from transformers import SamConfig, SamModel, SamVisionConfig

    given = options(name, small=True)
    plan = blueprint(name, small=True)
    state = checkpoint(plan)
    vision = SamVisionConfig(
        hidden_size=given["embed_dim"],
        num_hidden_layers=given["depth"],
        num_attention_heads=given["num_heads"],
        mlp_dim=given.get("mlp_dim", 4 * given["embed_dim"]),
        image_size=given["side"],
        global_attn_indexes=list(given["global_attn_indexes"]),
        num_pos_feats=128,
    )
    other = SamModel(
        SamConfig(vision_config=vision, prompt_encoder_config={"image_size": given["side"]})
    )
    theirs_state = spoken(state, plan, HUGGING_FACE)
    left = other.load_state_dict(theirs_state, strict=False)  # one matrix has two names
    assert left.missing_keys == ["prompt_encoder.shared_embedding.positional_embedding"]
    assert not left.unexpected_keys
    other.tie_weights()
    # transformers has 1e-6 for the norms of the two-way transformer, segment_anything, with which
    # the checkpoints were trained, torch's default of 1e-5.
    for module in other.mask_decoder.transformer.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    model = sam.build(state, "synthetic", **given)
    view = whole(photo("chelsea"))
    pixels, embedding = model.pixels(view), model.encode(view)
    # Padding is told apart by the embedding only, not by the pictures' sizes.
    embedding = model.decoder.prepare(model.features(embedding))
    for points, labels in ((POINTS / 4, LABELS), (BOX / 4, CORNERS)):
        asked = (
            {"input_boxes": points.reshape(1, -1, 4)}
            if labels.shape[1] == 2
            else {"input_points": points[None], "input_labels": labels[None]}
        )
        theirs = other.eval()(pixels, multimask_output=True, **asked)
        logits, scores = ours(model, embedding, points, labels)
        assert torch.allclose(logits, theirs.pred_masks[0].flatten(0, 1), rtol=0, atol=1e-4)
        assert torch.allclose(scores, theirs.iou_scores[0].flatten(), rtol=0, atol=1e-4)


def _upscale_what_the_transformer_made(decoder: Any) -> None:
    """Repair transformers 5.24: its SamHQMaskDecoder upscales the image embedding as it was before
    the transformer, rows and columns exchanged; the official code upscales the transformer's
    keys."""
    keys: list[Tensor] = []
    decoder.transformer.register_forward_hook(lambda m, given, found: keys.append(found[1]))

    def replaced(module: Any, given: tuple[Tensor]) -> Tensor:
        size = given[0].shape  # square
        return keys.pop().flatten(0, 1).transpose(1, 2).reshape(size)

    decoder.upscale_conv1.register_forward_pre_hook(replaced)


@pytest.mark.parametrize("token_only", [True, False])
def test_hq_sam_is_transformers(token_only: bool) -> None:
    from transformers import SamHQConfig, SamHQModel, SamHQVisionConfig

    given = options("sam-hq-vit-b", small=True)
    plan = blueprint("sam-hq-vit-b", small=True)
    state = checkpoint(plan)
    vision = SamHQVisionConfig(
        hidden_size=given["embed_dim"],
        num_hidden_layers=given["depth"],
        num_attention_heads=given["num_heads"],
        image_size=given["side"],
        global_attn_indexes=list(given["global_attn_indexes"]),
    )
    parts = {
        "prompt_encoder_config": {"image_size": given["side"]},
        "mask_decoder_config": {"vit_dim": given["embed_dim"]},
    }
    other = SamHQModel(SamHQConfig(vision_config=vision, **parts))
    theirs_state = spoken(state, plan, HQ_HUGGING_FACE)
    left = other.load_state_dict(theirs_state, strict=False)  # one matrix has two names
    assert left.missing_keys == ["prompt_encoder.shared_embedding.positional_embedding"]
    assert not left.unexpected_keys
    other.tie_weights()
    for module in other.mask_decoder.transformer.modules():  # as in the test of SAM
        if isinstance(module, torch.nn.LayerNorm):
            module.eps = 1e-5
    _upscale_what_the_transformer_made(other.mask_decoder)
    # Their names load, too.
    model = hq_sam.build(
        theirs_state, "synthetic", decoding=Decoding(hq_token_only=token_only), **given
    )
    view = whole(photo("chelsea"))
    pixels = model.pixels(view)
    embedding, early = model.network.image_encoder(pixels)
    image = model.decoder.prepare(embedding, model.network.mask_decoder.of_image(embedding, early))
    content = model.encode(view)
    for points, labels, several in (
        (POINTS / 4, LABELS, True),
        (POINTS / 4, LABELS, False),
        (BOX / 4, CORNERS, False),
    ):
        asked = (
            {"input_boxes": points.reshape(1, -1, 4)}
            if labels.shape[1] == 2
            else {"input_points": points[None], "input_labels": labels[None]}
        )
        theirs = other.eval()(pixels, multimask_output=several, hq_token_only=token_only, **asked)
        # Of several masks theirs has the best first; the official code has only that one.
        candidates = image.propose(points, labels, several)
        rows = torch.arange(len(candidates.scores))
        logits = candidates.draw(rows)
        assert torch.allclose(logits, theirs.pred_masks[0, :, 0], rtol=0, atol=1e-4)
        assert torch.allclose(candidates.scores, theirs.iou_scores[0, :, 0], rtol=0, atol=1e-4)
        height = 4 * content.content[0]
        drawn = content.propose(points, labels, several).draw(rows)
        assert torch.allclose(drawn[:, :height], logits[:, :height], rtol=0, atol=1e-4)


def shallow_sam_of_ultralytics() -> Any:
    from ultralytics.models.sam.build import _build_sam

    return _build_sam(768, 2, 12, [1])


def mobile_sam_of_ultralytics() -> Any:
    from ultralytics.models.sam.build import build_mobile_sam

    return build_mobile_sam()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "build_theirs"),
    [("mobilesam", mobile_sam_of_ultralytics), ("sam-vit-b", shallow_sam_of_ultralytics)],
)
def test_mobilesam_and_sam_are_ultralytics(name: str, build_theirs: Callable[[], Any]) -> None:
    shallow = {} if name == "mobilesam" else {"depth": 2, "global_attn_indexes": (1,)}
    given = options(name) | shallow
    module = tinyvit if name == "mobilesam" else sam
    state = checkpoint(module.blueprint(**given))
    other = build_theirs()
    other.load_state_dict(state)
    other.eval()
    model = module.build(state, "synthetic", **given)
    pixels = model.pixels(whole(photo("chelsea")))
    theirs = other.image_encoder(pixels)
    assert torch.allclose(model.network.image_encoder(pixels), theirs, rtol=0, atol=1e-4)
    for points, labels in ((POINTS, LABELS), (BOX, CORNERS)):
        box = labels.shape[1] == 2
        sparse, dense = other.prompt_encoder(
            points=None if box else (points, labels),
            boxes=points.flatten(1) if box else None,
            masks=None,
        )
        masks, scores = other.mask_decoder(
            theirs, other.prompt_encoder.get_dense_pe(), sparse, dense, multimask_output=True
        )
        logits, found = ours(model, model.decoder.prepare(theirs), points, labels)
        assert torch.allclose(logits, masks.flatten(0, 1), rtol=0, atol=1e-4)
        assert torch.allclose(found, scores.flatten(), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_sam2_is_ultralytics() -> None:
    from ultralytics.models.sam.build import build_sam2_t

    plan = blueprint("sam2.1-hiera-t")
    state = checkpoint(plan)
    other = build_sam2_t()
    left = other.load_state_dict(state, strict=False)
    assert not left.unexpected_keys
    assert all(name.startswith(plan.unused) for name in left.missing_keys)
    model = sam2.build(state, "synthetic", **options("sam2.1-hiera-t"))
    view = whole(photo("chelsea"))
    features = other.eval().forward_image(model.pixels(view))
    _, maps, _, sizes = other._prepare_backbone_features(features)
    maps[-1] = maps[-1] + other.no_mem_embed
    *fine, last = [m.permute(1, 2, 0).reshape(1, -1, *s) for m, s in zip(maps, sizes, strict=True)]
    embedding = model.encode(view)
    assert torch.allclose(model.features(embedding), last, rtol=0, atol=1e-4)
    for points, labels in ((POINTS, LABELS), (BOX, CORNERS)):
        sparse, dense = other.sam_prompt_encoder(points=(points, labels), boxes=None, masks=None)
        masks, scores, _, _ = other.sam_mask_decoder(
            image_embeddings=last,
            image_pe=other.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=True,
            repeat_image=True,
            high_res_features=fine,
        )
        logits, found = ours(model, embedding, points, labels)
        assert torch.allclose(logits, masks.flatten(0, 1), rtol=0, atol=1e-4)
        assert torch.allclose(found, scores.flatten(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("copies", [1, 2])
def test_files_of_transformers_load(copies: int) -> None:
    """SamModel's, saved with the matrix of positions once or, by older versions, twice."""
    plan = blueprint("slimsam-77", small=True)
    state = checkpoint(plan)
    theirs = spoken(state, plan, HUGGING_FACE)
    if copies == 2:
        positions = theirs["shared_image_embedding.positional_embedding"]
        theirs["prompt_encoder.shared_embedding.positional_embedding"] = positions
    model = sam.build(theirs, "model.safetensors", **options("slimsam-77", small=True))
    found = model.network.state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state)
    del theirs["mask_decoder.iou_token.weight"]
    with pytest.raises(WeightsError, match=r"1 missing \(mask_decoder\.iou_token\.weight"):
        blueprint("slimsam-77", small=True).load(theirs, "model.safetensors")


@pytest.mark.parametrize("name", ["sam2.1-hiera-t", "edgetam"])
def test_files_of_transformers_video_model_load(name: str) -> None:
    plan = blueprint(name, small=True)
    state = checkpoint(plan)
    theirs = {n: t.clone() for n, t in plan.load(state, "official").state_dict().items()}
    theirs |= {"memory_attention.layer_norm.weight": torch.ones(1), "no_object_pointer": POINTS}
    module = edgetam if name == "edgetam" else sam2
    model = module.build(theirs, "model.safetensors", **options(name, small=True))
    found = model.network.state_dict()
    assert all(torch.equal(found[name], theirs[name]) for name in found)


@pytest.mark.parametrize("decoder", ["shared-image", "plain"])
def test_masks_decoded_again_are_transformers(decoder: Any) -> None:
    """use_m2m: the whole network of transformers, asked for one candidate after the other."""
    given = options("sam2.1-hiera-t", small=True)
    state = checkpoint(blueprint("sam2.1-hiera-t", small=True))
    once, again = (
        sam2.build(state, "x", decoding=Decoding(decoder=decoder, use_m2m=m2m), **given)
        for m2m in (False, True)
    )
    view = whole(photo("chelsea"))
    image, clicks = again.encode(view), Prompts(POINTS / 4, LABELS)
    first, found = (model.propose(image, clicks, True) for model in (once, again))
    for name in ("prompt", "level", "identity"):
        assert torch.equal(getattr(found, name), getattr(first, name))
    masks, logits = (each.draw(torch.arange(9)) for each in (first, found))
    for row, p in enumerate(first.prompt.tolist()):
        theirs = again.network(
            again.pixels(view),
            input_points=clicks.points[None, p : p + 1],
            input_labels=clicks.labels[None, p : p + 1],
            input_masks=masks[row][None, None].clamp(-32, 32),
            multimask_output=False,
        )
        assert torch.allclose(logits[row], theirs.pred_masks[0, 0, 0], rtol=0, atol=1e-4)
        assert torch.allclose(found.scores[row], theirs.iou_scores[0, 0, 0], rtol=0, atol=1e-5)
    assert (logits - masks).abs().max() > 1e-2
    assert not again.in_bulk


def body(plan: Blueprint[Any], part: str) -> dict[str, Tensor]:
    """A network's own state below one of its modules, seeded."""
    own, state = plan.official_names(), checkpoint(plan)
    return {n.removeprefix(part): state[o] for n, o in own.items() if n.startswith(part)}


@pytest.mark.parametrize("size", ["l1", "l2"])
def test_efficientvit_stages_are_timms(size: str) -> None:
    import timm

    name = f"efficientvit-sam-{size}"
    plan = blueprint(name)
    encoder = efficientvit.build(
        checkpoint(plan), "synthetic", **options(name)
    ).network.image_encoder
    other = timm.create_model(f"efficientvit_{size}", num_classes=0)
    theirs = [name for name in other.state_dict() if not name.startswith("head.")]
    values = body(plan, "image_encoder.stages.").values()
    other.load_state_dict(dict(zip(theirs, values, strict=True)), strict=False)
    for module in other.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eps = efficientvit.NORM_EPS
    pixels = torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))
    expected = other.eval().forward_intermediates(pixels, intermediates_only=True)
    found = list(encoder._maps(pixels))[1:]
    assert len(found) == len(expected) == 4
    assert all(torch.allclose(a, b, atol=1e-4) for a, b in zip(found, expected, strict=True))


def test_edgesam_taps_the_map_before_the_last_stride() -> None:
    state = checkpoint(blueprint("edgesam", small=True))
    encoder = repvit.build(state, "x", **options("edgesam", small=True)).network.image_encoder
    pixels = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seen: dict[str, Tensor] = {}
    stage = encoder.body.stages[3]
    stage.downsample.pre_block.register_forward_hook(lambda m, i, o: seen.update(fine=o))
    stage.register_forward_hook(lambda m, i, o: seen.update(coarse=o))
    encoder.body.forward_features(pixels)
    fine, coarse = encoder.fuse_stage2(seen["fine"]), encoder.fuse_stage3(seen["coarse"])
    enlarged = torch.nn.functional.interpolate(coarse, fine.shape[2:], mode="bicubic")
    assert torch.allclose(encoder(pixels), encoder.neck(fine + enlarged), atol=1e-5)


def test_edgesam_scores_masks_by_their_stability() -> None:
    state = checkpoint(blueprint("edgesam", small=True))
    model = repvit.build(state, "x", **options("edgesam", small=True))
    candidates = model.propose(
        model.encode(whole(photo("chelsea"))), Prompts(POINTS / 4, LABELS), True
    )
    logits = candidates.draw(torch.arange(9))
    inner, outer = ((logits > cut).sum((1, 2)) for cut in (1.0, -1.0))
    assert torch.allclose(candidates.scores, inner / outer)
    assert len(candidates.scores.unique()) == 9
