#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    Tensor x = relu(conv2d(dt_image(), 16, 3, .name = "a.b")); // expect-error: conv2d: the name "a.b" must be letters, digits, '_' and '-'
    return linear(global_avgpool(x), dt_classes());
}
