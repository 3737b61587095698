"""NanoTrack V3: published names and shapes, against a forward written out here."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from test_import_weights import conv, norm, normalised

from siamkd_core.anchors import anchor_boxes, decode, exemplar_anchors
from siamkd_core.backend import TorchBackend
from siamkd_core.ban_head import BanHead
from siamkd_core.box import Box
from siamkd_core.cli import main
from siamkd_core.crop import crop_square, exemplar_side, mean_colour
from siamkd_core.errors import ModelFileError
from siamkd_core.import_weights import import_weights
from siamkd_core.modelfile import load_model
from siamkd_core.select_box import select_box
from siamkd_core.tracker import load_tracker

# in, hidden, out, kernel, stride, width inside of the squeeze and excitation, HardSwish
BLOCKS = (
    (16, 16, 16, 3, 2, 8, False),
    (16, 72, 24, 3, 2, 0, False),
    (24, 88, 24, 3, 1, 0, False),
    (24, 96, 40, 5, 2, 24, True),
    (40, 240, 40, 5, 1, 64, True),
    (40, 240, 40, 5, 1, 64, True),
    (40, 120, 48, 5, 1, 32, True),
    (48, 144, 48, 5, 1, 40, True),
    (48, 288, 96, 5, 1, 72, True),
)
PARAMETERS = 541_349
"""Of the published file, without its neck and with one score in place of two."""


def pair(state, convolution, batch_norm, inputs, outputs, kernel, groups=1, bias=False):
    conv(state, convolution, inputs, outputs, kernel, bias=bias, groups=groups)
    norm(state, batch_norm, outputs)
    # features of a size that does not grow with the layers
    state[f"{batch_norm}.running_var"] = torch.rand(outputs) * 0.2 + 0.05


def linear(state, name, inputs, outputs):
    state[f"{name}.weight"] = torch.randn(outputs, inputs) * inputs**-0.5
    state[f"{name}.bias"] = torch.randn(outputs)


def checkpoint():
    torch.manual_seed(5)
    state = {}
    pair(state, "backbone.features.0.0", "backbone.features.0.1", 3, 16, 3)
    state["backbone.features.0.1.running_var"] *= 1e4
    for n, (inputs, hidden, outputs, kernel, _, inner, _) in enumerate(BLOCKS, 1):
        name, at = f"backbone.features.{n}.conv", 0
        if inputs != hidden:
            pair(state, f"{name}.0", f"{name}.1", inputs, hidden, 1)
            at = 3
        pair(state, f"{name}.{at}", f"{name}.{at + 1}", hidden, hidden, kernel, hidden)
        if inner:
            place = 3 if at == 0 else 5
            linear(state, f"{name}.{place}.fc.0", hidden, inner)
            linear(state, f"{name}.{place}.fc.2", inner, hidden)
        last = 4 if at == 0 else 7
        pair(state, f"{name}.{last}", f"{name}.{last + 1}", hidden, outputs, 1)
    conv(state, "neck.downsample.0", 96, 96, 1, bias=False)
    norm(state, "neck.downsample.1", 96)
    for branch, tower, answer, count in (
        ("cls", "cls_tower", "cls_logits", 2),
        ("reg", "bbox_tower", "bbox_pred", 4),
    ):
        for kind in ("pw", "dw"):
            for part in ("conv_kernel", "conv_search"):
                name = f"ban_head.corr_{kind}_{branch}.{part}"
                pair(state, f"{name}.0", f"{name}.1", 96, 96, 1, bias=True)
        maps = f"ban_head.corr_pw_{branch}"
        conv(state, f"{maps}.CA_layer.fc1", 64, 64, 1)
        conv(state, f"{maps}.CA_layer.fc2", 64, 64, 1)
        pair(state, f"{maps}.conv.0", f"{maps}.conv.1", 64, 64, 2, 64)
        pair(state, f"{maps}.conv.3", f"{maps}.conv.4", 64, 64, 1, bias=True)
        state[f"{maps}.conv.1.running_var"] *= 1e4
        conv(state, f"ban_head.down_{branch}.0", 160, 96, 1)
        for n in range(0, 30, 5):
            pair(state, f"ban_head.{tower}.{n}", f"ban_head.{tower}.{n + 1}", 96, 96, 3, 96)
            pair(state, f"ban_head.{tower}.{n + 3}", f"ban_head.{tower}.{n + 4}", 96, 96, 1)
        conv(state, f"ban_head.{answer}.0", 96, count, 1)
        state[f"ban_head.{answer}.0.weight"] *= 0.3
    # distances of about 32 pixels
    state["ban_head.bbox_pred.0.weight"] *= 0.1
    state["ban_head.bbox_pred.0.bias"] += 3.5
    return state


def unit(state, convolution, batch_norm, x, stride=1, padding=0, groups=1):
    x = F.conv2d(
        x,
        state[f"{convolution}.weight"],
        state.get(f"{convolution}.bias"),
        stride,
        padding,
        1,
        groups,
    )
    return normalised(state, batch_norm, x, 1e-5)


def features(state, x):
    x = F.hardswish(unit(state, "backbone.features.0.0", "backbone.features.0.1", x, 2, 1))
    for n, (inputs, hidden, outputs, kernel, stride, inner, smooth) in enumerate(BLOCKS, 1):
        name, act = f"backbone.features.{n}.conv", F.hardswish if smooth else F.relu
        y, at = x, 0
        if inputs != hidden:
            y, at = act(unit(state, f"{name}.0", f"{name}.1", y)), 3
        geometry = stride, kernel // 2, hidden
        y = unit(state, f"{name}.{at}", f"{name}.{at + 1}", y, *geometry)
        if at == 0:
            y = act(y)
        if inner:
            fc = f"{name}.{3 if at == 0 else 5}.fc"
            s = F.relu(F.linear(y.mean((2, 3)), state[f"{fc}.0.weight"], state[f"{fc}.0.bias"]))
            s = F.linear(s, state[f"{fc}.2.weight"], state[f"{fc}.2.bias"])
            y = y * F.relu6(s + 3)[:, :, None, None] / 6
        if at:
            y = act(y)
        last = 4 if at == 0 else 7
        y = unit(state, f"{name}.{last}", f"{name}.{last + 1}", y)
        x = x + y if stride == 1 and inputs == outputs else y
    return x


def branch_of(state, z, x, branch, tower, answer):
    def side(kind, part, of):
        name = f"ban_head.corr_{kind}_{branch}.{part}"
        return unit(state, f"{name}.0", f"{name}.1", of)

    kernels, search = side("pw", "conv_kernel", z)[0], side("pw", "conv_search", x)[0]
    pixels = torch.einsum("cij,cyx->ijyx", kernels, search).reshape(1, 64, *x.shape[2:])
    maps = f"ban_head.corr_pw_{branch}"

    def plain(name, of):
        return F.conv2d(of, state[f"{name}.weight"], state[f"{name}.bias"])

    weight = F.relu(plain(f"{maps}.CA_layer.fc1", pixels.mean((2, 3), keepdim=True)))
    pixels = pixels * torch.sigmoid(plain(f"{maps}.CA_layer.fc2", weight))
    pixels = F.relu6(unit(state, f"{maps}.conv.0", f"{maps}.conv.1", pixels, groups=64))
    pixels = unit(state, f"{maps}.conv.3", f"{maps}.conv.4", pixels)
    kernels = side("dw", "conv_kernel", z[:, :, 2:6, 2:6]).transpose(0, 1)
    channels = F.conv2d(side("dw", "conv_search", x), kernels, padding=1, groups=96)
    y = plain(f"ban_head.down_{branch}.0", torch.cat([pixels, channels], 1))
    for n in range(0, 30, 5):
        name = f"ban_head.{tower}"
        y = F.relu6(unit(state, f"{name}.{n}", f"{name}.{n + 1}", y, 1, 1, 96))
        y = unit(state, f"{name}.{n + 3}", f"{name}.{n + 4}", y)
    return plain(f"ban_head.{answer}.0", y)[0]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_imported_answers_like_the_original(suffix, tmp_path):
    state, file = checkpoint(), tmp_path / f"public{suffix}"
    if suffix == ".pth":
        torch.save(state, file)
    else:
        save_file({k: v.contiguous() for k, v in state.items()}, file)
    path = import_weights(file, "nanotrack", "nano", tmp_path / "out", "nanotrack")
    network, card = load_model(path)
    assert card.parameters == PARAMETERS and card.backbone == "mobilenet_v3"
    assert card.training["imported"]["project"] == "HonglinChu/NanoTrack"
    assert card.tracker.window == 0.455 and card.head.kind == "ban"

    # 15 cells of 16 pixels about the centre, as published; ours are the inner nine, and eight
    # between them
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 255, 255) * 255
    with torch.no_grad():
        found = network(z, x)
        embedded = features(state, z), features(state, x)
        classes = branch_of(state, *embedded, "cls", "cls_tower", "cls_logits")
        left, top, right, bottom = branch_of(
            state, *embedded, "reg", "bbox_tower", "bbox_pred"
        ).exp()
    assert classes.shape == (2, 15, 15) and found.shape == (1, 5, 1, 17, 17)
    places = (torch.arange(15) - 7) * 16 + 127.5
    boxes = torch.stack([places - left, places[:, None] - top, left + right, top + bottom])
    inner = slice(3, 12)
    shown = decode(found[:, 1:], exemplar_anchors(torch.tensor([[64.0, 64.0]]), anchor_boxes(255)))
    logits = (classes[1] - classes[0])[inner, inner]
    assert float(logits.std()) > 0.1 and float((left + right).std()) > 1
    assert found[0, 0, 0, ::2, ::2].numpy() == pytest.approx(logits.numpy(), abs=1e-3)
    wanted = boxes[:, inner, inner].numpy()
    assert shown[0, :, 0, ::2, ::2].numpy() == pytest.approx(wanted, abs=1e-2)
    between = (found[0, :, 0, :-2:2] + found[0, :, 0, 2::2]) / 2
    assert found[0, :, 0, 1::2].numpy() == pytest.approx(between.numpy(), abs=1e-4)


def tracker_path(folder):
    return folder / "out" / "nanotrackv3.safetensors"


def test_no_answer_can_overflow():
    torch.manual_seed(0)
    head = BanHead(4, 4).eval()
    z, x = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 16, 16)
    # before it has learnt: boxes of about the square's size
    with torch.no_grad():
        fresh = head.respond(z, x)[:, 1:]
    assert fresh.abs().max() < 1
    for bias in (-110.0, 90.0):
        with torch.no_grad():
            head.box.answer.bias.fill_(bias)
        found = head.respond(z, x)
        assert found.isfinite().all()
        head.zero_grad()
        found.sum().backward()
        assert all(p.grad.isfinite().all() for p in head.parameters())


def test_a_folded_network_answers_as_the_whole(tmp_path):
    torch.save(checkpoint(), tmp_path / "public.pth")
    path = import_weights(tmp_path / "public.pth", "nanotrack", "nano", tmp_path / "out")
    rng = np.random.default_rng(1)
    z, x = (
        rng.integers(0, 256, (127, 127, 3), np.uint8),
        rng.integers(0, 256, (255, 255, 3), np.uint8),
    )
    with torch.no_grad():
        pair = (torch.from_numpy(one).permute(2, 0, 1)[None].float() for one in (z, x))
        expected = load_model(path)[0](*pair)[0].numpy()
    backend = TorchBackend(load_model(path)[0], "cpu", "float32")
    found = backend.respond(backend.embed_exemplar(z), x[None])[0]
    assert found.shape == expected.shape and expected.std() > 0.1
    assert found == pytest.approx(expected, abs=1e-3)


def test_an_imported_network_tracks_by_its_card_alone(tmp_path, capsys):
    torch.save(checkpoint(), tmp_path / "nanotrackv3.pth")
    call = ["import-weights", "--family", "nanotrack", "--output", str(tmp_path / "out")]
    assert main([*call, str(tmp_path / "nanotrackv3.pth"), "--tracker", "nanotrack"]) == 0
    assert f"{PARAMETERS:,} parameters" in capsys.readouterr().out
    tracker = load_tracker(tracker_path(tmp_path), "cpu", "float32")
    image = np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8)
    tracker.init(image, (60, 40, 30, 20))
    # whatever random weights answer, the box is that of the cell that they prefer
    card, before = tracker.card, Box(60, 40, 30, 20)
    pixel = exemplar_side(30, 20) / 127
    square = before.cx, before.cy, pixel * card.tracker.search_size
    crop = crop_square(image, square[:2], square[2], card.tracker.search_size, mean_colour(image))
    backend = TorchBackend(load_model(tracker_path(tmp_path))[0], "cpu", "float32")
    zoom = crop_square(image, square[:2], pixel * 127, 127, mean_colour(image))
    answer = backend.respond(backend.embed_exemplar(zoom), crop[None])[0]
    chosen = select_box(answer, (30 / pixel, 20 / pixel), card.tracker, (64.0, 64.0))
    found = tracker.update(image)
    assert found.value == pytest.approx(chosen.value, abs=1e-3)
    assert found.box.w == pytest.approx(max(chosen.w * pixel, 4), rel=1e-3)
    assert found.box.cx == pytest.approx(min(max(before.cx + chosen.dx * pixel, 0), 160), abs=0.1)


def test_a_file_that_does_not_fit_says_what_is_wrong(tmp_path):
    state = checkpoint()
    state["stray.weight"] = torch.zeros(2)
    del state["ban_head.cls_tower.5.weight"]
    state["backbone.features.5.conv.5.fc.0.bias"] = torch.zeros(63)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ModelFileError) as caught:
        import_weights(tmp_path / "odd.pth", "nanotrack", "odd", tmp_path / "out")
    said = str(caught.value)
    assert "missing ban_head.cls_tower.5.weight (96, 1, 3, 3)" in said
    assert "extra stray.weight (2,)" in said
    assert "backbone.features.5.conv.5.fc.0.bias is (63,)" in said and "(64,)" in said
    # V2 ends a block earlier
    older = {k: v for k, v in checkpoint().items() if not k.startswith("backbone.features.9")}
    torch.save(older, tmp_path / "v2.pth")
    with pytest.raises(ModelFileError, match=r"backbone\.features\.9\.conv\.7\.weight"):
        import_weights(tmp_path / "v2.pth", "nanotrack", "odd", tmp_path / "out")
    (tmp_path / "cut.safetensors").write_bytes(b"12345")
    with pytest.raises(ModelFileError, match="not a safetensors file"):
        import_weights(tmp_path / "cut.safetensors", "nanotrack", "odd", tmp_path / "out")
    assert not (tmp_path / "out").exists()
