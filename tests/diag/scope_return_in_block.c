#include "frontend/detent.h"

static Tensor block(Tensor x, int channels)
{
    dt_scope_of(x, "b%d", channels) // expect-error: dt_scope: "s0.b8" is opened here and never closed
        return conv2d(x, channels, 3);
    return x;
}

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = dt_image();
    dt_scope("s0")
        x = block(block(x, 8), 16);
    return linear(global_avgpool(x), dt_classes());
}
