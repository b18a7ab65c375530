/* options.c: every flag of `detent`, once. Parser, help and args.json are made from these rows.
 *
 * Tested by tests/unit/test_cli.c and test_cli_errors.c. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

#define AT_(field) offsetof(CliOptions, field)

typedef struct CliOpt {
    uint32_t group;
    uint32_t recorded; /* kept in args.json. 1: part of what a run is; 2: where it ran, which may be said anew */
    OptDef   def;
} CliOpt;

/* clang-format off */
static const CliOpt cli_opts[] = {
    { OPTS_COMMON, 0, { OPT_FLAG,   "help",     NULL,   NULL, NULL, 0, 0, AT_(help), "Show this help; -h, too." } },
    { OPTS_COMMON, 0, { OPT_FLAG,   "quiet",    NULL,   NULL, NULL, 0, 0, AT_(quiet), "Say only what went wrong." } },
    { OPTS_COMMON, 0, { OPT_FLAG,   "verbose",  NULL,   NULL, NULL, 0, 0, AT_(verbose), "Say what is going on inside." } },
    { OPTS_RECIPE, 1, { OPT_STRING, "method",   "M",    NULL, NULL, 0, 0, AT_(method), "How weights and activations are quantized: float (not at all, the default), ptq (calibrated, not trained), qat, lsq, lsq+, quant-noise, qsin, msqe, sinreq; docs/settings.md says what they are." } },
    { OPTS_RECIPE, 1, { OPT_STRING, "bits",     "wNaM", NULL, NULL, 0, 0, AT_(bits), "Bits of weights and activations, 2 to 8: w4a4, w8a8 (w32: float). Default w8a8 for a method that quantizes." } },
    { OPTS_RECIPE, 1, { OPT_LIST,   "layer",    "P=B",  NULL, NULL, 0, 0, AT_(layers), "Other bits for the layers that match P: 's0.*=w8a8', 'head=float'. Later ones win." } },
    { OPTS_RECIPE, 0, { OPT_STRING, "calibrate","C",    NULL, NULL, 0, 0, AT_(calibrate), "Short for --set calibrate=C: first ranges by max, percentile, mse or entropy." } },
    { OPTS_RECIPE, 0, { OPT_STRING, "noise",    "P",    NULL, NULL, 0, 0, AT_(noise), "Short for --set noise=P: the share of each weight that a step sees quantized, 0.5 or a schedule such as 0.25,1@80%." } },
    { OPTS_RECIPE, 1, { OPT_TEXTS,  "set",      "K=V",  NULL, NULL, 0, 0, AT_(settings), "Another setting of the recipe (docs/settings.md): 'noise=0.5', 's0.*:grain=channel', 'act.calibrate=mse'. May be repeated; later ones win." } },
    { OPTS_RECIPE, 0, { OPT_STRING, "recipe",   "FILE", NULL, NULL, 0, 0, AT_(recipe), "Method, bits, settings and layers from a file (docs/recipes.md), or from one that is built in (`detent recipes`); the other options are added to it and win." } },
    { OPTS_RECIPE, 1, { OPT_INT,    "edge-bits","N",    NULL, "8", 0, 8, AT_(edge_bits), "Bits of the first and the last layer; 0: like the others." } },
    { OPTS_RECIPE, 1, { OPT_FLAG,   "batch-in-n", NULL, NULL, NULL, 0, 0, AT_(batch_in_n), "LSQ: count the batch in the gradient scale of activations, as most code does; the paper does not." } },
    { OPTS_RECIPE | OPTS_IMPORT, 1, { OPT_INT,    "classes",  "N",    NULL, "0", 0, 1e6, AT_(classes), "Classes that the network tells; 0: as many as it says." } },
    { OPTS_RECIPE, 1, { OPT_STRING, "image",    "HxW",  NULL, NULL, 0, 0, AT_(image), "Height and width of the pictures that are trained on; by default what the network says." } },
    { OPTS_RECIPE, 1, { OPT_INT,    "batch",    "N",    NULL, NULL, 1, 65536, AT_(batch), "Images in a step; by default what the network asks for." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "momentum", "X",    NULL, NULL, 0, 1, AT_(momentum), "Momentum of sgd and rmsprop; by default what the network asks for." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "weight-decay", "X", NULL, NULL, 0, 1, AT_(weight_decay), "L2 decay of weights (not of biases, norms and step sizes); by default what the network asks for." } },
    { OPTS_RECIPE, 1, { OPT_FLAG,   "nesterov", NULL,   NULL, NULL, 0, 0, AT_(nesterov), "Nesterov's momentum." } },
    { OPTS_RECIPE, 1, { OPT_STRING, "optimizer","NAME", NULL, NULL, 0, 0, AT_(optimizer), "sgd, adam, adamw, rmsprop, rmsprop-tf or adadelta; by default what the network asks for. With another than the network's, lr, momentum and weight decay are that one's own." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "beta1",    "X",    NULL, NULL, 0, 1, AT_(beta1), "adam, adamw: weight of the old mean of gradients, 0.9." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "beta2",    "X",    NULL, NULL, 0, 1, AT_(beta2), "adam, adamw: weight of the old mean of their squares, 0.999." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "rho",      "X",    NULL, NULL, 0, 1, AT_(rho), "rmsprop, adadelta: weight of the old mean of squares, 0.99 (rmsprop-tf, adadelta: 0.9)." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "eps",      "X",    NULL, NULL, 0, 1, AT_(eps), "Keeps the divisor of adam, rmsprop and adadelta from 0: 1e-8 (rmsprop-tf 1e-3, adadelta 1e-6)." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "step-lr",  "X",    NULL, "1", 0, 1e6, AT_(step_lr), "Factor of the learning rate of step sizes and offsets; with adam and rmsprop the setting step-rate, a factor of gradients, has no effect." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "clip-norm","X",    NULL, "0", 0, 1e30, AT_(clip_norm), "Gradients are scaled down where the root of the sum of all their squares is above this; 0: never." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "clip-value", "X",  NULL, "0", 0, 1e30, AT_(clip_value), "Each number of a gradient is kept in +- this, before --clip-norm; 0: never." } },
    { OPTS_RECIPE, 1, { OPT_INT,    "accumulate", "K",  NULL, "1", 1, 65536, AT_(accumulate), "Params are updated after every K steps, with the mean of their gradients; statistics are those of each step." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "ema",      "D",    NULL, NULL, 0, 1, AT_(ema), "Evaluate moving averages of params and statistics: D is the weight of the old average (0.9999), less of it at first; 0: none. By default what the network asks for." } },
    { OPTS_RECIPE, 1, { OPT_FLAG,   "ema-constant", NULL, NULL, NULL, 0, 0, AT_(ema_constant), "D from the first step on, instead of min(D, (1 + t) / (10 + t))." } },
    { OPTS_RECIPE, 1, { OPT_TEXTS,  "freeze",   "P[@E]", NULL, NULL, 0, 0, AT_(freeze), "Params that match P (s0.*, *.gamma) stay as they are, for the whole run or up to epoch E. May be repeated." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "label-smoothing", "X", NULL, NULL, 0, 1, AT_(label_smoothing), "Share of a label that all classes get alike; by default what the network asks for." } },
    { OPTS_RECIPE, 1, { OPT_STRING, "teacher",  "FILE", NULL, NULL, 0, 0, AT_(teacher), "Learn from the float network of this checkpoint, too: it runs in the same step." } },
    { OPTS_RECIPE, 1, { OPT_STRING, "teacher-net", "NET", NULL, NULL, 0, 0, AT_(teacher_net), "The teacher's network; by default the same." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "distill-weight", "A", NULL, "0.5", 0, 1, AT_(distill_weight), "The loss is (1 - A) its own + A the distance from the teacher." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "temperature", "T", NULL, "4", 0.01, 1e3, AT_(temperature), "Logits of both are divided by T before they are compared, and the distance is taken times T^2." } },
    { OPTS_RECIPE, 1, { OPT_INT,    "seed",     "N",    NULL, "1", 0, -1, AT_(seed_), "Of first weights, order of samples, augmentation, dropout." } },
    { OPTS_TRAIN | OPTS_DIFF, 0, { OPT_STRING, "data",     "DIR",  NULL, NULL, 0, 0, AT_(data), "Where the data set lies, in the layout of its authors." } },
    { OPTS_TRAIN | OPTS_DIFF, 1, { OPT_STRING, "dataset",  "NAME", NULL, NULL, 0, 0, AT_(dataset), "mnist, cifar10, cifar100, folder (pictures in folders, one a class), pairs or sidd (noisy and clean pictures); by default what the network asks for." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "epochs",   "N",    NULL, NULL, 0, 1e6, AT_(epochs), "Passes over the training set; by default what the network asks for, 0 for ptq." } },
    { OPTS_TRAIN,  1, { OPT_FLOAT,  "lr",       "X",    NULL, NULL, 1e-9, 1e3, AT_(lr), "Learning rate at its height; by default what the network asks for." } },
    { OPTS_TRAIN,  1, { OPT_STRING, "schedule", "S",    NULL, NULL, 0, 0, AT_(schedule), "cosine, constant, step:100,150 (epochs at which the rate is divided by 10), exp:0.97:2.4 (times 0.97 every 2.4 epochs), one-cycle (up for 0.3 of the run, then down) or poly:1 (linear)." } },
    { OPTS_TRAIN,  1, { OPT_FLOAT,  "warmup",   "E",    NULL, NULL, 0, 1e3, AT_(warmup), "Epochs in which the rate rises; by default what the network asks for." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "reestimate-bn", "N", NULL, "0", 0, 1e9, AT_(reestimate_bn), "Before the run is evaluated for the last time: running statistics become the mean over N training batches, params as they are." } },
    { OPTS_TRAIN,  1, { OPT_FLAG,   "no-augment", NULL, NULL, NULL, 0, 0, AT_(no_augment), "Training images as they are." } },
    { OPTS_TRAIN,  1, { OPT_FLOAT,  "colour",   "X",    NULL, "0", 0, 1, AT_(colour), "Brightness, contrast and saturation of training images vary by up to this share, 0.4 say." } },
    { OPTS_TRAIN,  1, { OPT_FLOAT,  "erase",    "P",    NULL, "0", 0, 1, AT_(erase), "Probability that a rectangle of a training image is erased." } },
    { OPTS_TRAIN,  1, { OPT_STRING, "randaugment", "N[:M]", NULL, NULL, 0, 0, AT_(randaugment), "N random operations on each training image, of magnitude M (9)." } },
    { OPTS_RECIPE, 1, { OPT_FLOAT,  "mixup",    "A",    NULL, NULL, 0, 1e3, AT_(mixup), "Two training images are mixed, and their labels; shares are drawn from Beta(A, A). By default what the network asks for; 0: none." } },
    { OPTS_TRAIN,  1, { OPT_STRING, "test-image", "HxW", NULL, NULL, 0, 0, AT_(test_image), "Height and width of the pictures of an evaluation, where the data set leaves a choice; by default as for training, of pairs the largest that all test pictures have." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "eval-batch", "N",  NULL, "0", 0, 65536, AT_(eval_batch), "Images in a batch of an evaluation; by default what the network asks for, else as in training." } },
    { OPTS_TRAIN,  1, { OPT_STRING, "add-noise", "N",   NULL, NULL, 0, 0, AT_(add_noise), "Pairs: the noisy pictures are made from the clean ones: gaussian:25 (sigma, of 255) or camera (signal-dependent, as CBDNet's)." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "crops",    "N",    NULL, "0", 0, 1e6, AT_(crops), "Pairs: samples of each training picture in an epoch, each cut out elsewhere; 0: one." } },
    { OPTS_TRAIN,  0, { OPT_STRING, "data-cache", "DIR", NULL, NULL, 0, 0, AT_(data_cache), "Decoded pictures are kept in this directory, and mapped from there." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "bad-limit", "N",   NULL, "0", 0, 1e9, AT_(bad_limit), "Pictures that cannot be read and are passed over, each with a warning, before that is a mistake." } },
    { OPTS_TRAIN,  0, { OPT_INT,    "workers",  "N",    NULL, "0", 0, 64, AT_(workers), "Threads that make batches ahead; 0: one, for pictures in files two. What they make does not depend on it." } },
    { OPTS_TRAIN,  0, { OPT_STRING, "init",     "FILE", NULL, NULL, 0, 0, AT_(init), "Begin with the weights of this checkpoint: float training first, then quantized." } },
    { OPTS_TRAIN,  0, { OPT_STRING, "resume",   "RUN",  NULL, NULL, 0, 0, AT_(resume), "Go on with the run in this directory; its arguments hold, and NET may be left out." } },
    { OPTS_TRAIN,  0, { OPT_STRING, "out",      "DIR",  NULL, NULL, 0, 0, AT_(out), "The run's directory; by default runs/NET/float or runs/NET/METHOD-BITS, with -2, -3, ... when there is one." } },
    { OPTS_TRAIN,  0, { OPT_STRING, "exp",      "NAME", NULL, NULL, 0, 0, AT_(exp), "Name of the experiment: runs/NET/NAME." } },
    { OPTS_TRAIN,  0, { OPT_INT,    "max-steps","N",    NULL, "0", 0, -1, AT_(max_steps), "Stop after this many steps in all." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "save-every", "N",  NULL, "0", 0, -1, AT_(save_every), "Steps between checkpoints; 0: at the end of each epoch." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "log-every","N",    NULL, "50", 1, -1, AT_(log_every), "Steps between rows of metrics.jsonl." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "eval-every", "N",  NULL, "1", 1, -1, AT_(eval_every), "Epochs between evaluations." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "patience", "N",    NULL, "0", 0, 1e6, AT_(patience), "End the run after N epochs of which none was better than the best one before; 0: never." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "keep-every", "N",  NULL, "0", 0, 1e6, AT_(keep_every), "Epochs between checkpoints that are kept beside the last and the best one, as epoch-0010.safetensors; 0: none." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "keep",     "N",    NULL, "0", 0, 1e6, AT_(keep), "Of these the newest N are kept; 0: all." } },
    { OPTS_TRAIN,  1, { OPT_CHOICE, "ssim",     "F",    "valid|padded", "valid", 0, 0, AT_(ssim), "Where windows of SSIM lie: inside the picture (Wang et al.), or around every pixel with the border repeated (as tables of SIDD have it)." } },
    { OPTS_TRAIN,  1, { OPT_INT,    "inspect-every", "N", NULL, "-1", -1, 1e9, AT_(inspect_every), "Steps between diagnoses of the quantizers (step sizes, clipped share, SNR, ...) in metrics.jsonl; -1: one at the end of each epoch, 0: none, and no histograms of weights." } },
    { OPTS_TRAIN | OPTS_DIFF, 0, { OPT_STRING, "checkpoint", "FILE", NULL, NULL, 0, 0, AT_(checkpoint), "Weights to evaluate; what Detent saved says itself how it is quantized." } },
    { OPTS_DIFF,   0, { OPT_CHOICE, "against",  "B",    "cpu|interp|cuda|sim", NULL, 0, 0, AT_(against), "The other backend: every layer of a network is compared on --backend and on this one." } },
    { OPTS_TARGET, 2, { OPT_CHOICE, "backend",  "B",    "cpu|interp|cuda|sim|null", "cpu", 0, 0, AT_(backend), "cpu: LLVM and oneDNN. interp: the interpreter and plain loops, slow and simple. cuda: NVRTC and cuDNN on a GPU. sim: the CUDA text on a simulated GPU, checked and slow. null: all launches of a GPU, nothing computed." } },
    { OPTS_TARGET, 1, { OPT_CHOICE, "forward",  "F",    "float|int|auto", "float", 0, 0, AT_(forward), "Forward products of quantized layers: float: of floats; int: of their integer codes, whose sums are exact; auto: each as it is faster on this machine, measured once and kept in the cache. auto is what to try when a step should be faster: --explain-forward says what it chose." } },
    { OPTS_TARGET, 1, { OPT_TEXTS,  "forward-times", "P=F/I", NULL, NULL, 0, 0, AT_(forward_times), "--forward auto: milliseconds of product P of floats and of codes, as args.json of a run has them, instead of measuring. May be repeated." } },
    { OPTS_TARGET, 1, { OPT_CHOICE, "backward", "B",    "f32|bf16", "f32", 0, 0, AT_(backward), "cpu, interp: gradients of convolutions multiply f32, or bf16, summed in f32: then gradients that come in are rounded, and of floats the other operand, too; integer codes are exact. Faster where the processor has AVX512-BF16, slower without; the numbers are the same." } },
    { OPTS_TARGET, 1, { OPT_CHOICE, "math",     "M",    "f32|tf32|fp16|bf16", "f32", 0, 0, AT_(math), "cuda: how cuDNN multiplies; sums and memory are f32." } },
    { OPTS_RUN,    0, { OPT_STRING, "arch",     "sm_N", NULL, NULL, 0, 0, AT_(arch), "cuda: compile for this GPU without having one (sm_80, sm_90, ...); for `compile` alone." } },
    { OPTS_RUN,    0, { OPT_FLAG,   "no-graph", NULL,   NULL, NULL, 0, 0, AT_(no_graph), "cuda, sim, null: plain launches instead of one graph a step." } },
    { OPTS_RUN,    0, { OPT_STRING, "gpu-memory", "SIZE", NULL, NULL, 0, 0, AT_(gpu_memory), "cuda, sim, null: take at most this much, 8G or 500M; by default what is free." } },
    { OPTS_RUN,    0, { OPT_STRING, "workspace", "SIZE", NULL, "64M", 0, 0, AT_(workspace), "cuda: memory that a cuDNN engine may use." } },
    { OPTS_RUN,    0, { OPT_FLAG,   "autotune", NULL,   NULL, NULL, 0, 0, AT_(autotune), "cuda: time the engines of every convolution once, and keep the choice on disk." } },
    { OPTS_RUN,    0, { OPT_INT,    "threads",  "N",    NULL, "0", 0, 1024, AT_(threads), "Threads; 0: one a core." } },
    { OPTS_RUN,    0, { OPT_INT,    "vector-width", "N", NULL, "0", 0, 16, AT_(vector_width), "Floats in a vector: 4, 8, 16; 0: what the machine has." } },
    { OPTS_RUN,    0, { OPT_STRING, "isa",      "ISA",  NULL, "native", 0, 0, AT_(isa), "cpu: kernels of integer products, and of --backward bf16: portable, avx2, avx512, avx-vnni, vnni (AVX-512 VNNI) or native, the best that the machine has. The numbers are the same." } },
    { OPTS_RUN,    0, { OPT_CHOICE, "cache",    "C",    "rw|off", "rw", 0, 0, AT_(cache), "Compiled kernels are kept in $XDG_CACHE_HOME/detent." } },
    { OPTS_RUN,    0, { OPT_FLAG,   "profile",  NULL,   NULL, NULL, 0, 0, AT_(profile), "Show where the time goes, launch by launch." } },
    { OPTS_PASSES, 0, { OPT_CHOICE, "step",     "S",    "train|eval|init|observe|inspect|reestimate", "train", 0, 0, AT_(step), "Which step of the network: train, eval, init (first values), observe (what calibration sees), inspect (what quantizers do) or reestimate (statistics of batch norm)." } },
    { OPTS_PASSES, 0, { OPT_FLAG,   "gather",   NULL,   NULL, NULL, 0, 0, AT_(gather), "train: the step that adds gradients for a later update (--accumulate)." } },
    { OPTS_PASSES, 0, { OPT_FLAG,   "averaged", NULL,   NULL, NULL, 0, 0, AT_(averaged), "eval, reestimate: with the averages of params (--ema)." } },
    { OPTS_PASSES, 0, { OPT_STRING, "at-epoch", "E[/N]", NULL, NULL, 0, 0, AT_(at_epoch), "Compile the step as it is at epoch E (of N): recipes may change during a run. Of one that looks, not of training." } },
    { OPTS_PASSES, 0, { OPT_FLAG,   "clamped",  NULL,   NULL, NULL, 0, 0, AT_(clamped), "eval: quantizers clip and do not round." } },
    { OPTS_SENSITIVITY, 0, { OPT_INT, "images", "N",    NULL, "1000", 1, 1e9, AT_(images), "Test images that each trial looks at, from the first on." } },
    { OPTS_SENSITIVITY, 0, { OPT_FLOAT, "loss", "X",    NULL, "1", 0, 100, AT_(loss), "Points of accuracy that may be lost: layers are left in float until it is no more." } },
    { OPTS_BENCH,  0, { OPT_INT,    "rounds",   "N",    NULL, "15", 3, 1000, AT_(rounds), "Rounds of the benchmark." } },
    { OPTS_BENCH,  0, { OPT_INT,    "steps",    "N",    NULL, "0", 0, 1000, AT_(steps), "Steps in a round; 0: one, on a GPU 20." } },
    { OPTS_BENCH,  0, { OPT_CHOICE, "mode",     "M",    "both|train|eval", "both", 0, 0, AT_(mode), "Which step is timed: of training, of an evaluation, or both, one after the other." } },
    { OPTS_BENCH,  0, { OPT_FLAG,   "no-compile", NULL, NULL, NULL, 0, 0, AT_(no_compile), "Do not time the compiler, which takes a while for large networks." } },
    { OPTS_BENCH,  0, { OPT_STRING, "trace",    "FILE", NULL, NULL, 0, 0, AT_(trace), "Write one step of each variant, launch by launch, as Chrome trace events: ui.perfetto.dev and chrome://tracing show it." } },
    { OPTS_BENCH,  0, { OPT_INT,    "launches", "N",    NULL, "20", 0, 1e6, AT_(launches), "Rows of a --profile, the others in one; 0: all." } },
    { OPTS_BENCH,  0, { OPT_FLAG,   "kernels",  NULL,   NULL, NULL, 0, 0, AT_(kernels), "Each generated kernel beside a plain loop over the same bytes." } },
    { OPTS_BENCH,  0, { OPT_FLAG,   "serve",    NULL,   NULL, NULL, 0, 0, AT_(serve), "Run one step for each line on stdin and answer with its seconds." } },
    { OPTS_REPORT, 0, { OPT_STRING, "out",      "FILE", NULL, NULL, 0, 0, AT_(out), "The page; -o, too. [default: report.html]" } },
    { OPTS_IMPORT, 0, { OPT_STRING, "out",      "FILE", NULL, NULL, 0, 0, AT_(out), "The checkpoint that is written; -o, too." } },
    { OPTS_REPORT, 0, { OPT_STRING, "title",    "TEXT", NULL, NULL, 0, 0, AT_(title), "Its title; by default what the runs are." } },
    { OPTS_PREDICT, 0, { OPT_STRING, "checkpoint", "FILE", NULL, NULL, 0, 0, AT_(checkpoint), "Weights: a file, or a run, whose best ones they are; what Detent saved says itself how it is quantized." } },
    { OPTS_PREDICT, 0, { OPT_INT,   "top",      "K",    NULL, "5", 1, 1000, AT_(top), "Classes to show, the likeliest first." } },
    { OPTS_PREDICT, 0, { OPT_STRING, "out",     "DIR",  NULL, NULL, 0, 0, AT_(out), "Where restored pictures go, as NAME-result.png: a directory, or for one picture a file that ends with .png; -o, too. By default this directory." } },
    { OPTS_PREDICT, 0, { OPT_STRING, "clean",   "FILE", NULL, NULL, 0, 0, AT_(clean), "The clean picture of the one that is restored: PSNR and SSIM are said." } },
    { OPTS_PREDICT, 0, { OPT_STRING, "data",    "DIR",  NULL, NULL, 0, 0, AT_(data), "Where the data set lies that names the classes; by default the checkpoint names them." } },
    { OPTS_PREDICT, 0, { OPT_STRING, "dataset", "NAME", NULL, NULL, 0, 0, AT_(dataset), "Which data set that is; by default what the network asks for." } },
    { OPTS_MEMORY, 2, { OPT_STRING, "memory",   "SIZE", NULL, NULL, 0, 0, AT_(memory), "A step of training fits into this much, 4G or 500M: values that do not are made again in backward instead of being kept, with the same results. train: the whole process has so much, on a GPU its memory there. compile, dump, bench: params, states, values and inputs of a step. plan: says the largest batch for it; by default for what the GPU has free." } },
    { OPTS_BENCH | OPTS_PLAN, 0, { OPT_FLAG,   "json",     NULL,   NULL, NULL, 0, 0, AT_(json), "The table as JSON on stdout." } },
};
/* clang-format on */

/* The rows of the groups, those of the passes behind them. */
static int32_t cli_defs(Arena *a, uint32_t groups, OptDef **out)
{
    int32_t n = 0;
    *out = ARENA_ARRAY(a, OptDef, DT_COUNT(cli_opts) + pass_n_option_defs);
    for (int32_t i = 0; i < DT_COUNT(cli_opts); i++)
        if (cli_opts[i].group & groups)
            (*out)[n++] = cli_opts[i].def;
    for (int32_t i = 0; i < pass_n_option_defs && (groups & OPTS_PASSES); i++) {
        (*out)[n] = pass_option_defs[i];
        (*out)[n++].offset += AT_(pass);
    }
    return n;
}

/* Options of groups that a command does not take have their defaults all the same. */
static bool cli_fill_defaults(Arena *a, Diag *d, CliOptions *out)
{
    OptDef *all;
    StrList none = { 0 };
    int32_t n = cli_defs(a, ~0u, &all);
    return opts_parse(a, d, all, n, 0, NULL, out, &none);
}

bool cli_takes(Arena *a, uint32_t groups, const char *word)
{
    OptDef     *defs;
    int32_t     n = cli_defs(a, groups, &defs);
    const char *name = word + strspn(word, "-");
    size_t      len = strcspn(name, "=");
    for (int32_t i = 0; i < n; i++)
        if (strlen(defs[i].name) == len && strncmp(defs[i].name, name, len) == 0)
            return true;
    return false;
}

bool cli_given(const CliOptions *o, const char *name)
{
    for (int32_t i = 0; i < o->given.len; i++)
        if (str_eq(o->given.at[i], name))
            return true;
    return false;
}

/* "--name", "--name=..." and "--no-name" among the words; a word behind "--name" is never taken for an option. */
static void cli_note_given(Arena *a, const OptDef *defs, int32_t n, int argc, char **argv, CliOptions *out)
{
    for (int w = 0; w < argc && !str_eq(argv[w], "--"); w++) {
        if (strncmp(argv[w], "--", 2) != 0)
            continue;
        const char *word = arena_strndup(a, argv[w] + 2, strcspn(argv[w] + 2, "="));
        for (int32_t i = 0; i < n; i++) {
            bool negated = defs[i].kind == OPT_FLAG && strncmp(word, "no-", 3) == 0 && str_eq(word + 3, defs[i].name);
            if ((str_eq(word, defs[i].name) || negated) && !cli_given(out, defs[i].name))
                vec_push(a, &out->given, defs[i].name);
        }
    }
}

bool cli_say(Arena *a, Diag *d, Loc at, const char *name, const char *text, CliOptions *out)
{
    const OptDef *def = NULL;
    for (int32_t i = 0; i < DT_COUNT(cli_opts); i++)
        if (str_eq(cli_opts[i].def.name, name))
            def = &cli_opts[i].def;
    DT_ASSERT(def != NULL, "there is no option --%s", name);
    if (!cli_given(out, name))
        vec_push(a, &out->given, def->name);
    if (opts_set(a, d, at, arena_printf(a, "recipe: %s", name), def, text, out))
        return true;
    diag_help(d, "%s", def->doc);
    return false;
}

static bool cli_check_width(Diag *d, int64_t width)
{
    if (width == 0 || width == 4 || width == 8 || width == 16)
        return true;
    diag_error(d, LOC_NONE, "--vector-width: expected 4, 8, 16 or 0, found %lld", (long long)width);
    return false;
}

/* "8G" -> bytes; NULL: 0. */
static bool cli_size(Diag *d, const char *option, const char *text, int64_t *bytes)
{
    static const char units[] = "KMGT";
    char             *end = NULL;
    double            n = text != NULL ? strtod(text, &end) : 0;
    const char       *unit = end != NULL && *end != 0 ? strchr(units, *end & ~0x20) : NULL;
    *bytes = 0;
    if (text == NULL)
        return true;
    if (unit != NULL) {
        n *= (double)(1LL << 10 * (unit - units + 1));
        end += end[1] == 'i' ? 2 : 1;
        end += *end == 'B';
    }
    if (end == text || *end != 0 || !(n >= 1) || n > 0x1p62) {
        diag_error(d, LOC_NONE, "--%s: expected a number of bytes such as 500M or 8G, found '%s'", option, text);
        return false;
    }
    *bytes = (int64_t)n;
    return true;
}

static bool cli_check_sizes(Diag *d, CliOptions *o)
{
    return cli_size(d, "gpu-memory", o->gpu_memory, &o->gpu_memory_bytes) &&
           cli_size(d, "workspace", o->workspace, &o->workspace_bytes) &&
           cli_size(d, "memory", o->memory, &o->memory_bytes);
}

bool cli_parse(Arena *a, Diag *d, uint32_t groups, int argc, char **argv, CliOptions *out, StrList *rest)
{
    OptDef *defs;
    int32_t n = cli_defs(a, groups, &defs);
    memset(out, 0, sizeof(*out));
    if (!cli_fill_defaults(a, d, out) || !opts_parse(a, d, defs, n, argc, argv, out, rest) ||
        !cli_check_width(d, out->vector_width) || !cli_check_sizes(d, out))
        return false;
    cli_note_given(a, defs, n, argc, argv, out);
    out->seed = (uint64_t)out->seed_;
    return true;
}

/* Each group under a heading, in the order of the table. */
void cli_options_help(Str *out, uint32_t groups)
{
    static const struct {
        uint32_t    group;
        const char *title;
    } titles[] = { { OPTS_COMMON, "Always" },
                   { OPTS_RECIPE, "What is trained" },
                   { OPTS_TRAIN, "How it is trained" },
                   { OPTS_DIFF, "What is compared" },
                   { OPTS_TARGET, "What it is compiled for" },
                   { OPTS_MEMORY, "What it may take" },
                   { OPTS_RUN, "How it is run" },
                   { OPTS_BENCH, "What is measured" },
                   { OPTS_SENSITIVITY, "What is looked for" },
                   { OPTS_PLAN, "What is asked" },
                   { OPTS_REPORT, "What is written" },
                   { OPTS_IMPORT, "What is imported" },
                   { OPTS_PREDICT, "What is predicted" },
                   { OPTS_PASSES, "Looking into the compiler" } };
    for (int32_t i = 0; i < DT_COUNT(titles); i++) {
        OptDef *defs;
        int32_t n = titles[i].group & groups ? cli_defs(out->arena, titles[i].group, &defs) : 0;
        if (n > 0) {
            str_printf(out, "%s%s:\n", out->len > 0 ? "\n" : "", titles[i].title);
            opts_help(out, defs, n);
        }
    }
}

/* ---- args.json --------------------------------------------------------------------------------------------------- */

static const char *cli_arg_text(Arena *a, const OptDef *def, const CliOptions *o)
{
    const void    *field = (const char *)o + def->offset;
    const StrList *list = field;
    Str            s = str_new(a);
    switch (def->kind) {
    case OPT_FLAG:
        return *(const bool *)field ? "true" : "false";
    case OPT_INT:
        return arena_printf(a, "%lld", (long long)*(const int64_t *)field);
    case OPT_FLOAT:
        str_add_f64(&s, *(const double *)field);
        return s.s;
    case OPT_STRING:
    case OPT_CHOICE:
        return *(const char *const *)field;
    case OPT_LIST:
        for (int32_t i = 0; i < list->len; i++)
            str_printf(&s, "%s%s", i > 0 ? "," : "", list->at[i]);
        return list->len > 0 ? s.s : NULL;
    case OPT_TEXTS: /* as words of a line, whatever they hold */
        for (int32_t i = 0; i < list->len; i++) {
            str_add(&s, i > 0 ? " " : "");
            opts_quote(&s, list->at[i]);
        }
        return list->len > 0 ? s.s : NULL;
    }
    DT_UNREACHABLE("option kind %d", (int)def->kind);
}

void cli_args(Arena *a, const CliOptions *o, const char *net, RunArgs *out)
{
    vec_push(a, out, (RunArg){ "net", net });
    vec_push(a, out, (RunArg){ "data", o->data });
    vec_push(a, out, (RunArg){ "version", DT_VERSION });
    for (int32_t i = 0; i < DT_COUNT(cli_opts); i++) {
        const char *text = cli_opts[i].recorded ? cli_arg_text(a, &cli_opts[i].def, o) : NULL;
        if (text != NULL)
            vec_push(a, out, (RunArg){ cli_opts[i].def.name, text });
    }
}

/* Only these are set; where to run and what to resume stay as they are. */
static int32_t cli_recorded_defs(Arena *a, OptDef **out)
{
    int32_t n = 0;
    *out = ARENA_ARRAY(a, OptDef, DT_COUNT(cli_opts));
    for (int32_t i = 0; i < DT_COUNT(cli_opts); i++)
        if (cli_opts[i].recorded)
            (*out)[n++] = cli_opts[i].def;
    return n;
}

static const OptDef *cli_find(const OptDef *defs, int32_t n, const char *name)
{
    for (int32_t i = 0; i < n; i++)
        if (str_eq(defs[i].name, name))
            return &defs[i];
    return NULL;
}

static bool cli_may_differ(const char *name)
{
    for (int32_t i = 0; i < DT_COUNT(cli_opts); i++)
        if (str_eq(cli_opts[i].def.name, name))
            return cli_opts[i].recorded == 2;
    return false;
}

/* What the command line says of a recorded option must be what the run was started with: silently doing one or the
 * other would be wrong. */
static bool cli_args_agree(Arena *a, Diag *d, const RunArgs *args, const OptDef *defs, int32_t n, const CliOptions *o)
{
    for (int32_t i = 0; i < n; i++) {
        const char *had = NULL, *text = cli_arg_text(a, &defs[i], o);
        if (!cli_given(o, defs[i].name) || cli_may_differ(defs[i].name))
            continue;
        for (int32_t j = 0; j < args->len; j++)
            if (str_eq(args->at[j].key, defs[i].name))
                had = args->at[j].value;
        if (str_eq(had, text))
            continue;
        diag_error(d, LOC_NONE, "--%s: expected %s, as the run that is resumed has it, found %s", defs[i].name,
                   had != NULL ? had : "nothing", text != NULL ? text : "nothing");
        diag_help(d,
                  "a run keeps its arguments: leave the option out, or start a new run from its weights with --init");
        return false;
    }
    return true;
}

typedef struct ArgWords {
    char  **at;
    int32_t len, cap;
} ArgWords;

/* A recorded argument as words of a command line. False: reported. */
static bool cli_add_words(Arena *a, Diag *d, const OptDef *def, const char *text, ArgWords *out)
{
    StrList each = { 0 };
    if (def->kind != OPT_TEXTS)
        vec_push(a, &each, text);
    else if (!opts_words(a, text, &each)) {
        diag_error(d, LOC_NONE, "run: --%s: expected words, found a quote that is not closed in \"%s\"", def->name,
                   text);
        return false;
    }
    for (int32_t i = 0; i < each.len; i++)
        vec_push(a, out, arena_printf(a, "--%s=%s", def->name, each.at[i]));
    return true;
}

/* The recorded arguments as a command line of their own. Where the data lies may be said anew. */
bool cli_args_apply(Arena *a, Diag *d, const RunArgs *args, CliOptions *o, const char **net)
{
    OptDef  *defs;
    StrList  none = { 0 };
    int32_t  n = cli_recorded_defs(a, &defs);
    ArgWords words = { 0 };
    if (o->recipe != NULL) {
        diag_error(d, LOC_NONE, "--recipe: expected no such option: the run that is resumed keeps its recipe");
        return false;
    }
    if (!cli_args_agree(a, d, args, defs, n, o))
        return false;
    for (int32_t i = 0; i < n; i++) /* what is said anew must outlive the defaults */
        if (cli_may_differ(defs[i].name) && cli_given(o, defs[i].name) &&
            !cli_add_words(a, d, &defs[i], cli_arg_text(a, &defs[i], o), &words))
            return false;
    for (int32_t i = 0; i < args->len; i++) {
        const RunArg *arg = &args->at[i];
        const OptDef *def = cli_find(defs, n, arg->key);
        if (str_eq(arg->key, "net"))
            *net = arg->value;
        else if (str_eq(arg->key, "data") && o->data == NULL)
            o->data = arg->value;
        else if (def != NULL && !(cli_may_differ(def->name) && cli_given(o, def->name)) &&
                 !cli_add_words(a, d, def, arg->value, &words))
            return false;
    }
    if (!opts_parse(a, d, defs, n, words.len, words.at, o, &none))
        return false;
    cli_note_given(a, defs, n, words.len, words.at, o);
    o->seed = (uint64_t)o->seed_;
    return true;
}
