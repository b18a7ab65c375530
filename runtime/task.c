/* task.c: what classification and restoration do not share: which outputs of a program judge an answer, what is
 * measured, what makes one epoch better than another. One row of a table for each; the loop knows the rows alone.
 *
 *   classification   top-1, and top-5 where there are more than five classes, from the program's own counts
 *   restoration      PSNR and SSIM of the network's result against the clean picture (metrics.h)
 *
 * Tested by tests/unit/test_train.c and test_restore.c. */
#include "runtime/runtime_impl.h"

#include <math.h>

const MeasureInfo measure_infos[MEASURE_COUNT] = {
    [MEASURE_TOP1] = { "top1", "top-1", "%", 2 },
    [MEASURE_TOP5] = { "top5", "top-5", "%", 2 },
    [MEASURE_PSNR] = { "psnr", "PSNR", " dB", 2 },
    [MEASURE_SSIM] = { "ssim", "SSIM", "", 4 },
};

void measure_say(Str *out, Measure m, double value)
{
    const MeasureInfo *info = &measure_infos[m];
    str_printf(out, "%s %.*f%s", info->text, info->decimals, value, info->unit);
}

/* ---- Classification -------------------------------------------------------------------------------------------- */

/* An output with one number a sample. NULL: reported. */
static const ProgTensor *need_each(Diag *d, const Evaluator *e, const char *name)
{
    return program_need(d, e->eval.program, TENSOR_OUTPUT, name, DTYPE_F32, 2,
                        (const int64_t[]){ e->in.image->dim[0], 1 });
}

static bool bind_classes(Diag *d, Evaluator *e)
{
    e->correct_each = need_each(d, e, "correct_each");
    if (program_tensor(e->eval.program, "correct5_each")) {
        e->correct5_each = need_each(d, e, "correct5_each");
        if (!e->correct5_each)
            return false;
    }
    e->measured[MEASURE_TOP1] = true;
    e->measured[MEASURE_TOP5] = e->correct5_each != NULL;
    return e->correct_each != NULL;
}

/* `t` NULL: nothing to add. */
static bool add_each(const Evaluator *e, const ProgTensor *t, int64_t number, int32_t valid, double *sum)
{
    const float *each = t ? exec_output(e->eval.exec, e->eval.index, t, number) : NULL;
    for (int32_t i = 0; each && i < valid; i++)
        *sum += (double)each[i];
    return !t || each;
}

static bool add_classes(Evaluator *e, int64_t number, int32_t valid)
{
    return add_each(e, e->correct_each, number, valid, &e->sum[MEASURE_TOP1]) &&
           add_each(e, e->correct5_each, number, valid, &e->sum[MEASURE_TOP5]);
}

/* ---- Restoration ----------------------------------------------------------------------------------------------- */

static bool bind_pairs(Diag *d, Evaluator *e)
{
    e->answer = program_need(d, e->eval.program, TENSOR_OUTPUT, "logits", DTYPE_F32, 4, e->in.target->dim);
    e->measured[MEASURE_PSNR] = e->measured[MEASURE_SSIM] = true;
    return e->answer != NULL;
}

static MetricPicture picture_of(const ProgTensor *t, const float *at, int32_t sample)
{
    return metric_picture(at + (int64_t)sample * (t->elems / t->dim[0]), (int32_t)t->dim[1], (int32_t)t->dim[2],
                          (int32_t)t->dim[3], t->nhwc);
}

/* Sample `i` as it was before it was normalised. */
static const float *input_picture(const Evaluator *e, Arena *a, int32_t i)
{
    const ProgTensor *t = e->in.image;
    const int64_t     each = t->elems / t->dim[0], c = t->dim[1], plane = each / c;
    float            *out = arena_copy(a, e->batch.at.image + i * each, sizeof(float) * (size_t)each);
    const Normalise  *n = &e->normalise;
    for (int64_t k = 0; k < each; k++) {
        const int64_t channel = t->nhwc ? k % c : k / plane;
        if (n->std[channel] > 0)
            out[k] = out[k] * n->std[channel] + n->mean[channel];
    }
    return out;
}

/* What the pictures that went in are worth themselves: the first time alone, they stay the same. */
static void add_inputs(Evaluator *e, int32_t valid)
{
    for (int32_t i = 0; i < valid && !e->has_input; i++) {
        Arena         a = arena_new("input");
        MetricPicture want = picture_of(e->in.target, e->batch.at.target, i), got = want;
        got.at = input_picture(e, &a, i);
        PictureScore s = metric_compare(&got, &want, e->ssim);
        e->input[MEASURE_PSNR] += psnr_counted(s.psnr);
        e->input[MEASURE_SSIM] += s.ssim;
        arena_free(&a);
    }
}

static bool add_pairs(Evaluator *e, int64_t number, int32_t valid)
{
    add_inputs(e, valid);
    const float *answer = exec_output(e->eval.exec, e->eval.index, e->answer, number);
    for (int32_t i = 0; answer && i < valid; i++) {
        MetricPicture got = picture_of(e->answer, answer, i), want = picture_of(e->in.target, e->batch.at.target, i);
        PictureScore  s = metric_compare(&got, &want, e->ssim);
        e->sum[MEASURE_PSNR] += psnr_counted(s.psnr);
        e->sum[MEASURE_SSIM] += s.ssim;
    }
    return answer != NULL;
}

/* ---- The table ------------------------------------------------------------------------------------------------- */

static const TaskInfo tasks[] = {
    [DATA_CLASSES] = { .counts_correct = true,
                       .score = MEASURE_TOP1,
                       .loss_decimals = 4,
                       .bind = bind_classes,
                       .add = add_classes,
                       .factor = 100 },
    [DATA_PAIRS] = { .looks_at_batch = true,
                     .score = MEASURE_PSNR,
                     .loss_decimals = 6,
                     .bind = bind_pairs,
                     .add = add_pairs,
                     .factor = 1 },
};

const TaskInfo *task_of(const Dataset *data)
{
    return &tasks[dataset_task(data)];
}
