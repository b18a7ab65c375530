/* unet.c: a small U-Net for restoration (Ronneberger et al.: "U-Net", 2015): two levels down and up, skips joined as
 * channels, no batch norm, the result added to the image. 517,795 params.
 *
 * Any size of image will do: where a level had an odd size, the row and the column that pooling dropped come back as
 * zeros.
 *
 * Tested by tests/unit/test_networks.c (params, shapes, odd sizes) and test_parity_nets.c (PyTorch's numbers). */
#include "frontend/detent.h"

static Tensor convs(Tensor x, const char *name, int channels)
{
    dt_scope_of(x, "%s", name)
        for (int i = 0; i < 2; i++)
            x = leaky_relu(conv2d(x, channels, 3, .pad = 1, .torch_init = true), 0.2f);
    return x;
}

/* Twice as high and wide, as `skip` is, and beside it. */
static Tensor join(Tensor x, Tensor skip, const char *name)
{
    x = conv2d(upsample(x, 2), dt_channels(skip), 3, .pad = 1, .torch_init = true, .name = name);
    x = pad_image(x, { 0, 0, dt_height(skip) - dt_height(x), dt_width(skip) - dt_width(x) });
    return concat(x, skip);
}

dt_model(unet, "a small U-Net for restoration", .image = { 3, 128, 128 }, .loss = DT_CHARBONNIER,
         .training = { "pairs", .batch = 16, .epochs = 200, .lr = 1e-3f, .weight_decay = 1e-4f, .optimizer = "adamw" })
{
    Tensor y = dt_image();
    Tensor a = convs(y, "enc0", 32);
    Tensor b = convs(maxpool(a, 2), "enc1", 64);
    Tensor x = convs(maxpool(b, 2), "mid", 128);
    x = convs(join(x, b, "up1"), "dec1", 64);
    x = convs(join(x, a, "up0"), "dec0", 32);
    return add(y, conv2d(x, dt_channels(y), 1, .torch_init = true, .name = "out"));
}
