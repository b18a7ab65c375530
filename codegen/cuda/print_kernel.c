/* print_kernel.c: one kernel: tables of rows, parameters, where a block and a thread stand; the whole of MAP.
 *
 * Tested by tests/unit/test_cuda.c. */
#include <inttypes.h>
#include <string.h>

#include "codegen/cuda/print.h"

/* ---- Numbers of rows -------------------------------------------------------------------------------------------- */

static const char *const field_names[FIELD_COUNT] = {
    [FIELD_BLOCK] = "first_block",
    [FIELD_WORK] = "work",
    [FIELD_RED] = "red",
    [FIELD_CHUNKS] = "chunks",
    [FIELD_RUN] = "run",
    [FIELD_GROUPS] = "groups",
    [FIELD_TICKET] = "first_ticket",
    [FIELD_SCRATCH] = "first_part",
};

static bool fits_int(const int64_t *x, int32_t n, int32_t step)
{
    for (int32_t i = 0; i < n; i++)
        if (x[i * step] < INT32_MIN || x[i * step] > INT32_MAX)
            return false;
    return true;
}

const char *field_of(Printer *p, ScheduleField f)
{
    int64_t value;
    if (!schedule_field(p->s, f, &value))
        return field_names[f];
    return arena_printf(p->a, "%" PRId64 "%s", value, value > UINT32_MAX ? "ull" : "u");
}

const char *extent_of(Printer *p, int32_t axis)
{
    int64_t extent;
    if (!schedule_extent(p->s, axis, &extent))
        return p->int_names[p->k->axes[axis].seg_col];
    return arena_printf(p->a, "%" PRId64 "%s", extent, extent > INT32_MAX ? "ll" : "");
}

enum { LINE = 120, MOST_CONSTANT_ROWS = 160, MOST_COUNTED_ROWS = 64 };

/* Adds `item`, on a new line where this one would become too long; *line: where the line began. */
void put_item(Str *out, size_t *line, const char *indent, const char *item)
{
    if (out->len - *line + strlen(item) > LINE) {
        while (out->s[out->len - 1] == ' ')
            out->s[--out->len] = 0;
        str_add(out, "\n");
        *line = out->len;
        str_add(out, indent);
    }
    str_add(out, item);
}

/* Constant memory is 64 KiB for all kernels together. */
static size_t open_table(Printer *p, const char *type, const char *name)
{
    size_t line = p->out->len;
    str_printf(p->out, "static %s const %s %s_%s[%d] = { ",
               p->s->n_rows <= MOST_CONSTANT_ROWS ? "__constant__" : "__device__", type, p->entry, name, p->s->n_rows);
    return line;
}

static void table_of_ints(Printer *p, const char *type, const char *name, const int64_t *x, int32_t step)
{
    size_t line = open_table(p, type, name);
    for (int32_t row = 0; row < p->s->n_rows; row++)
        put_item(p->out, &line, "    ",
                 arena_printf(p->a, "%" PRId64 "%s", x[row * step], row + 1 < p->s->n_rows ? ", " : " };\n"));
}

static const char *field_type(const Printer *p, ScheduleField f)
{
    return fits_int(&p->s->rows[0][f], p->s->n_rows, FIELD_COUNT) ? "unsigned" : "unsigned long long";
}

static bool needs_field(const Printer *p, ScheduleField f)
{
    const Schedule *s = p->s;
    int64_t         value;
    bool            fold = s->kind == SCHEDULE_FOLD, grid = fold && s->end == END_GRID;
    if (schedule_field(s, f, &value))
        return false;
    switch (f) {
    case FIELD_BLOCK:
    case FIELD_WORK:
        return true;
    case FIELD_RED:
        return fold && !s->even;
    case FIELD_CHUNKS:
    case FIELD_RUN:
        return fold && s->end != END_SLOT;
    case FIELD_SCRATCH:
        return grid && s->n_acc > 0;
    default:
        return grid;
    }
}

/* Is the axis's extent asked for? The only red axis is counted by the row's own numbers. */
static bool uses_extent(const Schedule *s, int32_t axis)
{
    return s->kind == SCHEDULE_MAP || s->n_red != 1 || s->red[0] != axis;
}

static bool uses_column(const Schedule *s, int32_t col, bool is_float)
{
    const Kernel *k = s->k;
    for (int32_t i = 0; i < k->n_axes && !is_float; i++)
        if (k->axes[i].seg_col == col && uses_extent(s, i))
            return true;
    for (int32_t v = 0; v < k->insts.len; v++) {
        const KInst *in = &k->insts.at[v];
        if (is_float ? in->op == K_SEGF && in->imm.i == col : in->addr.seg_col == col)
            return true;
    }
    return false;
}

static void table_of_floats(Printer *p, int32_t col)
{
    const SegTable *t = &p->k->seg;
    size_t          line = open_table(p, "float", p->float_names[col]);
    for (int32_t row = 0; row < t->rows; row++) {
        KInst c = { .op = K_CONST, .type = KT_F32, .imm = { .f = t->floats[row * t->float_cols + col] } };
        put_item(p->out, &line, "    ",
                 arena_printf(p->a, "%s%s", literal_of(p, &c), row + 1 < t->rows ? ", " : " };\n"));
    }
}

static const char *column_type(const Printer *p, int32_t col)
{
    return fits_int(&p->k->seg.ints[col], p->k->seg.rows, p->k->seg.int_cols) ? "int" : "long long";
}

static void print_tables(Printer *p)
{
    const SegTable *t = &p->k->seg;
    if (p->s->n_rows == 1)
        return;
    for (int32_t f = 0; f < FIELD_COUNT; f++)
        if (f == FIELD_BLOCK || needs_field(p, (ScheduleField)f))
            table_of_ints(p, field_type(p, (ScheduleField)f), field_names[f], &p->s->rows[0][f], FIELD_COUNT);
    for (int32_t col = 0; col < t->int_cols; col++)
        if (!p->int_fixed[col] && uses_column(p->s, col, false))
            table_of_ints(p, column_type(p, col), p->int_names[col], &t->ints[col], t->int_cols);
    for (int32_t col = 0; col < t->float_cols; col++)
        if (!p->float_fixed[col] && uses_column(p->s, col, true))
            table_of_floats(p, col);
}

/* Few rows are counted: all comparisons at once. Else a search, one after the other. */
static void print_find_row(Printer *p)
{
    if (p->s->n_rows > MOST_COUNTED_ROWS) {
        prelude_use(p->prelude, "find_row");
        put(p, "const int row = find_row(%s_first_block, %d, blockIdx.x);", p->entry, p->s->n_rows);
        return;
    }
    put(p, "int row = 0;");
    put(p, "#pragma unroll");
    put(p, "for (int e = 1; e < %d; e++)", p->s->n_rows);
    put(p, "    row += %s_first_block[e] <= blockIdx.x ? 1 : 0;", p->entry);
}

/* Which row the block works for, and its numbers. `block` counts from the row's first. */
static void print_row(Printer *p)
{
    const SegTable *t = &p->k->seg;
    if (p->s->n_rows == 1)
        return;
    print_find_row(p);
    put(p, "const unsigned block = blockIdx.x - %s_first_block[row];", p->entry);
    for (int32_t f = FIELD_BLOCK + 1; f < FIELD_COUNT; f++)
        if (needs_field(p, (ScheduleField)f))
            put(p, "const %s %s = %s_%s[row];", field_type(p, (ScheduleField)f), field_names[f], p->entry,
                field_names[f]);
    for (int32_t col = 0; col < t->int_cols; col++)
        if (!p->int_fixed[col] && uses_column(p->s, col, false))
            put(p, "const %s %s = %s_%s[row];", column_type(p, col), p->int_names[col], p->entry, p->int_names[col]);
    for (int32_t col = 0; col < t->float_cols; col++)
        if (!p->float_fixed[col] && uses_column(p->s, col, true))
            put(p, "const float %s = %s_%s[row];", p->float_names[col], p->entry, p->float_names[col]);
}

const char *block_of(const Printer *p)
{
    return p->s->n_rows == 1 ? "blockIdx.x" : "block";
}

/* ---- Axes from flat numbers ------------------------------------------------------------------------------------- */

static const char *axis_type(const Printer *p, int32_t axis)
{
    for (int32_t row = 0; row < p->s->n_rows; row++)
        if (kernel_extent(p->k, axis, row) > INT32_MAX)
            return "long long";
    return "int";
}

/* Extents differ by row: one division after the other. */
static void print_axes_by_rest(Printer *p, const Flat *f, const int32_t *axes, int32_t n)
{
    if (n > 0)
        put(p, "%s rest = %s;", f->wide ? "unsigned long long" : "unsigned", flat_text(p, f, 1));
    for (int32_t i = n - 1; i >= 0; i--) {
        const char *type = axis_type(p, axes[i]), *name = p->axis_names[axes[i]];
        if (i == 0) {
            put(p, "const %s %s = rest;", type, name);
            return;
        }
        put(p, "const %s %s = rest %% (unsigned)%s;", type, name, extent_of(p, axes[i]));
        put(p, "rest /= (unsigned)%s;", extent_of(p, axes[i]));
    }
}

/* "flat / 12u" */
const char *flat_text(Printer *p, const Flat *f, int64_t divisor)
{
    if (f->by)
        return divisor == 1 ? arena_printf(p->a, "%s / %s", f->name, f->by)
                            : arena_printf(p->a, "%s / %s / %" PRId64 "u", f->name, f->by, divisor);
    divisor *= f->divisor;
    return divisor == 1
               ? f->name
               : arena_printf(p->a, "%s / %" PRId64 "%s", f->name, divisor, divisor > UINT32_MAX ? "ull" : "u");
}

void print_axes(Printer *p, const Flat *f, const int32_t *axes, int32_t n)
{
    int64_t extent, divisor = 1;
    for (int32_t i = 1; i < n; i++)
        if (!schedule_extent(p->s, axes[i], &extent)) {
            print_axes_by_rest(p, f, axes, n);
            return;
        }
    for (int32_t i = n - 1; i >= 0; i--) {
        const char *type = axis_type(p, axes[i]), *name = p->axis_names[axes[i]], *flat = flat_text(p, f, divisor);
        schedule_extent(p->s, axes[i], &extent);
        if (i == 0)
            put(p, "const %s %s = %s;", type, name, flat);
        else
            put(p, "const %s %s = %s %% %" PRId64 "u;", type, name, flat, dt_max64(extent, 1));
        divisor *= dt_max64(extent, 1);
    }
}

/* ---- MAP -------------------------------------------------------------------------------------------------------- */

/* Threads along the vec axis, as text; *fixed: as a number, 0 when it differs by row. */
static const char *steps_of(Printer *p, int32_t step, int64_t *fixed)
{
    int64_t extent;
    if (schedule_extent(p->s, p->s->vec, &extent)) {
        *fixed = dt_max64(1, dt_ceil_div(extent, step));
        return arena_printf(p->a, "%" PRId64 "u", *fixed);
    }
    *fixed = 0;
    if (step == 1)
        return arena_printf(p->a, "(unsigned)%s", extent_of(p, p->s->vec));
    return arena_printf(p->a, "((unsigned)(%s + %d) / %du)", extent_of(p, p->s->vec), step - 1, step);
}

/* vec axis = steps * step + within, the others from what is left of the flat number. */
void print_flat_axes(Printer *p, const char *flat, bool wide, int32_t step, const char *within)
{
    const Schedule *s = p->s;
    Flat            rest = { .name = flat, .divisor = 1, .wide = wide };
    if (s->vec >= 0) {
        const char *steps = steps_of(p, step, &rest.divisor), *at = flat;
        if (s->n_outer > 0)
            at = arena_printf(p->a, "%s %% %s", flat, steps);
        if (rest.divisor == 1) /* one step: always 0 */
            at = within ? within : "0";
        else if (step > 1)
            at = arena_printf(p->a, "%s * %du%s%s", at, step, within ? " + " : "", within ? within : "");
        put(p, "const %s %s = %s;", axis_type(p, s->vec), p->axis_names[s->vec], at);
        if (rest.divisor == 0)
            rest.by = steps, rest.divisor = 1;
    }
    print_axes(p, &rest, s->outer, s->n_outer);
}

static void print_map(Printer *p)
{
    const Schedule *s = p->s;
    int64_t         work;
    bool            fixed = schedule_field(s, FIELD_WORK, &work), wide = s->grid * s->block * s->width > UINT32_MAX;
    put(p, "const %s point = %s%s * %du + threadIdx.x;", wide ? "unsigned long long" : "unsigned",
        wide ? "(unsigned long long)" : "", block_of(p), s->block);
    if (!fixed || work == 0 || work % s->block != 0) {
        put(p, "if (point >= %s)", field_of(p, FIELD_WORK));
        put(p, "    return;");
    }
    print_flat_axes(p, "point", wide, s->width, NULL);
    if (s->ragged) {
        bool far = str_eq(axis_type(p, s->vec), "long long");
        put(p, "const int count = %smin(%d%s, %s - %s);", far ? "(int)" : "", s->width, far ? "ll" : "",
            extent_of(p, s->vec), p->axis_names[s->vec]);
    }
    print_region(p, &p->k->body);
}

/* ---- The function ----------------------------------------------------------------------------------------------- */

static void print_parameters(Printer *p, size_t line)
{
    bool        parts = p->s->scratch_bytes > 0;
    const char *indent = "    ", *end = parts ? ", " : ")\n";
    str_add(p->out, "(");
    for (int32_t i = 0; i < p->k->bufs.len; i++) {
        const KBuf *b = &p->k->bufs.at[i];
        bool        shared = p->s->bufs[i].body_stores && p->s->bufs[i].final_loads; /* by other threads */
        put_item(p->out, &line, indent,
                 arena_printf(p->a, "%s%s *%s%s%s", b->mode == BUF_IN ? "const " : "", ctype_of_dtype(b->dtype),
                              shared ? "" : "__restrict__ ", p->buf_names[i], i + 1 < p->k->bufs.len ? ", " : end));
    }
    if (parts) {
        put_item(p->out, &line, indent, "float *scratch, ");
        put_item(p->out, &line, indent, "unsigned *tickets)\n");
    } else if (p->k->bufs.len == 0) {
        str_add(p->out, ")\n");
    }
}

static bool same_floats(const SegTable *t, int32_t col)
{
    for (int32_t row = 1; row < t->rows; row++)
        if (t->floats[row * t->float_cols + col] != t->floats[col])
            return false;
    return true;
}

static void choose_names(Printer *p)
{
    const Kernel *k = p->k;
    int64_t       value;
    p->taken = strmap_new(p->a);
    for (int32_t f = 0; f < FIELD_COUNT; f++)
        strmap_put(&p->taken, field_names[f], 1);
    strmap_put(&p->taken, p->entry, 1);
    p->axis_names = ARENA_ARRAY(p->a, const char *, k->n_axes + 1);
    p->buf_names = ARENA_ARRAY(p->a, const char *, k->bufs.len + 1);
    p->int_names = ARENA_ARRAY(p->a, const char *, k->seg.int_cols + 1);
    p->float_names = ARENA_ARRAY(p->a, const char *, k->seg.float_cols + 1);
    p->int_fixed = ARENA_ARRAY(p->a, bool, k->seg.int_cols + 1);
    p->float_fixed = ARENA_ARRAY(p->a, bool, k->seg.float_cols + 1);
    for (int32_t i = 0; i < k->n_axes; i++)
        p->axis_names[i] = name_new(p, k->axes[i].name);
    for (int32_t i = 0; i < k->bufs.len; i++)
        p->buf_names[i] = name_new(p, k->bufs.at[i].name);
    for (int32_t i = 0; i < k->seg.int_cols; i++) {
        p->int_names[i] = name_new(p, k->seg.int_names[i]);
        p->int_fixed[i] = schedule_column(p->s, i, &value);
    }
    for (int32_t i = 0; i < k->seg.float_cols; i++) {
        p->float_names[i] = name_new(p, k->seg.float_names[i]);
        p->float_fixed[i] = same_floats(&k->seg, i);
    }
}

void print_kernel(Str *out, Arena *a, Prelude *prelude, const Schedule *s, const char *entry)
{
    Printer p = { .a = a, .k = s->k, .s = s, .prelude = prelude, .entry = entry, .out = out };
    choose_names(&p);
    region_analyze(&p);
    print_tables(&p);
    /* reductions want registers for loads on their way rather than many blocks at a time */
    size_t line = out->len;
    str_printf(out, "extern \"C\" __global__ void __launch_bounds__(%d%s) %s", s->block,
               s->kind == SCHEDULE_FOLD ? ", 1" : "", entry);
    print_parameters(&p, line);
    str_add(out, "{\n");
    p.indent = 1;
    print_row(&p);
    if (s->kind == SCHEDULE_MAP)
        print_map(&p);
    else
        print_fold(&p);
    str_add(out, "}\n");
}
