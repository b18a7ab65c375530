/* quantize.h: what a method is given to put one quantizer in place. A method is one function: it makes the leaves that
 * its quantizer has and emits the quantized value. insert_quantize.c decides where quantizers are and does what is the
 * same for all methods: noise, penalties, delays, what is shown to calibration and diagnosis.
 *
 * Tested by tests/unit/test_quantize.c and tests/golden. */
#ifndef DETENT_PASSES_QUANTIZE_H
#define DETENT_PASSES_QUANTIZE_H

#include "passes/pass_impl.h"

/* One quantizer that is being made, in the graph of c->step. */
struct Quantizing {
    PassCtx         *c;
    Builder         *b;
    const QuantSpec *spec;
    Role             role;
    const char      *name;   /* "s1.b0.conv1.input": leaves are name.step, name.min, ... */
    ValueId          x;      /* what is quantized */
    bool             nonneg; /* x is never negative */
    bool             given;  /* x is what the host hands in: its step is not trained, which would cost a gradient */
    bool             round;  /* false: clip alone */
    int32_t          axis;   /* of a weight: the dimension of its outputs; else 1 */
    int64_t          steps;  /* 1, or how many: outputs of a weight in groups */
    int64_t          group;  /* outputs that share a step */
    QuantizerInfo    info;   /* lo, hi are set before the method is called and may be changed by it */
    ValueId          qdq;    /* the op that quantizes, once it is there */
};

double      quantizing_number(const Quantizing *z, SettingId id); /* at this moment of the run */
const char *quantizing_word(const Quantizing *z, SettingId id);

/* A leaf NAME.suffix of `steps` numbers (or of one). kind: OP_PARAM in optimizer group `group`, or OP_STATE. */
ValueId quantizing_leaf(Quantizing *z, OpCode kind, const char *suffix, const char *group, bool each, double value);
/* One number for each output of the weight from one for each group of them; x itself with one step. */
ValueId quantizing_each(Quantizing *z, ValueId x);
/* A reduction of x to as many numbers as there are steps: OP_REDUCE_MAXABS, OP_REDUCE_ABS, ... */
ValueId quantizing_reduce(Quantizing *z, OpCode op, double scale);
/* Elements that share a step. */
double quantizing_elems(const Quantizing *z);
/* The host finds the first range. */
bool quantizing_calibrated(const Quantizing *z);
/* A step that is trained (or, of what is given, kept), with its first value in the init step. */
ValueId quantizing_trained_step(Quantizing *z);
/* qdq x, step (, zero): zero may be VALUE_NONE. ends: "open" or "code", see the op. */
ValueId quantizing_qdq(Quantizing *z, ValueId step, ValueId zero, const char *ends);

/* The functions of methods.def. */
ValueId method_fixed(Quantizing *z);
ValueId method_qat(Quantizing *z);
ValueId method_lsq(Quantizing *z);
ValueId method_lsq_plus(Quantizing *z);
ValueId method_penalty(Quantizing *z);

#endif
