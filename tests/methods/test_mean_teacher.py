# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from torch import nn

from medssl_components.methods import MeanTeacher
from medssl_components.ops import SigmoidRampUp


@pytest.fixture
def labeled():
    image = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    return {"image": image, "label": (image > 0.5).to(torch.uint8)}


@pytest.fixture
def unlabeled():
    return {"image": torch.randn(3, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))}


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv3d(1, 4, 1), nn.BatchNorm3d(4), nn.ReLU(), nn.Dropout3d(0.5), nn.Conv3d(4, 2, 1))


def method(net=None, **options):
    options = {"consistency_weight": SigmoidRampUp(0.1), **options}
    return MeanTeacher(net or network(), DiceCELoss(to_onehot_y=True, softmax=True), **options)


def test_returns_a_scalar_loss_and_detached_parts(labeled, unlabeled):
    losses = method()(labeled, unlabeled, progress=1.0)
    assert losses["loss"].shape == () and losses["loss"].requires_grad
    parts = {name: value for name, value in losses.items() if name != "loss"}
    assert set(parts) == {"supervised_loss", "consistency_loss", "consistency_weight"}
    assert not any(value.requires_grad for value in parts.values())
    total = parts["supervised_loss"] + 0.1 * parts["consistency_loss"]
    torch.testing.assert_close(losses["loss"], total)


def test_consistency_alone_teaches_the_student_on_unlabelled_volumes_and_not_the_teacher(labeled, unlabeled):
    net = network()
    net[1].eval(), net[3].eval()
    outputs = []

    def remember(module, inputs, output):
        if output.requires_grad:  # the teacher, a copy with the same hook, runs without gradients
            output.retain_grad()
            outputs.append(output)

    net.register_forward_hook(remember)
    mean_teacher = method(net, supervised_weight=0.0, consistency_weight=lambda progress: 1.0)
    mean_teacher(labeled, unlabeled, 0.5)["loss"].backward()
    assert len(outputs) == 1
    gradient = outputs[0].grad
    assert gradient[2:].abs().sum() > 0
    assert gradient[:2].abs().sum() == 0


def test_no_gradient_reaches_the_teacher(labeled, unlabeled):
    teacher = method()
    teacher(labeled, unlabeled, 1.0)["loss"].backward()
    assert all(parameter.grad is None for parameter in teacher.teacher.parameters())
    assert all(not parameter.requires_grad for parameter in teacher.teacher.parameters())
    assert any(parameter.grad.abs().sum() > 0 for parameter in teacher.network.parameters())


def test_consistency_equals_a_numpy_reference(labeled, unlabeled):
    student = nn.Conv3d(1, 2, 1)
    mean_teacher = method(student, noise=0.0)
    mean_teacher(labeled, unlabeled, 0.0)
    with torch.no_grad():
        mean_teacher.teacher.average.weight.fill_(0.3)
        mean_teacher.teacher.average.bias.copy_(torch.tensor([0.0, 0.4]))

    def probabilities(conv):
        weight, bias = (value.detach().numpy().reshape(2) for value in (conv.weight, conv.bias))
        logits = unlabeled["image"].numpy() * weight.reshape(1, 2, 1, 1, 1) + bias.reshape(1, 2, 1, 1, 1)
        exponential = np.exp(logits)
        return exponential / exponential.sum(1, keepdims=True)

    expected = ((probabilities(student) - probabilities(mean_teacher.teacher.average)) ** 2).mean()
    losses = mean_teacher(labeled, unlabeled, 0.0)
    assert losses["consistency_loss"].item() == pytest.approx(float(expected), rel=1e-5)


def test_teacher_after_k_steps_is_the_closed_form(labeled):
    """With decay d the warm-up gives the mean of all weights so far until step 1 / (1 - d), then the moving average."""
    student = nn.Conv3d(1, 2, 1)
    mean_teacher = method(student, ema_decay=0.6)
    mean_teacher(labeled, None, 0.0)
    expected = start = student.weight.detach().clone()
    for step in range(1, 6):
        with torch.no_grad():
            student.weight.copy_(start + step)
        mean_teacher.after_step()
        decay = min(0.6, step / (step + 1))
        expected = decay * expected + (1 - decay) * (start + step)
        torch.testing.assert_close(mean_teacher.teacher.average.weight, expected)
        if step == 1:
            mean = start + 0.5  # of start and start + 1
            torch.testing.assert_close(mean_teacher.teacher.average.weight, mean)


def test_unlabelled_volumes_need_no_label_and_a_label_changes_nothing(labeled, unlabeled):
    def loss(stream):
        torch.manual_seed(3)
        return method()(labeled, stream, 1.0)["loss"]

    with_label = {**unlabeled, "label": torch.ones(3, 1, 4, 4, 4)}
    torch.testing.assert_close(loss(unlabeled), loss(with_label), rtol=0, atol=0)


def test_without_unlabelled_volumes_only_the_labels_count(labeled):
    losses = method(supervised_weight=2.0)(labeled, None, 1.0)
    assert set(losses) == {"loss", "supervised_loss"}
    torch.testing.assert_close(losses["loss"], 2 * losses["supervised_loss"])


def test_weights_loaded_after_construction_reach_the_teacher(labeled):
    mean_teacher = method()
    with torch.no_grad():
        mean_teacher.network[0].weight.fill_(7.0)
    mean_teacher(labeled, None, 0.0)
    assert (mean_teacher.teacher.average[0].weight == 7.0).all()


def test_state_dict_keeps_a_teacher_that_has_moved(labeled):
    first = method()
    first(labeled, None, 0.0)
    with torch.no_grad():
        first.teacher.average[0].weight.fill_(5.0)
    first.after_step()
    second = method()
    second.load_state_dict(first.state_dict())
    before = second.teacher.average[0].weight.clone()
    second(labeled, None, 0.0)
    assert torch.equal(second.teacher.average[0].weight, before)
    assert int(second.teacher.steps) == 1


def test_the_joint_batch_makes_the_batch_statistics(labeled, unlabeled):
    mean_teacher = method()
    mean_teacher(labeled, unlabeled, 0.0)
    joint = mean_teacher.network[0](torch.cat([labeled["image"], unlabeled["image"]])).mean((0, 2, 3, 4))
    torch.testing.assert_close(mean_teacher.network[1].running_mean, 0.1 * joint)
