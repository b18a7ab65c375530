/* report_pictures.c: the same test picture through several runs: noisy, what each made of it, clean, with PSNR and SSIM
 * of what is shown. Pictures are PNG in the page itself.
 *
 * Runs stand in one strip when they saw the same noisy picture, byte by byte; noise that was made anew, or another
 * crop, is another strip. Tested by tests/unit/test_report.c. */
#include "cli/report.h"
#include "runtime/metrics.h"

#include <math.h>
#include <string.h>

/* ---- base64 ------------------------------------------------------------------------------------------------------ */

static void add_base64(Str *out, const uint8_t *data, size_t bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < bytes; i += 3) {
        size_t   n = bytes - i < 3 ? bytes - i : 3;
        uint32_t bits = (uint32_t)data[i] << 16 | (n > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (n > 2 ? data[i + 2] : 0);
        char     four[4];
        for (size_t k = 0; k < 4; k++)
            four[k] = k <= n ? digits[bits >> (18 - 6 * k) & 63] : '=';
        str_addn(out, four, 4);
    }
}

/* ---- One picture ------------------------------------------------------------------------------------------------- */

/* "32.10 dB, SSIM 0.8123" */
static void add_score(Str *out, const Picture *got, const Picture *want)
{
    PictureScore s = picture_score(got, want);
    if (isinf(s.psnr))
        str_add(out, "the same as the clean one");
    else
        str_printf(out, "%.2f dB, SSIM ", s.psnr);
    if (!isinf(s.psnr))
        html_number(out, s.ssim, 4);
}

static void add_picture(Str *out, const RunPicture *p, PictureKind kind, const char *label, int32_t run)
{
    str_add(out, "<figure><img alt=\"");
    html_text(out, p->name);
    str_add(out, ", ");
    html_text(out, label);
    str_printf(out, "\" width=\"%d\" height=\"%d\" src=\"data:image/png;base64,", p->picture[kind].w,
               p->picture[kind].h);
    add_base64(out, p->png[kind], p->bytes[kind]);
    str_add(out, "\"><figcaption>");
    if (run >= 0)
        str_printf(out, "<span class=\"c%d\"><i></i></span>", run % REPORT_COLOURS);
    str_add(out, "<b>");
    html_text(out, label);
    str_add(out, "</b>");
    if (kind != PICTURE_CLEAN) {
        str_add(out, "<br>");
        add_score(out, &p->picture[kind], &p->picture[PICTURE_CLEAN]);
    }
    str_add(out, "</figcaption></figure>\n");
}

/* ---- Strips ------------------------------------------------------------------------------------------------------ */

static bool same_picture(const Picture *x, const Picture *y)
{
    return x->c == y->c && x->h == y->h && x->w == y->w &&
           memcmp(x->pixels, y->pixels, (size_t)x->c * (size_t)x->h * (size_t)x->w) == 0;
}

/* The picture of run `i` that belongs into the strip of `p`; NULL: it has none. */
static const RunPicture *like(const ReportRun *r, const RunPicture *p)
{
    for (int32_t i = 0; i < r->pictures.at.len; i++) {
        const RunPicture *x = &r->pictures.at.at[i];
        if (same_picture(&x->picture[PICTURE_NOISY], &p->picture[PICTURE_NOISY]) &&
            same_picture(&x->picture[PICTURE_CLEAN], &p->picture[PICTURE_CLEAN]))
            return x;
    }
    return NULL;
}

/* Has an earlier run begun this strip? */
static bool was_shown(const Report *r, int32_t run, const RunPicture *p)
{
    for (int32_t i = 0; i < run; i++)
        if (like(&r->runs[i], p) != NULL)
            return true;
    return false;
}

static void add_strip(Str *out, const Report *r, int32_t first, const RunPicture *p)
{
    str_add(out, "<h3>");
    html_text(out, p->name);
    str_add(out, "</h3><div class=\"strip\">\n");
    add_picture(out, p, PICTURE_NOISY, "noisy", -1);
    for (int32_t i = first; i < r->n; i++) {
        const RunPicture *x = like(&r->runs[i], p);
        if (x != NULL)
            add_picture(out, x, PICTURE_RESULT, r->runs[i].label, i);
    }
    add_picture(out, p, PICTURE_CLEAN, "clean", -1);
    str_add(out, "</div>\n");
}

void report_pictures(Str *out, const Report *r)
{
    bool begun = false;
    for (int32_t i = 0; i < r->n; i++)
        for (int32_t k = 0; k < r->runs[i].pictures.at.len; k++) {
            const RunPicture *p = &r->runs[i].pictures.at.at[k];
            if (was_shown(r, i, p))
                continue;
            if (!begun)
                str_add(out, "<section><h2>Pictures</h2>\n<p>The first test pictures, large ones cut to their middle, "
                             "with the best weights of each run. PSNR and SSIM are of what is shown, against the clean "
                             "picture.</p>\n");
            begun = true;
            add_strip(out, r, i, p);
        }
    str_add(out, begun ? "</section>\n" : "");
}
