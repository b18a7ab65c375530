#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = dt_image();
    for (int i = 0; i < 2; i++)
        dt_scope("s0")
            x = conv2d(x, 8, 3, .name = "c"); // expect-error: conv2d: the name "s0.c" is taken
    return linear(global_avgpool(x), dt_classes());
    // expect-help: dt_scope("b%d", i)
}
