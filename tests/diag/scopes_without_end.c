#include "frontend/detent.h"

static Tensor nest(Tensor x, int depth)
{
    dt_scope_of(x, "d%d", depth) // expect-error: dt_scope: more than 64 scopes are open
        x = depth < 1000 ? nest(relu(x), depth + 1) : x;
    return x;
}

dt_model(net, "a mistake", .image = { 3, 16, 16 }, .classes = 10)
{
    return linear(global_avgpool(nest(dt_image(), 0)), dt_classes());
    // expect-help: check that the recursion ends
}
