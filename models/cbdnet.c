/* cbdnet.c: blind denoising (Guo, Yan, Zhang, Zuo, Zhang: "Toward convolutional blind denoising of real photographs",
 * 2019): one part estimates the level of noise of each pixel, the other takes the image beside that map and gives what
 * is to be added to it.
 *
 *   cbdnet            as the paper's figure and the PyTorch code that is used most have it: 4,365,382 params, 37.06 G
 *                     multiplications at 256x256
 *   cbdnet_released   as the authors' released weights are: 6,793,478 params; for images of a multiple of 4
 *
 * Loss: mean squared error; 0.05 times the total variation of the map; where the data knows the noise, 0.5 times the
 * asymmetric error of the map, which weighs an estimate that is too low 0.7 and one that is too high 0.3. Skips are
 * sums. Any size of image will do: a row or column that pooling dropped comes back as zeros. PyTorch's start: the
 * result is nearly the image then.
 *
 * Tested by tests/unit/test_networks.c (params, shapes, odd sizes) and test_parity_nets.c (PyTorch's numbers). */
#include "frontend/detent.h"

static Tensor conv(Tensor x, int channels)
{
    return relu(conv2d(x, channels, 3, .pad = 1, .torch_init = true));
}

static Tensor convs(Tensor x, int n, int channels)
{
    for (int i = 0; i < n; i++)
        x = conv(x, channels);
    return x;
}

/* The map of standard deviations; its parts of the loss. */
static Tensor noise_level(Tensor y)
{
    Tensor sigma = y;
    dt_scope_of(y, "noise") {
        sigma = conv(convs(y, 4, 32), dt_channels(y));
        loss_tv(sigma, 0.05f);
        loss_asymmetric(sigma, 0.5f);
    }
    return sigma;
}

/* Twice as high and wide, as `skip` is, and added to it. */
static Tensor up(Tensor x, Tensor skip, bool no_bias)
{
    x = conv_transpose2d(x, dt_channels(skip), 2, .no_bias = no_bias, .torch_init = true, .name = "up");
    const int h = dt_height(skip) - dt_height(x), w = dt_width(skip) - dt_width(x);
    return add(pad_image(x, { h / 2, w / 2, h - h / 2, w - w / 2 }), skip);
}

#define DENOISING                                                                                                      \
    .image = { 3, 128, 128 }, .loss = DT_MSE,                                                                          \
    .training = { "pairs", .batch = 32, .epochs = 200, .lr = 2e-4f, .optimizer = "adam" }

dt_model(cbdnet, "CBDNet for real photographs", DENOISING)
{
    Tensor y = dt_image(), x = concat(y, noise_level(y)), a = x, b = x;
    dt_scope("enc0")
        a = convs(x, 2, 64);
    dt_scope("enc1")
        b = convs(avgpool(a, 2), 3, 128);
    dt_scope("mid")
        x = convs(avgpool(b, 2), 6, 256);
    dt_scope("dec1")
        x = convs(up(x, b, false), 3, 128);
    dt_scope("dec0")
        x = convs(up(x, a, false), 2, 64);
    return add(y, conv2d(x, dt_channels(y), 1, .torch_init = true, .name = "out"));
}

/* Half as high and wide: 2x2 to twice the channels that are wanted, then 1x1, and no activation. */
static Tensor down(Tensor x, int channels)
{
    x = conv2d(x, 2 * channels, 2, .stride = 2, .torch_init = true, .name = "down");
    return conv2d(x, channels, 1, .torch_init = true, .name = "narrow");
}

#ifndef DT_STANDALONE /* a file that is loaded is one network */
dt_model(cbdnet_released, "CBDNet as its released weights are", DENOISING)
{
    Tensor y = dt_image(), x = concat(y, noise_level(y)), a = x, b = x;
    dt_scope("enc0")
        a = convs(x, 4, 64);
    dt_scope("enc1")
        b = convs(down(a, 128), 3, 128);
    dt_scope("mid")
        x = conv(convs(down(b, 256), 6, 256), 512);
    dt_scope("dec1")
        x = conv(convs(up(x, b, true), 2, 128), 256);
    dt_scope("dec0")
        x = convs(up(x, a, true), 2, 64);
    return add(y, conv2d(x, dt_channels(y), 3, .pad = 1, .torch_init = true, .name = "out"));
}
#endif
