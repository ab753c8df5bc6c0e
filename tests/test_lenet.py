"""Claims about LeNet-5: what it is blind to, and that dense means the same as patches."""

import numpy as np
import pytest

keras = pytest.importorskip("keras")
lenet = pytest.importorskip("tomoglean.networks.lenet")
patchwise = pytest.importorskip("tomoglean.networks.patchwise")


@pytest.fixture(
    scope="module", params=[*((name, 1) for name in lenet.NAMES), ("lenet5_modified", 3)]
)
def model(request):
    name, channels = request.param
    keras.utils.set_random_seed(3)
    model = lenet.build(name, channels=channels)
    random = np.random.default_rng(3)
    for weight in model.weights:  # biases start at zero and would prove nothing
        noise = 0.05 * random.normal(size=weight.shape)
        weight.assign(weight.numpy() + noise.astype(np.float32))
    return model


@pytest.fixture(scope="module")
def modified():
    keras.utils.set_random_seed(4)
    return lenet.build("lenet5_modified")


def slice_of(height, width, channels=1, seed=0):
    image = np.random.default_rng(seed).normal(size=(height, width, channels))
    return (image + np.linspace(-2, 2, width)[:, None]).astype(np.float32)


def channels_of(model):
    return model.input_shape[3]


def everywhere(image):
    rows, columns = np.indices(np.subtract(image.shape[:2], 49))
    return np.column_stack([rows.ravel(), columns.ravel()]).astype(np.int32)


def densely(model, image, positions):
    scales = patchwise.scales(image, positions, 50)
    inputs = [image[None], positions, scales]
    return keras.ops.convert_to_numpy(lenet.dense(model)(inputs))


def one_by_one(model, image, positions):
    patches = np.stack([image[y : y + 50, x : x + 50] for y, x in positions])
    return keras.ops.convert_to_numpy(model(patches))[:, 1]


@pytest.mark.parametrize(("height", "width"), [(50, 50), (57, 63), (64, 53)])
def test_dense_equals_patch_by_patch_at_every_offset(model, height, width):
    image = slice_of(height, width, channels_of(model))
    positions = everywhere(image)
    naive = one_by_one(model, image, positions)
    assert positions.shape[0] == 1 or np.ptp(naive) > 1e-3  # the test can fail
    np.testing.assert_allclose(densely(model, image, positions), naive, rtol=0, atol=1e-5)


def test_dense_takes_positions_in_any_order_and_twice(model):
    image = slice_of(61, 57, channels_of(model))
    positions = np.array([[11, 7], [0, 0], [11, 7], [3, 1]], np.int32)
    np.testing.assert_allclose(
        densely(model, image, positions),
        one_by_one(model, image, positions),
        rtol=0,
        atol=1e-5,
    )


def test_no_positions_give_no_probabilities(model):
    none = np.empty((0, 2), np.int32)
    assert densely(model, slice_of(55, 51, channels_of(model)), none).shape == (0,)


def test_rows_48_and_49_are_dead_and_row_47_is_not(model):
    patch = slice_of(50, 50, channels_of(model))
    changed = [patch.copy() for _ in range(4)]
    changed[0][0] += 30 * patch[1]
    changed[1][47] += 30 * patch[1]
    # Same mean and variance, so that only the field of view is asked.
    changed[2][48:] = changed[2][48:, ::-1]
    changed[3][:, 48:] = changed[3][::-1, 48:]
    before = one_by_one(model, patch, [(0, 0)])
    first, last, rows, columns = (
        np.abs(one_by_one(model, other, [(0, 0)]) - before)[0] for other in changed
    )
    assert first > 1e-4
    assert last > 1e-4
    assert rows < 1e-6
    assert columns < 1e-6


def test_a_network_has_two_outputs_that_sum_to_one(model):
    shape = (7, *model.input_shape[1:])
    patches = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    answers = keras.ops.convert_to_numpy(model(patches))
    assert answers.shape == (7, 2)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_the_modified_net_sees_neither_brightness_nor_contrast(modified):
    image = 5 * slice_of(50, 50)  # far above the variance floor
    plain = one_by_one(modified, image, [(0, 0)])
    other = one_by_one(modified, 3 * image + 7, [(0, 0)])
    np.testing.assert_allclose(plain, other, atol=1e-4)


def test_a_constant_slice_gives_finite_answers(model):
    flat = np.zeros((60, 60, channels_of(model)), np.float32)
    assert np.isfinite(densely(model, flat, everywhere(flat))).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_scales_are_those_of_the_normalisation_layer(channels):
    image = slice_of(58, 55, channels)
    positions = everywhere(image)
    patches = np.stack([image[y : y + 50, x : x + 50] for y, x in positions])
    normal = keras.ops.convert_to_numpy(lenet.PatchNormalisation()(patches))
    scales = patchwise.scales(image, positions, 50)
    np.testing.assert_allclose(
        normal.std(axis=(1, 2, 3)), scales * patches.std((1, 2, 3)), rtol=1e-5
    )
    np.testing.assert_allclose(scales, (patches.var((1, 2, 3)) + 1e-4) ** -0.5, rtol=1e-5)


def test_hidden_layers_of_the_modified_net_have_no_bias(modified):
    biased = [layer.name for layer in modified.layers if getattr(layer, "use_bias", False)]
    assert biased == ["out"]


def test_zero_sum_kernels_stay_so_through_training(modified):
    random = np.random.default_rng(5)
    patches = random.normal(size=(8, 50, 50, 1)).astype(np.float32)
    modified.compile(optimizer="sgd", loss="sparse_categorical_crossentropy")
    modified.train_on_batch(patches, random.integers(0, 2, 8))
    flat = np.full((1, 9, 9, 1), 4.0, np.float32)
    answer = keras.ops.convert_to_numpy(modified.get_layer("c1")(flat))
    np.testing.assert_allclose(answer, 0, atol=1e-5)


def test_the_connection_table_of_1998_counts_sixty():
    table = lenet.connections()[0, 0]
    assert table.sum() == 60
    assert table.sum(axis=0).tolist() == [3] * 6 + [4] * 9 + [6]
    assert table.sum(axis=1).tolist() == [10] * 6


def test_the_1998_net_ignores_what_the_table_cuts():
    model = lenet.build("lenet5")
    patches = np.random.default_rng(6).normal(size=(2, 50, 50, 1)).astype(np.float32)
    before = keras.ops.convert_to_numpy(model(patches))
    kernel = model.get_layer("c3").kernel
    kernel.assign(kernel.numpy() + 9 * (1 - lenet.connections()))
    assert np.array_equal(before, keras.ops.convert_to_numpy(model(patches)))


@pytest.mark.parametrize(("name", "patch_px"), [("lenet6", 50), ("lenet5", 15)])
def test_unknown_names_and_small_patches_are_refused(name, patch_px):
    with pytest.raises(ValueError, match=r"lenet6|16 px"):
        lenet.build(name, patch_px=patch_px)


def test_the_smallest_patch_is_built():
    assert lenet.build("lenet5", patch_px=16).output_shape == (None, 2)


def exported(dense, path):
    """Export a network of several inputs by way of its function."""
    tf = pytest.importorskip("tensorflow")
    onnx, tf2onnx = pytest.importorskip("onnx"), pytest.importorskip("tf2onnx")
    signature = [tf.TensorSpec(x.shape, x.dtype, name=x.name) for x in dense.inputs]
    function = tf.function(lambda *inputs: dense(list(inputs)), input_signature=signature)
    graph, _ = tf2onnx.convert.from_function(function, input_signature=signature, opset=17)
    onnx.save(graph, str(path))
    return pytest.importorskip("onnxruntime").InferenceSession(path)


def test_dense_survives_the_export_to_onnx(model, tmp_path):
    image = slice_of(57, 60, channels_of(model))
    positions = everywhere(image)
    session = exported(lenet.dense(model), tmp_path / "dense.onnx")
    feeds = {
        "image": image[None],
        "positions": positions,
        "scale": patchwise.scales(image, positions, 50),
    }
    known = {name: feeds[name] for name in (x.name for x in session.get_inputs())}
    np.testing.assert_allclose(
        session.run(None, known)[0], densely(model, image, positions), rtol=0, atol=1e-5
    )
