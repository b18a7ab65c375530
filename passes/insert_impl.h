/* insert_impl.h: what the files of insert-quantize share: insert_quantize.c puts quantizers in front of layers,
 * insert_joins.c in front of sums, products and means of activations. */
#ifndef DETENT_PASSES_INSERT_IMPL_H
#define DETENT_PASSES_INSERT_IMPL_H

#include "passes/quantize.h"

typedef struct Layer {
    ValueId     id;
    const char *name;   /* what patterns match */
    const char *unique; /* the same, or with a number behind it: leaves are named by it */
    QuantSpec   spec[ROLE_COUNT];
} Layer;

/* An op that takes activations without a weight. */
typedef struct Join {
    ValueId     id;
    const char *name;             /* "s1.b0.add": what patterns match, and the beginning of its quantizers' names */
    QuantSpec   spec[ROLE_COUNT]; /* that of a weight has no bits */
    bool        shared;           /* its operands share a step size */
} Join;

/* A quantizer that exists: of value x (id before the rewrite). */
typedef struct Made {
    ValueId          x;
    Role             role;
    const QuantSpec *spec;
    ValueId          q;
} Made;

typedef struct Inserter {
    PassCtx      *c;
    const Recipe *recipe;
    Rewriter      r;
    StrMap        taken;  /* names of layers and joins */
    bool         *nonneg; /* by value id */
    VEC(Layer) layers;    /* in order */
    VEC(Join) joins;      /* in order; those that the recipe leaves in float, too, without bits */
    VEC(Made) made;
} Inserter;

/* One quantizer that is to be. */
typedef struct Site {
    const char      *layer; /* what patterns match */
    const char      *name;  /* "s1.b0.conv1.input": leaves are NAME.step, ... */
    const QuantSpec *spec;
    Role             role;
    int32_t          axis;          /* of a weight: the dimension of its outputs; else 1, channels */
    bool             nonneg, given; /* as in Quantizing */
} Site;

/* ---- insert_quantize.c ------------------------------------------------------------------------------------------ */

/* The quantized x as this step sees it; VALUE_NONE: reported. */
ValueId insert_quantizer(Inserter *q, const Site *s, ValueId x);
/* Of value `old`, made now or by whoever quantized it alike before. VALUE_NONE: reported. */
ValueId insert_or_share(Inserter *q, const Site *s, ValueId old);
/* `id` with these inputs; the value itself where they are its own. */
void insert_rewrite(Inserter *q, ValueId id, const ValueId *in);
/* By a run of this pass before. */
bool insert_is_quantized(const Graph *g, ValueId x);
/* An input of the network, in whatever shape. */
bool insert_is_given(const Graph *g, ValueId x);
/* `name`, or with a number behind it where it is taken. */
const char *insert_unique_name(Inserter *q, const char *name);
/* A network that brings a leaf of that name would get two of them. False: reported. */
bool insert_check_name(Inserter *q, const Graph *g, const char *name, const char *layer);

/* ---- insert_joins.c --------------------------------------------------------------------------------------------- */

/* False: reported. */
bool joins_find(Inserter *q, const Graph *g);
bool joins_check_names(Inserter *q, const Graph *g);
bool joins_rewrite(Inserter *q, const Join *j);

#endif
