#include "frontend/detent.h"

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    return linear(flatten(dt_image()), 0); // expect-error: linear: out is 0
}
