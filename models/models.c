/* models.c: the networks that are built in, in the order in which they are listed. A new one is a file beside this one
 * and a row here (docs/networks.md lists them, too).
 *
 * Tested by tests/unit/test_networks.c. */
#include "frontend/detent.h"

#define NETWORKS(X)                                                                                                    \
    X(resnet20)                                                                                                        \
    X(mnist)                                                                                                           \
    X(resnet20_b)                                                                                                      \
    X(vgg_small)                                                                                                       \
    X(mobilenetv2)                                                                                                     \
    X(unet)                                                                                                            \
    X(cbdnet)                                                                                                          \
    X(cbdnet_released)                                                                                                 \
    X(efficientnet_b0)                                                                                                 \
    X(efficientnet_b1)                                                                                                 \
    X(efficientnet_b2)                                                                                                 \
    X(efficientnet_b3)                                                                                                 \
    X(efficientnet_b4)                                                                                                 \
    X(tf_efficientnet_b0)                                                                                              \
    X(tf_efficientnet_b1)                                                                                              \
    X(tf_efficientnet_b2)                                                                                              \
    X(tf_efficientnet_b3)                                                                                              \
    X(tf_efficientnet_b4)                                                                                              \
    X(efficientnet_lite0)                                                                                              \
    X(efficientnet_lite1)                                                                                              \
    X(efficientnet_lite2)                                                                                              \
    X(efficientnet_lite3)

#define X(name) extern const DtModel name;
NETWORKS(X)
#undef X

extern const DtModel *const frontend_models[];
extern const int32_t        frontend_n_models;

const DtModel *const        frontend_models[] = {
#define X(name) &name,
    NETWORKS(X)
#undef X
};
const int32_t frontend_n_models = sizeof(frontend_models) / sizeof(frontend_models[0]);
