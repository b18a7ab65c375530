#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = relu(conv2d(dt_image(), 16, 3, .pad = 1)); // expect-note: x is 4x16x16x16, made here by relu
    Tensor y = conv2d(x, 16, 3, .stride = 2, .pad = 1);   // expect-note: y is 4x16x8x8, made here by conv2d
    x = add(x, y); // expect-error: add: shapes differ: x is 4x16x16x16, y is 4x16x8x8
    x = relu(batchnorm(x));
    return linear(global_avgpool(x), dt_classes());
    // expect-help: give both branches the same strides and padding
}
