"""U-Net: any size in, the same size out."""

import numpy as np
import pytest

from tomoglean import networks
from tomoglean.networks import padding, unet
from tomoglean.provenance import Refused


def through(model, image, depth):
    padded = padding.pad(image, unet.multiple(depth))
    answer = model.predict_on_batch(padded[None, ..., None])[0]
    return padding.crop_back(answer, image.shape)


def test_600_px_are_padded_to_608():
    assert padding.pad_px((600, 600), 16) == ((4, 4), (4, 4))


def test_a_legal_size_is_left_alone():
    image = np.arange(64.0).reshape(8, 8)
    assert padding.pad(image, 8) is not None
    assert np.array_equal(padding.pad(image, 8), image)


def test_the_border_is_a_reflection():
    assert padding.pad(np.asarray([[1, 2, 3], [4, 5, 6]]), 4)[0].tolist() == [4, 5, 6, 5]


@pytest.mark.parametrize("shape", [(600, 600), (37, 51), (16, 7)])
def test_crop_back_undoes_pad(shape):
    image = np.random.default_rng(0).normal(size=shape)
    padded = padding.pad(image, 16)
    assert all(size % 16 == 0 for size in padded.shape)
    assert np.array_equal(padding.crop_back(padded, shape), image)


@pytest.fixture(scope="module")
def tiny():
    return networks.build("unet", classes=3, width=2, depth=3)


@pytest.mark.parametrize("shape", [(600, 600), (75, 101)])
def test_the_answer_has_the_size_of_the_image(tiny, shape):
    image = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert through(tiny, image, 3).shape == (*shape, 3)


def test_probabilities_sum_to_one(tiny):
    image = np.random.default_rng(1).normal(size=(16, 16)).astype(np.float32)
    answer = through(tiny, image, 3)
    assert answer.min() >= 0
    assert np.allclose(answer.sum(-1), 1, atol=1e-5)


def test_the_net_of_2015_at_full_size_has_31_million_parameters():
    net = networks.build("unet", classes=2, width=64, depth=5, recipe="plain")
    assert net.count_params() == pytest.approx(31.0e6, rel=0.01)


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_every_norm_builds_and_answers(norm):
    net = networks.build("unet", classes=2, width=2, depth=2, norm=norm)
    image = np.zeros((1, 8, 8, 1), np.float32)
    assert net.predict_on_batch(image).shape == (1, 8, 8, 2)


def test_neighbouring_slices_are_channels():
    net = networks.build("unet", classes=2, width=2, depth=2, channels=3, dim=2.5)
    assert net.input_shape == (None, None, None, 3)


def test_3d_is_refused_for_now():
    with pytest.raises(Refused, match="dim 3 comes later"):
        networks.build("unet", classes=2, dim=3)


def test_an_unknown_network_is_refused_by_name():
    with pytest.raises(Refused, match=r"unet, lenet5, .*found 'resnet'"):
        networks.build("resnet", classes=2)


def test_dropout_acts_in_training_only():
    net = networks.build("unet", classes=2, width=4, depth=2, dropout=0.5)
    image = np.random.default_rng(1).normal(size=(1, 8, 8, 1)).astype(np.float32)
    assert np.array_equal(net.predict_on_batch(image), net.predict_on_batch(image))
    assert not np.array_equal(net(image, training=True), net(image, training=True))
