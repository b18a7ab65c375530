/* transform.c: kernel_collapse. It makes long axes of short ones (n, h, w -> p), which is what backends want: the
 * flattened order of red axes is kept, and the order of par axes has no meaning. The axes of one kind count as
 * neighbours though axes of another kind are declared between them.
 *
 * Tested by tests/unit/test_kernel_ir.c: results before and after are the same bits. */

#include "ir/kernel/kernel_priv.h"

/* ---- Collapse ---------------------------------------------------------------------------------------------------- */

static bool has_address(const KInst *in)
{
    return in->op == K_LOAD || in->op == K_STORE || in->op == K_INDEX;
}

/* Does every address step along `outer` as one full walk along `inner` does? */
static bool is_one_walk(const Kernel *k, int32_t outer, int32_t inner)
{
    for (int32_t i = 0; i < k->insts.len; i++) {
        const KInst *in = &k->insts.at[i];
        if (has_address(in) && in->addr.coef[outer] != in->addr.coef[inner] * k->axes[inner].extent)
            return false;
    }
    return true;
}

/* Takes axis `gone` out; nothing may step along it any more. */
static void remove_axis(Kernel *k, int32_t gone)
{
    for (int32_t i = gone; i + 1 < k->n_axes; i++)
        k->axes[i] = k->axes[i + 1];
    k->n_axes--;
    if (k->vec > gone)
        k->vec--;
    for (int32_t i = 0; i < k->insts.len; i++) {
        KInst *in = &k->insts.at[i];
        for (int32_t j = gone; j + 1 < KERNEL_MAX_AXES; j++)
            in->addr.coef[j] = in->addr.coef[j + 1];
        in->addr.coef[KERNEL_MAX_AXES - 1] = 0;
        if (in->op == K_LOOP && in->imm.i > gone)
            in->imm.i--;
    }
}

/* The next axis of the same kind, -1 without one. */
static int32_t next_of_kind(const Kernel *k, int32_t axis)
{
    for (int32_t i = axis + 1; i < k->n_axes; i++)
        if (k->axes[i].kind == k->axes[axis].kind)
            return i;
    return -1;
}

static int32_t count_kind(const Kernel *k, AxisKind kind)
{
    int32_t n = 0;
    for (int32_t i = 0; i < k->n_axes; i++)
        n += k->axes[i].kind == kind;
    return n;
}

static bool merge_one(Kernel *k)
{
    for (int32_t outer = 0; outer < k->n_axes; outer++) {
        int32_t inner = next_of_kind(k, outer);
        if (k->axes[outer].kind == AXIS_SEQ || inner < 0 || outer == k->vec || k->axes[outer].seg_col >= 0 ||
            k->axes[inner].seg_col >= 0 || !is_one_walk(k, outer, inner))
            continue;
        k->axes[inner].extent *= k->axes[outer].extent;
        if (k->vec != inner)
            k->axes[inner].name = k->axes[outer].name;
        remove_axis(k, outer);
        return true;
    }
    return false;
}

/* The vec axis stays, whatever its extent: merging segments needs it. So does the last red axis of a reduction. */
static bool drop_one(Kernel *k)
{
    for (int32_t i = 0; i < k->n_axes; i++) {
        const Axis *x = &k->axes[i];
        if (x->kind == AXIS_SEQ || x->seg_col >= 0 || x->extent != 1 || i == k->vec)
            continue;
        if (x->kind == AXIS_RED && count_kind(k, AXIS_RED) == 1 && kernel_has_reduction(k))
            continue;
        remove_axis(k, i);
        return true;
    }
    return false;
}

void kernel_collapse(Kernel *k)
{
    while (drop_one(k) || merge_one(k))
        continue;
}
