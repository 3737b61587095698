"""pysot's SiamRPN++ on a ResNet: published names, against a forward written out here."""

import pytest
import torch
import torch.nn.functional as F
from test_import_weights import conv, depthwise_branch, norm, normalised

from siamkd_core.cli import main
from siamkd_core.errors import ModelFileError
from siamkd_core.import_weights import import_weights
from siamkd_core.modelfile import load_model

BLOCKS = (3, 4, 6, 3)
STEM, STAGES, NECK = 6, (2, 3, 4, 5), 4
WIDTHS = (STEM, *STAGES, NECK)


def checkpoint():
    torch.manual_seed(3)
    state = {}

    def pair(convolution, batch_norm, inputs, outputs, kernel):
        conv(state, convolution, inputs, outputs, kernel, bias=False)
        norm(state, batch_norm, outputs)
        # features of a size that does not grow with the blocks
        state[f"{batch_norm}.running_var"] = torch.rand(outputs) + 0.5

    pair("backbone.conv1", "backbone.bn1", 3, STEM, 7)
    state["backbone.bn1.running_var"] *= 1e4
    inputs = STEM
    for n, (width, count) in enumerate(zip(STAGES, BLOCKS, strict=True), 1):
        for b in range(count):
            name, outputs = f"backbone.layer{n}.{b}", 4 * width
            pair(f"{name}.conv1", f"{name}.bn1", inputs, width, 1)
            pair(f"{name}.conv2", f"{name}.bn2", width, width, 3)
            pair(f"{name}.conv3", f"{name}.bn3", width, outputs, 1)
            state[f"{name}.bn3.weight"] *= 0.3
            if b == 0:
                kernel = 1 if n == 1 else 3
                pair(f"{name}.downsample.0", f"{name}.downsample.1", inputs, outputs, kernel)
            inputs = outputs
        if n > 1:
            name = f"neck.downsample{n}.downsample"
            pair(f"{name}.0", f"{name}.1", inputs, NECK, 1)
            for branch, answers in (("cls", 10), ("loc", 20)):
                head = f"rpn_head.rpn{n}.{branch}"
                for part in ("conv_kernel", "conv_search"):
                    pair(f"{head}.{part}.0", f"{head}.{part}.1", NECK, NECK, 3)
                pair(f"{head}.head.0", f"{head}.head.1", NECK, NECK, 1)
                conv(state, f"{head}.head.3", NECK, answers, 1)
    state["rpn_head.cls_weight"] = torch.tensor([0.3, 1.2, -0.4])
    state["rpn_head.loc_weight"] = torch.tensor([-0.2, 0.1, 0.9])
    return state


def unit(state, convolution, batch_norm, x, stride=1, padding=0, dilation=1):
    x = F.conv2d(x, state[f"{convolution}.weight"], None, stride, padding, dilation)
    return normalised(state, batch_norm, x, 1e-5)


def features(state, x):
    """Adjusted features of layers 2, 3 and 4: stride, padding and dilation of each block as pysot
    has them."""
    x = F.relu(unit(state, "backbone.conv1", "backbone.bn1", x, 2))
    x = F.max_pool2d(x, 3, 2, 1)
    levels = []
    for n, count in enumerate(BLOCKS, 1):
        for b in range(count):
            # (stride, padding, dilation)
            geometry = {
                1: (1, 1, 1),
                2: (2, 0, 1) if b == 0 else (1, 1, 1),
                3: (1, 1, 1) if b == 0 else (1, 2, 2),
                4: (1, 2, 2) if b == 0 else (1, 4, 4),
            }[n]
            name = f"backbone.layer{n}.{b}"
            y = F.relu(unit(state, f"{name}.conv1", f"{name}.bn1", x))
            y = F.relu(unit(state, f"{name}.conv2", f"{name}.bn2", y, *geometry))
            y = unit(state, f"{name}.conv3", f"{name}.bn3", y)
            if b == 0:
                shortcut = (1, 0, 1) if n == 1 else geometry
                x = unit(state, f"{name}.downsample.0", f"{name}.downsample.1", x, *shortcut)
            x = F.relu(x + y)
        if n > 1:
            name = f"neck.downsample{n}.downsample"
            levels.append(unit(state, f"{name}.0", f"{name}.1", x))
    return levels


def published(state, z, x):
    """(10, R, R) classes and (20, R, R) deltas: the exemplar's features are cut to 7x7."""
    small = [level[..., 4:11, 4:11] for level in features(state, z)]
    answers = []
    for branch in ("cls", "loc"):
        weights = torch.softmax(state[f"rpn_head.{branch}_weight"], 0)
        parts = [
            depthwise_branch(state, f"rpn_head.rpn{n}.{branch}", kernel, search)
            for n, (kernel, search) in enumerate(zip(small, features(state, x), strict=True), 2)
        ]
        answers.append(sum(w * part for w, part in zip(weights, parts, strict=True)))
    return answers


def test_what_is_imported_answers_like_the_inner_cells_of_the_original(tmp_path):
    state = checkpoint()
    torch.save(state, tmp_path / "r50.pth")
    path = import_weights(tmp_path / "r50.pth", "pysot", "mine", tmp_path / "out", "pysot-r50")
    network, card = load_model(path)
    assert (card.backbone, card.widths) == ("resnet50", WIDTHS)
    assert (card.head.kind, card.head.width) == ("depthwise", NECK)
    assert card.tracker.size_rate == 0.38
    learnt = ("weight", "bias", "cls_weight", "loc_weight")
    assert card.parameters == sum(
        value.numel() for key, value in state.items() if key.rsplit(".", 1)[1] in learnt
    )
    z, x = torch.rand(1, 3, 127, 127) * 255, torch.rand(1, 3, 191, 191) * 255
    with torch.no_grad():
        found = network(z, x)[0]
        classes, deltas = published(state, z, x)
    assert classes.shape == (10, 17, 17) and found.shape == (5, 5, 9, 9)
    classes, deltas = classes[:, 4:13, 4:13], deltas[:, 4:13, 4:13]
    expected = torch.cat([(classes[5:] - classes[:5])[None], deltas.reshape(4, 5, 9, 9)])
    assert float(expected.std()) > 1e-2
    near = 1e-4 * float(expected.abs().max())
    assert found.numpy() == pytest.approx(expected.numpy(), abs=near)


def test_a_checkpoint_that_does_not_fit_says_what_in_its_own_names(tmp_path, capsys):
    state = checkpoint()
    del state["backbone.layer3.2.bn2.bias"]
    state["rpn_head.rpn3.loc.head.0.weight"] = torch.zeros(4, 5, 1, 1)
    state["backbone.layer4.3.conv1.weight"] = torch.zeros(5, 20, 1, 1)
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ModelFileError) as caught:
        import_weights(tmp_path / "odd.pth", "pysot", "odd", tmp_path)
    for text in (
        "missing backbone.layer3.2.bn2.bias (4,)",
        "rpn_head.rpn3.loc.head.0.weight is (4, 5, 1, 1)",
        "extra backbone.layer4.3.conv1.weight",
    ):
        assert text in str(caught.value)
    del state["neck.downsample2.downsample.0.weight"]
    torch.save(state, tmp_path / "odd.pth")
    call = ["import-weights", "--family", "pysot", "--output", str(tmp_path)]
    assert main([*call, str(tmp_path / "odd.pth")]) == 2
    assert "misshapen neck.downsample2.downsample.0.weight" in capsys.readouterr().err
