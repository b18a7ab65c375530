/* my_net.c: a network of one's own, in the three ways in which Detent takes one.
 *
 *     detent train examples/my_net.c --data data/mnist-small      compiled and loaded; main() is not called
 *     build/release/examples/my_net train --data data/mnist-small the same as a program that links Detent
 *
 * To have it built in, `detent train my_net`, move it to models/ and add a row to models/models.c.
 *
 * Tested by tests/unit/test_cli.c. */
#include "frontend/detent.h"

/* Two convolutions, the second of which halves the image, with a shortcut around them. */
static Tensor block(Tensor x, int channels)
{
    Tensor y = relu(batchnorm(conv2d(x, channels, 3, .pad = 1, .no_bias = true)));
    y = batchnorm(conv2d(y, channels, 3, .stride = 2, .pad = 1, .no_bias = true));
    return relu(add(y, shortcut_a(x, channels, .stride = 2)));
}

dt_model(my_net, "two residual blocks for digits of 28x28", .image = { 1, 28, 28 }, .classes = 10, .mean = { 0.1307f },
         .std = { 0.3081f }, .training = { "mnist", .batch = 64, .epochs = 3, .lr = 0.1f, .weight_decay = 1e-4f })
{
    Tensor x = relu(batchnorm(conv2d(dt_image(), 8, 3, .pad = 1, .no_bias = true)));
    for (int i = 0; i < 2; i++)
        dt_scope("b%d", i) /* layers b0.conv1, b0.bn1, ... */
            x = block(x, 16 << i);
    return linear(flatten(global_avgpool(x)), dt_classes(), .name = "head");
}

int main(int argc, char **argv)
{
    return dt_main(argc, argv, &my_net);
}
