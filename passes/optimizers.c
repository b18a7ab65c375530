/* optimizers.c: the table of optimizers. A row says what an optimizer is when nothing else is said, which states it
 * keeps for each param, and has the function that emits one update. All are element by element, so that the batch pass
 * makes one launch of the updates of all weights, whatever the optimizer.
 *
 *   g = grad + decay param (adamw: param (1 - lr decay) first)
 *   sgd          v <- momentum v + g;  param <- param - lr v, or with nesterov lr (g + momentum v)
 *   adam, adamw  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  param <- param - lr (m / s1) / (sqrt(v / s2) +
 * eps) rmsprop      v <- rho v + (1 - rho) g^2;  n = g / (sqrt(v) + eps);  u <- momentum u + n;  param <- param - lr u
 *   rmsprop-tf   ...  n = g / sqrt(v + eps), v from 1;  u <- momentum u + lr n;  param <- param - u
 *   adadelta     v <- rho v + (1 - rho) g^2;  d = g sqrt(a + eps) / sqrt(v + eps);  a <- rho a + (1 - rho) d^2;
 *                param <- param - lr d
 *
 * The forms are PyTorch's; rmsprop-tf is TensorFlow's, with which EfficientNets were trained. Adam's s1 = 1 - b1^t and
 * s2 = 1 - b2^t are states: the moving averages of ones, s <- s + (1 - b) (1 - s). That keeps all their digits, where
 * one less a power of b loses them at first, and it needs nobody who counts steps.
 *
 * Tested by tests/unit/test_optimizers.c, against values of PyTorch. */
#include "passes/pass_impl.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- Updates ----------------------------------------------------------------------------------------------------- */

static ValueId gradient(Updating *u)
{
    return u->decay == 0 ? u->grad : ir_emit(u->b, OP_DECAYED, IR_IN(u->grad, u->param), AF(DECAY, u->decay));
}

/* param - lr v */
static ValueId descend(Updating *u, ValueId v, ValueId lr)
{
    return ir_emit(u->b, OP_SGD_STEP, IR_IN(u->param, v, v, lr), AF(FLOOR, u->floor));
}

static ValueId square_average(Updating *u, ValueId old, ValueId now, double rho)
{
    return ir_emit(u->b, OP_SQUARE_EMA, IR_IN(old, now), AF(MOMENTUM, 1 - rho));
}

static ValueId update_sgd(Updating *u)
{
    const double momentum = u->cfg->momentum;
    u->next[0] = ir_emit(u->b, OP_SGD_VELOCITY, IR_IN(u->moment[0], u->grad, u->param), AF(MOMENTUM, momentum),
                         AF(DECAY, u->decay));
    return ir_emit(u->b, OP_SGD_STEP, IR_IN(u->param, u->grad, u->next[0], u->lr), AF(MOMENTUM, momentum),
                   AF(DECAY, u->decay), AI(NESTEROV, u->cfg->nesterov), AF(FLOOR, u->floor));
}

static ValueId update_moments(Updating *u, ValueId g, double decay)
{
    const OptimizerConfig *c = u->cfg;
    u->next[0] = ir_emit(u->b, OP_EMA, IR_IN(u->moment[0], g), AF(MOMENTUM, 1 - c->beta1));
    u->next[1] = square_average(u, u->moment[1], g, c->beta2);
    const ValueId in[] = { u->param, u->next[0], u->next[1], u->rate, u->root, u->lr };
    const AttrSet attrs[] = { AF(EPS, c->eps), AF(DECAY, decay), AF(FLOOR, u->floor) };
    return ir_emit_(u->b, OP_ADAM_STEP, in, decay != 0 ? 6 : 5, attrs, DT_COUNT(attrs));
}

static ValueId update_adam(Updating *u)
{
    return update_moments(u, gradient(u), 0);
}

static ValueId update_adamw(Updating *u)
{
    return update_moments(u, u->grad, u->decay);
}

/* The velocity of what was made of the gradient, whose decay is in it. */
static ValueId speed_up(Updating *u, ValueId n)
{
    return u->next[0] =
               ir_emit(u->b, OP_SGD_VELOCITY, IR_IN(u->moment[0], n, u->param), AF(MOMENTUM, u->cfg->momentum));
}

static ValueId update_rmsprop(Updating *u)
{
    ValueId g = gradient(u);
    u->next[1] = square_average(u, u->moment[1], g, u->cfg->rho);
    ValueId n = ir_emit(u->b, OP_RMS_GRAD, IR_IN(g, u->next[1]), AF(EPS, u->cfg->eps));
    return descend(u, u->moment[0] == VALUE_NONE ? n : speed_up(u, n), u->lr);
}

static ValueId update_rmsprop_tf(Updating *u)
{
    ValueId g = gradient(u);
    u->next[1] = square_average(u, u->moment[1], g, u->cfg->rho);
    ValueId n = ir_emit(u->b, OP_RSQRT_MUL, IR_IN(g, u->next[1]), AF(EPS, u->cfg->eps));
    if (u->moment[0] == VALUE_NONE)
        return descend(u, n, u->lr);
    ValueId v = speed_up(u, ir_emit(u->b, OP_MUL, IR_IN(n, u->lr)));
    return descend(u, v, ir_const(u->b, 1));
}

static ValueId update_adadelta(Updating *u)
{
    ValueId g = gradient(u);
    u->next[0] = square_average(u, u->moment[0], g, u->cfg->rho);
    ValueId d = ir_emit(u->b, OP_ADADELTA, IR_IN(g, u->next[0], u->moment[1]), AF(EPS, u->cfg->eps));
    u->next[1] = square_average(u, u->moment[1], d, u->cfg->rho);
    return descend(u, d, u->lr);
}

/* ---- The table --------------------------------------------------------------------------------------------------- */

const Optimizer pass_optimizers[] = {
    { .name = "sgd",
      .doc = "gradient descent with momentum",
      .lr = 0.1,
      .momentum = 0.9,
      .reads = "momentum nesterov",
      .moments = { "velocity" },
      .update = update_sgd },
    { .name = "adam",
      .doc = "moments of the gradient and of its square (Kingma and Ba 2015); weight decay is part of the gradient",
      .lr = 1e-3,
      .beta1 = 0.9,
      .beta2 = 0.999,
      .eps = 1e-8,
      .reads = "beta1 beta2 eps",
      .moments = { "moment1", "moment2" },
      .corrects = true,
      .update = update_adam },
    { .name = "adamw",
      .doc = "Adam whose weight decay is not (Loshchilov and Hutter 2019)",
      .lr = 1e-3,
      .weight_decay = 0.01,
      .beta1 = 0.9,
      .beta2 = 0.999,
      .eps = 1e-8,
      .reads = "beta1 beta2 eps",
      .moments = { "moment1", "moment2" },
      .corrects = true,
      .update = update_adamw },
    { .name = "rmsprop",
      .doc = "gradients by the root of their mean square, PyTorch's form",
      .lr = 1e-2,
      .eps = 1e-8,
      .rho = 0.99,
      .reads = "momentum eps rho",
      .moments = { "velocity", "moment2" },
      .only_with_momentum = 1,
      .update = update_rmsprop },
    { .name = "rmsprop-tf",
      .doc = "the same in TensorFlow's form, with the numbers of EfficientNet",
      .lr = 1e-2,
      .momentum = 0.9,
      .eps = 1e-3,
      .rho = 0.9,
      .reads = "momentum eps rho",
      .moments = { "velocity", "moment2" },
      .only_with_momentum = 1,
      .first = 1,
      .update = update_rmsprop_tf },
    { .name = "adadelta",
      .doc = "steps in the units of the param (Zeiler 2012)",
      .lr = 1,
      .eps = 1e-6,
      .rho = 0.9,
      .reads = "eps rho",
      .moments = { "moment2", "delta2" },
      .update = update_adadelta },
};
const int32_t    pass_n_optimizers = DT_COUNT(pass_optimizers);

const Optimizer *optimizer_find(const char *name)
{
    if (name == NULL)
        return pass_optimizers;
    for (int32_t i = 0; i < pass_n_optimizers; i++)
        if (str_eq(pass_optimizers[i].name, name))
            return &pass_optimizers[i];
    return NULL;
}

bool optimizer_reads(const Optimizer *o, const char *option)
{
    const size_t len = strlen(option);
    for (const char *at = o->reads; *at; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        if (n == len && strncmp(at, option, n) == 0)
            return true;
        at += n;
    }
    return false;
}

/* ---- Freezing ---------------------------------------------------------------------------------------------------- */

bool optimizer_parse_freeze(Arena *a, Diag *d, Loc at, const char *what, const char *text, Freeze *out)
{
    const char *mark = strrchr(text, '@');
    char       *end = NULL;
    *out = (Freeze){ arena_strndup(a, text, mark != NULL ? (size_t)(mark - text) : strlen(text)), INFINITY };
    if (mark != NULL)
        out->until = strtod(mark + 1, &end);
    if (out->pattern[0] != 0 && (mark == NULL || (end != mark + 1 && *end == 0 && out->until > 0 && out->until <= 1e6)))
        return true;
    diag_error(d, at, "%s: expected PATTERN or PATTERN@EPOCH, found '%s'", what, text);
    diag_help(d, "for instance 'stem.*' for the whole run, or '*.weight@2' up to epoch 2");
    return false;
}

bool optimizer_freezes(const PassCtx *c, const char *param)
{
    const OptimizerConfig *o = c->optimizer;
    for (int32_t i = 0; o != NULL && i < o->n_freeze; i++)
        if (c->moment.epoch < o->freeze[i].until && str_glob(o->freeze[i].pattern, param))
            return true;
    return false;
}

static int by_number(const void *x, const void *y)
{
    const double a = *(const double *)x, b = *(const double *)y;
    return (a > b) - (a < b);
}

bool optimizer_phases(Diag *d, const OptimizerConfig *o, double epochs, double at[RECIPE_MOST_PHASES], int32_t *n)
{
    for (int32_t i = 0; i < o->n_freeze; i++) {
        const double from = o->freeze[i].until;
        bool         there = !(from < epochs);
        for (int32_t k = 0; k < *n; k++)
            there |= at[k] == from;
        if (there)
            continue;
        if (*n == RECIPE_MOST_PHASES) {
            diag_error(d, LOC_NONE, "--freeze: with it the run has more than %d phases", RECIPE_MOST_PHASES);
            return false;
        }
        at[(*n)++] = from;
    }
    qsort(at, (size_t)*n, sizeof(at[0]), by_number);
    return true;
}
