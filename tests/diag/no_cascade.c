#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = conv2d(dt_image(), 16, 99); // expect-error: conv2d: a window of 99x99 does not fit
    Tensor y = conv2d(x, dt_channels(x) * 2, 3);
    Tensor z = conv2d(dt_image(), dt_channels(y), 3);
    dt_scope_of(y, "deep")
        y = add(batchnorm(y), maxpool(z, dt_height(z) / 2));
    return linear(global_avgpool(dropout(y, 0.5f)), dt_classes());
}
