"""Public checkpoints: state dicts with the published names, against a forward written out here."""

import json
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from siamkd_core.cli import import_weights as verb
from siamkd_core.cli import main
from siamkd_core.errors import ModelFileError
from siamkd_core.import_layouts import LAYOUTS
from siamkd_core.import_weights import PROJECTS, TRACKERS, import_weights
from siamkd_core.modelfile import load_model

WIDTHS = (4, 6, 8, 8, 4)
KERNELS = (11, 5, 3, 3, 3)
FLAT = (("0", "1"), ("4", "5"), ("8", "9"), ("11", "12"), ("14", "15"))
F_OUT = 4  # channels of the head


def conv(state, name, inputs, outputs, kernel, bias=True, groups=1):
    fan = inputs // groups * kernel * kernel
    state[f"{name}.weight"] = torch.randn(outputs, inputs // groups, kernel, kernel) / fan**0.5
    if bias:
        state[f"{name}.bias"] = torch.randn(outputs) * 0.1


def norm(state, name, channels):
    state[f"{name}.weight"] = torch.rand(channels) + 0.5
    state[f"{name}.bias"] = torch.randn(channels) * 0.1
    state[f"{name}.running_mean"] = torch.randn(channels) * 0.1
    # small enough for the epsilon to show
    state[f"{name}.running_var"] = torch.rand(channels) * 1e-4 + 1e-5
    state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def siamfc_pytorch():
    torch.manual_seed(0)
    state, inputs = {}, 3
    for n, (width, kernel) in enumerate(zip(WIDTHS, KERNELS, strict=True), 1):
        groups = 2 if n in (2, 4, 5) else 1
        conv(state, f"backbone.conv{n}.0", inputs, width, kernel, groups=groups)
        if n < 5:
            norm(state, f"backbone.conv{n}.1", width)
        inputs = width
    return state


def rpn_backbone(state, names):
    inputs = 3
    for (c, n), width, kernel in zip(names, WIDTHS, KERNELS, strict=True):
        conv(state, c, inputs, width, kernel)
        norm(state, n, width)
        inputs = width


def up_channel(state, names):
    exemplar_cls, exemplar_loc, search_cls, search_loc, adjust = names
    conv(state, exemplar_cls, WIDTHS[-1], F_OUT * 10, 3)
    conv(state, exemplar_loc, WIDTHS[-1], F_OUT * 20, 3)
    conv(state, search_cls, WIDTHS[-1], F_OUT, 3)
    conv(state, search_loc, WIDTHS[-1], F_OUT, 3)
    conv(state, adjust, 20, 20, 1)


DASIAMRPN = ("conv_cls1", "conv_r1", "conv_cls2", "conv_r2", "regress_adjust")
UP_PYSOT = tuple(
    f"rpn_head.{name}"
    for name in (
        "template_cls_conv",
        "template_loc_conv",
        "search_cls_conv",
        "search_loc_conv",
        "loc_adjust",
    )
)


def dasiamrpn():
    torch.manual_seed(1)
    state = {}
    rpn_backbone(state, [(f"featureExtract.{c}", f"featureExtract.{n}") for c, n in FLAT])
    up_channel(state, DASIAMRPN)
    return state


def pysot(flat, depthwise):
    torch.manual_seed(2)
    state = {}
    nested = [(f"backbone.layer{n}.0", f"backbone.layer{n}.1") for n in range(1, 6)]
    features = [(f"backbone.features.{c}", f"backbone.features.{n}") for c, n in FLAT]
    rpn_backbone(state, features if flat else nested)
    if not depthwise:
        up_channel(state, UP_PYSOT)
        return state
    for branch, outputs in (("cls", 10), ("loc", 20)):
        for part in ("conv_kernel", "conv_search"):
            conv(state, f"rpn_head.{branch}.{part}.0", WIDTHS[-1], F_OUT, 3, bias=False)
            norm(state, f"rpn_head.{branch}.{part}.1", F_OUT)
        conv(state, f"rpn_head.{branch}.head.0", F_OUT, F_OUT, 1, bias=False)
        norm(state, f"rpn_head.{branch}.head.1", F_OUT)
        conv(state, f"rpn_head.{branch}.head.3", F_OUT, outputs, 1)
    return state


def normalised(state, name, x, eps):
    mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
    x = (x - mean[:, None, None]) / (var[:, None, None] + eps).sqrt()
    return x * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def convolved(state, name, x, stride=1, groups=1):
    bias = state.get(f"{name}.bias")
    return F.conv2d(x, state[f"{name}.weight"], bias, stride, groups=groups)


def siamfc_features(state, x):
    for n in range(1, 6):
        groups = 2 if n in (2, 4, 5) else 1
        x = convolved(state, f"backbone.conv{n}.0", x, 2 if n == 1 else 1, groups)
        if n < 5:
            x = F.relu(normalised(state, f"backbone.conv{n}.1", x, 1e-6))
        if n < 3:
            x = F.max_pool2d(x, 3, 2)
    return x


def rpn_features(state, x):
    """Convolution, BatchNorm, pooling, ReLU: the published order."""
    if "backbone.layer1.0.weight" in state:
        names = [(f"backbone.layer{n}.0", f"backbone.layer{n}.1") for n in range(1, 6)]
    else:
        prefix = "featureExtract" if "featureExtract.0.weight" in state else "backbone.features"
        names = [(f"{prefix}.{c}", f"{prefix}.{n}") for c, n in FLAT]
    for place, (c, n) in enumerate(names):
        x = normalised(state, n, convolved(state, c, x, 2 if place == 0 else 1), 1e-5)
        if place < 2:
            x = F.max_pool2d(x, 3, 2)
        if place < 4:
            x = F.relu(x)
    return x


def published_rpn(state, z, x):
    """(10, R, R) classes and (20, R, R) deltas of one pair."""
    z, x = rpn_features(state, z), rpn_features(state, x)
    if "rpn_head.cls.head.0.weight" in state:
        return tuple(depthwise_branch(state, f"rpn_head.{b}", z, x) for b in ("cls", "loc"))
    names = DASIAMRPN if "conv_r1.weight" in state else UP_PYSOT
    outs = []
    for exemplar, search in ((names[0], names[2]), (names[1], names[3])):
        kernels = convolved(state, exemplar, z)[0].reshape(-1, F_OUT, 4, 4)
        outs.append(F.conv2d(convolved(state, search, x), kernels))
    return outs[0][0], convolved(state, names[4], outs[1])[0]


def depthwise_branch(state, name, z, x):
    def side(part, value):
        value = convolved(state, f"{name}.{part}.0", value)
        return F.relu(normalised(state, f"{name}.{part}.1", value, 1e-5))

    kernel, search = side("conv_kernel", z)[0], side("conv_search", x)[0]
    response = torch.stack(
        [F.conv2d(s[None, None], k[None, None])[0, 0] for s, k in zip(search, kernel, strict=True)]
    )[None]
    value = F.relu(
        normalised(state, f"{name}.head.1", convolved(state, f"{name}.head.0", response), 1e-5)
    )
    return convolved(state, f"{name}.head.3", value)[0]


LAYOUT_CASES = {
    "siamfc": ("siamfc-pytorch", siamfc_pytorch),
    "dasiamrpn": ("dasiamrpn", dasiamrpn),
    "pysot, alexnetlegacy, depth-wise": ("pysot", lambda: pysot(True, True)),
    "pysot, alexnet, depth-wise": ("pysot", lambda: pysot(False, True)),
    "pysot, alexnet, up-channel": ("pysot", lambda: pysot(False, False)),
}


@pytest.mark.parametrize("case", LAYOUT_CASES)
def test_what_is_imported_answers_like_the_original(case, tmp_path):
    layout, make = LAYOUT_CASES[case]
    state = make()
    file = tmp_path / "public.pth"
    torch.save(state, file)
    path = import_weights(file, layout, "mine", tmp_path / "out")
    network, card = load_model(path)
    assert card.widths == WIDTHS
    assert card.parameters == sum(
        v.numel() for k, v in state.items() if k.rsplit(".", 1)[1] in ("weight", "bias")
    )
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 159, 159) * 255  # BGR
    with torch.no_grad():
        found = network(z, x)[0]
        if layout == "siamfc-pytorch":
            rgb = [image.flip(1) for image in (z, x)]
            features = [siamfc_features(state, image) for image in rgb]
            expected = 1e-3 * F.conv2d(features[1], features[0])[0]
        else:
            classes, deltas = published_rpn(state, z, x)
            shown = torch.softmax(classes.view(2, 5, 5, 5), 0)[1]
            assert torch.allclose(torch.sigmoid(found[0]), shown, atol=1e-3)
            expected = torch.cat([(classes[5:] - classes[:5])[None], deltas.view(4, 5, 5, 5)])
        near = 1e-3 * float(expected.abs().max())
    assert found.shape == expected.shape and float(expected.std()) > 1e-3
    assert found.numpy() == pytest.approx(expected.numpy(), abs=near)


def test_wrappings_of_a_checkpoint_are_taken_off(tmp_path, capsys):
    state = dasiamrpn()
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}}
    torch.save(state, tmp_path / "plain.pth")
    torch.save(wrapped, tmp_path / "wrapped.pth")
    call = ["import-weights", "--family", "dasiamrpn", "--output", str(tmp_path / "out")]
    assert main([*call, str(tmp_path / "plain.pth")]) == 0
    assert main([*call, str(tmp_path / "wrapped.pth"), "--name", "w", "--tracker", "big"]) == 0
    (plain, _), (other, card) = (
        load_model(tmp_path / "out" / f"{n}.safetensors") for n in ("plain", "w")
    )
    for name, value in plain.state_dict().items():
        assert torch.equal(value, other.state_dict()[name])
    assert card.tracker == TRACKERS["big"] and card.tracker.penalty_k == 0.055
    assert card.training["imported"]["file"] == "wrapped.pth"
    assert "siamrpn, widths 4, 6, 8, 8, 4" in capsys.readouterr().out


def test_a_file_that_does_not_fit_says_what_is_wrong(tmp_path):
    state = pysot(True, True)
    state["stray.weight"] = torch.zeros(2)
    del state["rpn_head.loc.conv_search.1.running_var"]
    state["backbone.features.8.weight"] = state["backbone.features.8.weight"][:, :3]
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ModelFileError) as caught:
        import_weights(tmp_path / "odd.pth", "pysot", "odd", tmp_path / "out")
    said = str(caught.value)
    assert "missing rpn_head.loc.conv_search.1.running_var (4,)" in said
    assert "extra stray.weight (2,)" in said
    assert "backbone.features.8.weight is (8, 3, 3, 3)" in said and "(8, 6, 3, 3)" in said
    assert not (tmp_path / "out").exists()
    del state["backbone.features.11.weight"]
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ModelFileError, match=r"backbone\.features\.11\.weight"):
        import_weights(tmp_path / "odd.pth", "pysot", "odd", tmp_path / "out")


def test_another_layout_or_no_checkpoint_says_so(tmp_path, capsys):
    torch.save(dasiamrpn(), tmp_path / "da.pth")
    with pytest.raises(ModelFileError, match=r"not of the layout pysot.*featureExtract"):
        import_weights(tmp_path / "da.pth", "pysot", "x", tmp_path)
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelFileError, match="no state dict"):
        import_weights(tmp_path / "list.pth", "pysot", "x", tmp_path)
    (tmp_path / "text.pth").write_text("hello")
    with pytest.raises(ModelFileError, match="tensors alone"):
        import_weights(tmp_path / "text.pth", "pysot", "x", tmp_path)
    call = ["import-weights", "--family", "pysot", "--output", str(tmp_path)]
    assert main([*call, str(tmp_path / "none.pth")]) == 2
    assert "none.pth" in capsys.readouterr().err


class Harmful:
    def __reduce__(self):
        return (print, ("executed",))


def test_nothing_in_a_file_is_executed(tmp_path, capsys):
    (tmp_path / "bad.pth").write_bytes(pickle.dumps(Harmful(), 2))
    torch.save({"state_dict": Harmful()}, tmp_path / "worse.pth")
    for name in ("bad", "worse"):
        with pytest.raises(ModelFileError, match="tensors alone"):
            import_weights(tmp_path / f"{name}.pth", "pysot", "x", tmp_path)
    assert "executed" not in capsys.readouterr().out


def test_the_command_offers_what_the_library_has():
    assert tuple(PROJECTS) == verb.LAYOUTS == (*LAYOUTS, "nanotrack")
    assert tuple(TRACKERS) == verb.TRACKERS


def test_the_cards_tracker_parameters_are_those_of_the_family(tmp_path):
    torch.save(siamfc_pytorch(), tmp_path / "fc.pth")
    path = import_weights(tmp_path / "fc.pth", "siamfc-pytorch", "fc", tmp_path)
    tracker = json.loads(path.with_suffix(".json").read_text())["tracker"]
    assert tracker["scale_step"] == 1.0375 and np.isclose(tracker["window"], 0.176)
