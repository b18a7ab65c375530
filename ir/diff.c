/* diff.c: what changed between two texts, in unified form with three lines of context.
 *
 * E. W. Myers: "An O(ND) difference algorithm and its variations", Algorithmica 1 (1986), in its linear-space form: the
 * middle of a shortest edit script is found from both ends, and the halves are solved alike. Lines are numbered first,
 * equal lines alike, so that comparing is comparing integers.
 *
 * Tested by tests/unit/test_ir_text.c. */
#include "ir/ir.h"

#include <string.h>

enum { CONTEXT = 3 };

/* A line with its line end; the last may have none. */
typedef struct Line {
    const char *s;
    size_t      len;
    int32_t     number;  /* equal lines have equal numbers */
    bool        changed; /* removed from the old text or added by the new */
} Line;

typedef struct Text {
    Line   *at;
    int32_t n;
} Text;

typedef struct Diff {
    Text     a, b;
    int32_t *fwd, *back; /* what is reached on each diagonal, from both ends; index 0 is in the middle of the array */
} Diff;

/* ---- Lines ----------------------------------------------------------------------------------------------------- */

static Text split(Arena *a, const char *s, StrMap *numbers)
{
    VEC(Line) lines = { 0 };
    while (*s) {
        const char *end = strchr(s, '\n');
        size_t      len = end ? (size_t)(end - s) + 1 : strlen(s);
        const char *key = arena_strndup(a, s, len);
        int32_t     number = strmap_get(numbers, key);
        if (number < 0) {
            number = numbers->len;
            strmap_put(numbers, key, number);
        }
        vec_push(a, &lines, (Line){ s, len, number, false });
        s += len;
    }
    return (Text){ lines.at, lines.len };
}

/* ---- Shortest edit script -------------------------------------------------------------------------------------- */

typedef struct Box {
    int32_t a0, a1, b0, b1; /* lines [a0, a1) of the old text against [b0, b1) of the new */
} Box;

enum { NOWHERE = -(1 << 30) };

/* The furthest line of the first text to which d edits lead on diagonal k, from what d - 1 edits reached: to the right
 * from the diagonal below, or down from the one above. */
static int32_t furthest(const int32_t *reached, int32_t d, int32_t k, int32_t n, int32_t m)
{
    if (d == 0)
        return 0;
    int32_t right = k > -d ? reached[k - 1] + 1 : NOWHERE;
    int32_t down = k < d ? reached[k + 1] : NOWHERE;
    if (right > n)
        right = NOWHERE;
    if (down - k > m)
        down = NOWHERE;
    return right > down ? right : down;
}

/* A point on a shortest path through the box, not at its corners. The two searches extend paths of d edits from both
 * ends until they meet on a diagonal (a - b = k, counted from the end at which the search began). */
static void find_middle(const Diff *f, Box x, int32_t *ma, int32_t *mb)
{
    int32_t n = x.a1 - x.a0, m = x.b1 - x.b0, delta = n - m;
    for (int32_t d = 0;; d++) {
        for (int32_t k = -d; k <= d; k += 2) {
            int32_t i = furthest(f->fwd, d, k, n, m);
            while (i >= 0 && i < n && i - k < m && f->a.at[x.a0 + i].number == f->b.at[x.b0 + i - k].number)
                i++;
            f->fwd[k] = i;
            int32_t r = delta - k; /* this diagonal, counted from the other end */
            if ((delta & 1) && r > -d && r < d && i + f->back[r] >= n) {
                *ma = x.a0 + i;
                *mb = x.b0 + i - k;
                return;
            }
        }
        for (int32_t k = -d; k <= d; k += 2) {
            int32_t i = furthest(f->back, d, k, n, m);
            while (i >= 0 && i < n && i - k < m && f->a.at[x.a1 - 1 - i].number == f->b.at[x.b1 - 1 - i + k].number)
                i++;
            f->back[k] = i;
            int32_t r = delta - k;
            if (!(delta & 1) && r >= -d && r <= d && i + f->fwd[r] >= n) {
                *ma = x.a1 - i;
                *mb = x.b1 - i + k;
                return;
            }
        }
    }
}

static void mark_changes(const Diff *f, Box x)
{
    while (x.a0 < x.a1 && x.b0 < x.b1 && f->a.at[x.a0].number == f->b.at[x.b0].number)
        x.a0++, x.b0++;
    while (x.a0 < x.a1 && x.b0 < x.b1 && f->a.at[x.a1 - 1].number == f->b.at[x.b1 - 1].number)
        x.a1--, x.b1--;
    if (x.a0 == x.a1 || x.b0 == x.b1) {
        for (int32_t i = x.a0; i < x.a1; i++)
            f->a.at[i].changed = true;
        for (int32_t i = x.b0; i < x.b1; i++)
            f->b.at[i].changed = true;
        return;
    }
    int32_t ma, mb;
    find_middle(f, x, &ma, &mb);
    mark_changes(f, (Box){ x.a0, ma, x.b0, mb });
    mark_changes(f, (Box){ ma, x.a1, mb, x.b1 });
}

/* ---- Hunks ----------------------------------------------------------------------------------------------------- */

static void print_line(Str *out, char sign, const Line *l)
{
    str_addn(out, &sign, 1);
    str_addn(out, l->s, l->len);
    if (l->s[l->len - 1] != '\n')
        str_add(out, "\n\\ No newline at end of file\n");
}

/* "12,7"; an empty range is named by the line before it. */
static void print_range(Str *out, char sign, int32_t from, int32_t to)
{
    if (to - from == 1)
        str_printf(out, " %c%d", sign, from + 1);
    else
        str_printf(out, " %c%d,%d", sign, to == from ? from : from + 1, to - from);
}

/* Walks both texts over the changes from (i, j) on: to behind the last one that is at most two contexts from the next.
 */
static void hunk_end(const Diff *f, int32_t i, int32_t j, int32_t *a1, int32_t *b1)
{
    int32_t same = 0;
    while ((i < f->a.n || j < f->b.n) && same <= 2 * CONTEXT) {
        bool gone = i < f->a.n && f->a.at[i].changed, new = j < f->b.n && f->b.at[j].changed;
        if (gone || new) {
            i += gone;
            j += !gone && new;
            same = 0;
            *a1 = i;
            *b1 = j;
        } else {
            i++, j++, same++;
        }
    }
}

static void print_hunk(Str *out, const Diff *f, Box x)
{
    str_add(out, "@@");
    print_range(out, '-', x.a0, x.a1);
    print_range(out, '+', x.b0, x.b1);
    str_add(out, " @@\n");
    for (int32_t i = x.a0, j = x.b0; i < x.a1 || j < x.b1;) {
        if (i < x.a1 && f->a.at[i].changed) {
            print_line(out, '-', &f->a.at[i++]);
        } else if (j < x.b1 && f->b.at[j].changed) {
            print_line(out, '+', &f->b.at[j++]);
        } else {
            print_line(out, ' ', &f->a.at[i++]);
            j++;
        }
    }
}

static void print_hunks(Str *out, const Diff *f)
{
    for (int32_t i = 0, j = 0; i < f->a.n || j < f->b.n;) {
        if (!(i < f->a.n && f->a.at[i].changed) && !(j < f->b.n && f->b.at[j].changed)) {
            i++, j++;
            continue;
        }
        int32_t before = i < CONTEXT ? i : CONTEXT, a1 = i, b1 = j;
        hunk_end(f, i, j, &a1, &b1);
        int32_t after = f->a.n - a1 < CONTEXT ? f->a.n - a1 : CONTEXT;
        print_hunk(out, f, (Box){ i - before, a1 + after, j - before, b1 + after });
        i = a1;
        j = b1;
    }
}

void text_diff(Str *out, const char *old_name, const char *old_text, const char *new_name, const char *new_text)
{
    if (strcmp(old_text, new_text) == 0)
        return;
    Arena  scratch = arena_new("diff");
    StrMap numbers = strmap_new(&scratch);
    Diff   f = { .a = split(&scratch, old_text, &numbers), .b = split(&scratch, new_text, &numbers) };
    /* Diagonals lie between -reach and reach: a search stops at the latest when it has walked half of both texts. */
    int32_t reach = (f.a.n + f.b.n) / 2 + 2;
    f.fwd = ARENA_ARRAY(&scratch, int32_t, 2 * reach + 1) + reach;
    f.back = ARENA_ARRAY(&scratch, int32_t, 2 * reach + 1) + reach;
    mark_changes(&f, (Box){ 0, f.a.n, 0, f.b.n });
    str_printf(out, "--- %s\n+++ %s\n", old_name, new_name);
    print_hunks(out, &f);
    arena_free(&scratch);
}
