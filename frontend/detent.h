/* detent.h: all that a network's source needs.
 *
 * A network is a C function: functions are blocks, `for` and `if` build the graph, optional arguments are named, zero
 * means default. Each call records its file and line; a mistake is reported once and poisons its result.
 *
 *   #include "frontend/detent.h"
 *
 *   static Tensor block(Tensor x, int channels, int stride)
 *   {
 *       Tensor y = relu(batchnorm(conv2d(x, channels, 3, .stride = stride, .pad = 1, .no_bias = true)));
 *       y = batchnorm(conv2d(y, channels, 3, .pad = 1, .no_bias = true));
 *       return relu(add(y, shortcut_a(x, channels, .stride = stride)));
 *   }
 *
 *   dt_model(my_net, "a small residual net", .image = { 3, 32, 32 }, .classes = 10)
 *   {
 *       Tensor x = dt_image();
 *       dt_scope("b%d", 0)
 *           x = block(x, 16, 1);
 *       return linear(global_avgpool(x), dt_classes(), .name = "head");
 *   }
 *
 * Three ways to use it: built in (models/), `detent train my_net.c` (compiled by the system's C compiler and loaded),
 * or a program of its own: `int main(int argc, char **argv) { return dt_main(argc, argv, &my_net); }`.
 *
 * The short names are macros; define DT_NO_SHORT_NAMES before including to have only dt_... . Keep a call on one line:
 * compilers disagree about the line of a call that spans several.
 *
 * Shapes are logical, NCHW; batch size is chosen outside. A Tensor is a handle, free to copy, valid while the network's
 * function runs. Tested by tests/unit/test_dsl.c and tests/diag. */
#ifndef DETENT_H
#define DETENT_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct DtContext DtContext;

typedef struct Tensor {
    DtContext *ctx;
    int32_t    id; /* -1: poisoned by a reported mistake */
} Tensor;

typedef struct DtAt {
    const char *file;
    int         line;
} DtAt;
#define DT_HERE ((DtAt){ __FILE__, __LINE__ })

/* ---- Models ---------------------------------------------------------------------------------------------------- */

/* Of the network's result y: against a label, or a target of y's shape. Means over samples or elements.
 *   mse (y - t)^2      l1 |y - t|      charbonnier sqrt((y - t)^2 + 1e-6) */
typedef enum DtLoss { DT_CROSS_ENTROPY, DT_MSE, DT_L1, DT_CHARBONNIER } DtLoss;

/* How the network is trained unless the command line says otherwise. Zero: sgd, 0.1 lr, momentum 0.9, no decay, batch
 * 128, 10 epochs, cosine. */
typedef struct DtTraining {
    const char *data; /* which data set: "mnist", "cifar10", "folder", "pairs", "sidd" */
    int         batch, epochs;
    float       lr, momentum, weight_decay;
    const char *schedule; /* "cosine", "constant", "step:100,150", "exp:0.97:2.4", "one-cycle" */
    bool        nesterov;
    const char *optimizer; /* "sgd", "adam", "adamw", "rmsprop", "rmsprop-tf", "adadelta" */
    float       warmup;    /* epochs */
    float       ema;       /* decay of the averaged weights that are evaluated; 0: none */
    float       label_smoothing;
    float       mixup;      /* alpha of Beta(alpha, alpha), the share of the first of two images; 0: none */
    int         eval_batch; /* 0: as for training */
} DtTraining;

typedef struct DtModel {
    const char *name, *doc;
    int         image[3]; /* channels, height, width */
    int         classes;  /* cross entropy: the width of the output; mse: 0 */
    DtLoss      loss;
    float       mean[3], std[3]; /* input normalisation; std 0: none */
    DtTraining  training;
    Tensor (*build)(DtContext *ctx);
    DtAt at;
} DtModel;

/* A file that is loaded holds one network, found by this symbol; a second one is an error of the C compiler. */
#ifdef DT_STANDALONE
#define DT_MODEL_ENTRY_(name_)                                                                                         \
    extern const DtModel *const dt_model_entry;                                                                        \
    const DtModel *const        dt_model_entry = &name_;
#else
#define DT_MODEL_ENTRY_(name_)
#endif

/* Declares `const DtModel name` and opens the function that builds it; dt_ctx is the context inside. Other functions
 * get it from the tensors they are given. */
#define dt_model(name_, doc_, ...)                                                                                     \
    static Tensor name_##_build(DtContext *dt_ctx);                                                                    \
    const DtModel name_ = {                                                                                            \
        .name = #name_, .doc = doc_, .build = name_##_build, .at = { __FILE__, __LINE__ }, __VA_ARGS__                 \
    };                                                                                                                 \
    DT_MODEL_ENTRY_(name_)                                                                                             \
    static Tensor name_##_build(DtContext *dt_ctx)

#define dt_image() dt_image_(dt_ctx, DT_HERE)
#define dt_classes() dt_classes_(dt_ctx)
Tensor dt_image_(DtContext *ctx, DtAt at);
int    dt_classes_(DtContext *ctx);
int    dt_channels(Tensor x); /* 0 when poisoned */
int    dt_height(Tensor x);
int    dt_width(Tensor x);

/* The whole command line for one network (see `detent --help`). */
int dt_main(int argc, char **argv, const DtModel *model);

/* ---- Scopes: names such as s1.b0.conv1 ------------------------------------------------------------------------- */

/* dt_scope("b%d", i) statement: the layers built inside are named "b3.conv1"... Leaving by return or break is reported.
 */
#define dt_scope(...) DT_SCOPE_(DT_CAT_(dt_scope_at_, __LINE__), dt_ctx, __VA_ARGS__)
/* The same inside a function that has a tensor but no dt_ctx. */
#define dt_scope_of(x, ...) DT_SCOPE_(DT_CAT_(dt_scope_at_, __LINE__), (x).ctx, __VA_ARGS__)
#define DT_SCOPE_(s_, ctx_, ...)                                                                                       \
    for (DtScope s_ = dt_scope_open(ctx_, DT_HERE, __VA_ARGS__); s_.open; dt_scope_close(&s_))
#define DT_CAT_(a_, b_) DT_CAT2_(a_, b_)
#define DT_CAT2_(a_, b_) a_##b_ /* a name for each line: nested scopes do not shadow */
typedef struct DtScope {
    DtContext *ctx;
    int        depth;
    bool       open;
} DtScope;
DtScope dt_scope_open(DtContext *ctx, DtAt at, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
void    dt_scope_close(DtScope *s);

/* ---- Layers. Every struct ends with the place of the call; `name` overrides "conv1", "bn2", ... ----------------- */

/* Layers are numbered in the order of their calls. C does not say which of two arguments is computed first: where both
 * hold layers with params, as in add(conv2d(...), conv2d(...)), name them or use two statements. */

/* out channels, kernel (square). stride 1 by default; pad on all sides, or pad4 { top, left, bottom, right }, or
 * .same: ceil(H / stride) rows, the padding that this needs halved, the odd one below and right (TensorFlow's SAME);
 * groups 1, as many as channels: depthwise.
 * Weights: He normal, fan in (with fan_out: fan out). Bias: zero unless no_bias (PyTorch's uniform start with
 * torch_init).
 */
typedef struct DtConv2d {
    Tensor      x;
    int         out, kernel;
    int         stride, pad, pad4[4], groups;
    bool        same, no_bias, torch_init, fan_out;
    const char *name;
    DtAt        at;
} DtConv2d;
Tensor dt_conv2d_(DtConv2d a);
#define dt_conv2d(...) dt_conv2d_((DtConv2d){ __VA_ARGS__, .at = DT_HERE })

/* x [N, I] (or [N, C, 1, 1]) -> [N, out]. Weights and bias as of conv2d; with torch_init and fan_out uniform in
 * +-1/sqrt(out) and zero (EfficientNet's last layer). */
typedef struct DtLinear {
    Tensor      x;
    int         out;
    bool        no_bias, torch_init, fan_out;
    const char *name;
    DtAt        at;
} DtLinear;
Tensor dt_linear_(DtLinear a);
#define dt_linear(...) dt_linear_((DtLinear){ __VA_ARGS__, .at = DT_HERE })

/* eps 1e-5, momentum 0.1 (PyTorch's sense: new = old + momentum (batch - old)) by default. */
typedef struct DtBatchnorm {
    Tensor      x;
    float       eps, momentum;
    const char *name;
    DtAt        at;
} DtBatchnorm;
Tensor dt_batchnorm_(DtBatchnorm a);
#define dt_batchnorm(...) dt_batchnorm_((DtBatchnorm){ __VA_ARGS__, .at = DT_HERE })

/* The transpose of a convolution with the same window: [N, C, H, W] -> [N, out, (H - 1) stride + kernel - 2 pad, ...].
 * Weights [C, out, kernel, kernel] as PyTorch's ConvTranspose2d; He normal, fan in; stride: the kernel by default. */
typedef struct DtConvTranspose2d {
    Tensor      x;
    int         out, kernel;
    int         stride, pad, pad4[4];
    bool        no_bias, torch_init;
    const char *name;
    DtAt        at;
} DtConvTranspose2d;
Tensor dt_conv_transpose2d_(DtConvTranspose2d a);
#define dt_conv_transpose2d(...) dt_conv_transpose2d_((DtConvTranspose2d){ __VA_ARGS__, .at = DT_HERE })

typedef struct DtUnary {
    Tensor      x;
    const char *name;
    DtAt        at;
} DtUnary;
Tensor dt_relu_(DtUnary a);
Tensor dt_relu6_(DtUnary a);        /* min(max(x, 0), 6) */
Tensor dt_sigmoid_(DtUnary a);      /* 1 / (1 + exp(-x)) */
Tensor dt_silu_(DtUnary a);         /* x sigmoid(x), "swish" */
Tensor dt_hard_sigmoid_(DtUnary a); /* relu6(x + 3) / 6 */
Tensor dt_hard_swish_(DtUnary a);   /* x hard_sigmoid(x) */
#define dt_relu6(...) dt_relu6_((DtUnary){ __VA_ARGS__, .at = DT_HERE })
#define dt_sigmoid(...) dt_sigmoid_((DtUnary){ __VA_ARGS__, .at = DT_HERE })
#define dt_silu(...) dt_silu_((DtUnary){ __VA_ARGS__, .at = DT_HERE })
#define dt_hard_sigmoid(...) dt_hard_sigmoid_((DtUnary){ __VA_ARGS__, .at = DT_HERE })
#define dt_hard_swish(...) dt_hard_swish_((DtUnary){ __VA_ARGS__, .at = DT_HERE })

/* x where x > 0, else slope x; slope 0.01 by default. */
typedef struct DtLeakyRelu {
    Tensor      x;
    float       slope;
    const char *name;
    DtAt        at;
} DtLeakyRelu;
Tensor dt_leaky_relu_(DtLeakyRelu a);
#define dt_leaky_relu(...) dt_leaky_relu_((DtLeakyRelu){ __VA_ARGS__, .at = DT_HERE })
Tensor dt_flatten_(DtUnary a);        /* [N, C, H, W] -> [N, C H W], c slowest */
Tensor dt_global_avgpool_(DtUnary a); /* [N, C, H, W] -> [N, C] */
#define dt_relu(...) dt_relu_((DtUnary){ __VA_ARGS__, .at = DT_HERE })
#define dt_flatten(...) dt_flatten_((DtUnary){ __VA_ARGS__, .at = DT_HERE })
#define dt_global_avgpool(...) dt_global_avgpool_((DtUnary){ __VA_ARGS__, .at = DT_HERE })

typedef struct DtBinary {
    Tensor      x, y;
    const char *name;
    DtAt        at;
} DtBinary;
Tensor dt_add_(DtBinary a);
Tensor dt_mul_(DtBinary a);    /* of one shape; or x [N, C, H, W] and a gate y [N, C] for all its pixels */
Tensor dt_concat_(DtBinary a); /* channels of x, then those of y */
#define dt_add(...) dt_add_((DtBinary){ __VA_ARGS__, .at = DT_HERE })
#define dt_mul(...) dt_mul_((DtBinary){ __VA_ARGS__, .at = DT_HERE })
#define dt_concat(...) dt_concat_((DtBinary){ __VA_ARGS__, .at = DT_HERE })

/* kernel (square); stride: the kernel by default; pad on all sides or pad4. */
typedef struct DtPool {
    Tensor      x;
    int         kernel;
    int         stride, pad, pad4[4];
    const char *name;
    DtAt        at;
} DtPool;
Tensor dt_maxpool_(DtPool a);
Tensor dt_avgpool_(DtPool a); /* over the taps inside the image */
#define dt_maxpool(...) dt_maxpool_((DtPool){ __VA_ARGS__, .at = DT_HERE })
#define dt_avgpool(...) dt_avgpool_((DtPool){ __VA_ARGS__, .at = DT_HERE })

/* factor times as high and wide: nearest neighbours, or bilinear (half-pixel centres, as PyTorch with
 * align_corners=False). */
typedef struct DtUpsample {
    Tensor      x;
    int         factor;
    bool        bilinear;
    const char *name;
    DtAt        at;
} DtUpsample;
Tensor dt_upsample_(DtUpsample a);
#define dt_upsample(...) dt_upsample_((DtUpsample){ __VA_ARGS__, .at = DT_HERE })

/* Rows and columns of zeros added on each side; negative: cut off. */
typedef struct DtPadImage {
    Tensor      x;
    int         pad4[4]; /* top, left, bottom, right */
    const char *name;
    DtAt        at;
} DtPadImage;
Tensor dt_pad_image_(DtPadImage a);
#define dt_pad_image(...) dt_pad_image_((DtPadImage){ __VA_ARGS__, .at = DT_HERE })

/* p: probability that an element is dropped while training, 0 <= p < 1. */
typedef struct DtDropout {
    Tensor      x;
    float       p;
    const char *name;
    DtAt        at;
} DtDropout;
Tensor dt_dropout_(DtDropout a);
Tensor dt_drop_connect_(DtDropout a); /* whole samples of a batch at once: stochastic depth */
#define dt_dropout(...) dt_dropout_((DtDropout){ __VA_ARGS__, .at = DT_HERE })
#define dt_drop_connect(...) dt_drop_connect_((DtDropout){ __VA_ARGS__, .at = DT_HERE })

/* x[:, :, ::stride, ::stride], zero channels added on both sides up to `channels`; x itself when nothing changes. */
typedef struct DtShortcut {
    Tensor      x;
    int         channels;
    int         stride;
    const char *name;
    DtAt        at;
} DtShortcut;
Tensor dt_shortcut_a_(DtShortcut a);
#define dt_shortcut_a(...) dt_shortcut_a_((DtShortcut){ __VA_ARGS__, .at = DT_HERE })

/* ---- Further parts of the loss: weight times a mean over elements, in training alone ----------------------------- */

/* Where there are any, each part is an output without its weight: "loss:tv", "loss:charbonnier" for the main one. */

typedef struct DtPenalty {
    Tensor      x;
    float       weight;
    float       alpha; /* asymmetric: 0.3 by default */
    const char *name;  /* "tv" and "asymmetric": a second one needs a name of its own */
    DtAt        at;
} DtPenalty;
/* Total variation: squared differences of neighbours, of rows and of columns (two means). */
void dt_loss_tv_(DtPenalty a);
/* CBDNet (Guo et al. 2019, eq. 5): |alpha - [x < s]| (x - s)^2 against the level of noise s that the data tells
 * ("noise", of x's shape); nothing where it does not know, s < 0. */
void dt_loss_asymmetric_(DtPenalty a);
#define dt_loss_tv(...) dt_loss_tv_((DtPenalty){ __VA_ARGS__, .at = DT_HERE })
#define dt_loss_asymmetric(...) dt_loss_asymmetric_((DtPenalty){ __VA_ARGS__, .at = DT_HERE })

#ifndef DT_NO_SHORT_NAMES
#define conv2d dt_conv2d
#define linear dt_linear
#define batchnorm dt_batchnorm
#define relu dt_relu
#define flatten dt_flatten
#define global_avgpool dt_global_avgpool
#define add dt_add
#define mul dt_mul
#define concat dt_concat
#define conv_transpose2d dt_conv_transpose2d
#define relu6 dt_relu6
#define sigmoid dt_sigmoid
#define silu dt_silu
#define hard_sigmoid dt_hard_sigmoid
#define hard_swish dt_hard_swish
#define leaky_relu dt_leaky_relu
#define upsample dt_upsample
#define pad_image dt_pad_image
#define drop_connect dt_drop_connect
#define loss_tv dt_loss_tv
#define loss_asymmetric dt_loss_asymmetric
#define maxpool dt_maxpool
#define avgpool dt_avgpool
#define dropout dt_dropout
#define shortcut_a dt_shortcut_a
#endif

#ifdef __cplusplus
}
#endif

#endif
