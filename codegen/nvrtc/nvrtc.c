/* nvrtc.c: NVRTC loaded, asked what it can do, and called for one text.
 *
 * A call that fails is reported by its name in the library with its status, so that it can be looked up. What NVRTC
 * says of a text stands in its log, which is fetched whatever became of the text.
 *
 * Tested by tests/unit/test_nvrtc.c. */
#include "codegen/nvrtc/nvrtc.h"

#include <stdlib.h>
#include <string.h>

/* ---- Loading ----------------------------------------------------------------------------------------------------- */

static const DynFunc nvrtc_funcs[] = {
#define X(name, symbol, params) { symbol, offsetof(Nvrtc, name), false },
    NVRTC_FUNCS(X)
#undef X
        { "nvrtcGetErrorString", offsetof(Nvrtc, error_text), false },
};

static const char *const nvrtc_names[] = { "libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so", NULL };

static const DynLib      nvrtc_lib = {
         .what = "NVRTC",
         .names = nvrtc_names,
         .dirs = dynlib_gpu_dirs,
         .env = "DETENT_NVRTC",
         .beside = "libnvrtc-builtins.so.*",
         .install = "install the CUDA toolkit, or: pip install nvidia-cuda-nvrtc",
         .funcs = nvrtc_funcs,
         .n_funcs = DT_COUNT(nvrtc_funcs),
};

/* What to do about a status, where that is known. */
static const struct {
    NvrtcResult status;
    const char *help;
} nvrtc_helps[] = {
    { NVRTC_OUT_OF_MEMORY, "the compiler ran out of this machine's memory; end other programs" },
    { NVRTC_INVALID_OPTION, "this NVRTC does not know an option that Detent gives; install CUDA 12 or newer" },
    { NVRTC_BUILTIN_OPERATION_FAILURE, "libnvrtc-builtins.so of the same version must lie beside libnvrtc.so; install "
                                       "both again" },
    { NVRTC_INTERNAL_ERROR, "try another version of NVRTC: set DETENT_NVRTC to its file or directory" },
};

/* status == 0; else reports "nvrtc: SYMBOL: text (status)". */
static bool nvrtc_ok(Diag *d, const Nvrtc *t, const char *symbol, NvrtcResult status)
{
    if (status == NVRTC_SUCCESS)
        return true;
    diag_error(d, LOC_NONE, "nvrtc: %s failed: %s (%d)", symbol, t->error_text(status), status);
    if (t->path)
        diag_note(d, LOC_NONE, "the library is %s", t->path);
    for (int32_t i = 0; i < DT_COUNT(nvrtc_helps); i++)
        if (nvrtc_helps[i].status == status)
            diag_help(d, "%s", nvrtc_helps[i].help);
    return false;
}

static int by_number(const void *a, const void *b)
{
    return *(const int *)a - *(const int *)b;
}

bool nvrtc_query(Arena *a, Diag *d, Nvrtc *t)
{
    enum { MOST_SMS = 1000 }; /* a count beyond is no count */
    int count = 0;
    if (!nvrtc_ok(d, t, "nvrtcVersion", t->version(&t->version_major, &t->version_minor)) ||
        !nvrtc_ok(d, t, "nvrtcGetNumSupportedArchs", t->arch_count(&count)))
        return false;
    if (count < 1 || count > MOST_SMS) {
        diag_error(d, LOC_NONE, "nvrtc: expected at least one architecture that it makes code for, found %d", count);
        return false;
    }
    int *sms = ARENA_ARRAY(a, int, count);
    if (!nvrtc_ok(d, t, "nvrtcGetSupportedArchs", t->archs(sms)))
        return false;
    qsort(sms, (size_t)count, sizeof *sms, by_number);
    t->sms = sms;
    t->n_sms = count;
    return true;
}

const Nvrtc *nvrtc_load(Arena *a, Diag *d)
{
    Nvrtc *t = ARENA_NEW(a, Nvrtc);
    t->path = dynlib_open(a, d, &nvrtc_lib, t);
    return t->path && nvrtc_query(a, d, t) ? t : NULL;
}

/* ---- The log ----------------------------------------------------------------------------------------------------- */

/* "": nothing was said. NULL: reported. */
static const char *fetch_log(Arena *a, Diag *d, const Nvrtc *t, NvrtcProgram p)
{
    size_t bytes = 0;
    if (!nvrtc_ok(d, t, "nvrtcGetProgramLogSize", t->log_size(p, &bytes)))
        return NULL;
    char *log = arena_alloc(a, bytes + 1);
    return nvrtc_ok(d, t, "nvrtcGetProgramLog", t->log(p, log)) ? log : NULL;
}

/* A run of characters in a longer text. */
typedef struct Span {
    const char *at;
    size_t      len;
} Span;

static bool span_eq(Span a, Span b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static Span line_of(const char *at)
{
    return (Span){ at, strcspn(at, "\n") };
}

static const char *next_line(Span line)
{
    return line.at + line.len + (line.at[line.len] == '\n');
}

static Span trim(Span s)
{
    while (s.len > 0 && strchr(" \t\r", s.at[0]))
        s.at++, s.len--;
    while (s.len > 0 && strchr(" \t\r", s.at[s.len - 1]))
        s.len--;
    return s;
}

/* Where the log sees the first error: "FILE(LINE): error: ...", and below it that line of the text. */
typedef struct ErrorPlace {
    Span    file, quote;
    int32_t line;
} ErrorPlace;

static bool first_error(const char *log, ErrorPlace *out)
{
    for (Span l = line_of(log); *l.at; l = line_of(next_line(l))) {
        const char *end = strstr(l.at, "): error"), *at = end;
        if (!end || end > l.at + l.len)
            continue;
        while (at > l.at && at[-1] >= '0' && at[-1] <= '9')
            at--;
        if (at == end || at == l.at || at[-1] != '(')
            continue;
        *out = (ErrorPlace){ { l.at, (size_t)(at - l.at) - 1 },
                             trim(line_of(next_line(l))),
                             (int32_t)strtol(at, NULL, 10) };
        return true;
    }
    return false;
}

/* #line 12 "models/net.c": what the next line is called. */
static void read_line_directive(Span l, Span *file, int32_t *line)
{
    enum { WORD = 6 };
    if (l.len <= WORD || strncmp(l.at, "#line ", WORD) != 0)
        return;
    *line = (int32_t)strtol(l.at + WORD, NULL, 10) - 1;
    const char *from = memchr(l.at, '"', l.len), *to = from ? memchr(from + 1, '"', l.len - 1) : NULL;
    if (to)
        *file = (Span){ from + 1, (size_t)(to - from) - 1 };
}

/* The number of the line of the text that the log means; 0: not found. Lines of several kernels may be called alike, so
 * what the line says is compared, too. */
static int32_t find_line(const NvrtcText *text, const ErrorPlace *e)
{
    Span    file = { text->name, strlen(text->name) };
    int32_t number = 1, line = 1;
    for (Span l = line_of(text->source); *l.at; l = line_of(next_line(l)), number++, line++) {
        if (line == e->line && span_eq(file, e->file) && span_eq(trim(l), e->quote))
            return number;
        read_line_directive(l, &file, &line);
    }
    return 0;
}

static const char *lines_around(Arena *a, const char *source, int32_t line)
{
    enum { AROUND = 3 };
    Str     s = str_new(a);
    int32_t number = 1;
    for (Span l = line_of(source); *l.at && number <= line + AROUND; l = line_of(next_line(l)), number++)
        if (number >= line - AROUND)
            str_printf(&s, "\n%s%6d  %.*s", number == line ? ">" : " ", number, (int)l.len, l.at);
    return s.s;
}

static void report_text(Arena *a, Diag *d, const Nvrtc *t, const NvrtcText *text, NvrtcResult status, const char *log)
{
    ErrorPlace e;
    nvrtc_ok(d, t, "nvrtcCompileProgram", status);
    if (log[0])
        diag_note(d, LOC_NONE, "what it says of %s:\n%s", text->name, log);
    int32_t line = first_error(log, &e) ? find_line(text, &e) : 0;
    if (line > 0)
        diag_note(d, LOC_NONE, "the text there:%s", lines_around(a, text->source, line));
}

/* ---- One text ---------------------------------------------------------------------------------------------------- */

typedef NvrtcResult (*SizeFunc)(NvrtcProgram p, size_t *bytes);
typedef NvrtcResult (*FetchFunc)(NvrtcProgram p, char *to);

/* One more byte than asked for, which stays 0. */
static const void *fetch(Arena *a, Diag *d, const Nvrtc *t, NvrtcProgram p, bool cubin, size_t *bytes)
{
    SizeFunc  size = cubin ? t->cubin_size : t->ptx_size;
    FetchFunc get = cubin ? t->cubin : t->ptx;
    if (!nvrtc_ok(d, t, cubin ? "nvrtcGetCUBINSize" : "nvrtcGetPTXSize", size(p, bytes)))
        return NULL;
    if (*bytes == 0) {
        diag_error(d, LOC_NONE, "nvrtc: it compiled the text and gave no %s", cubin ? "cubin" : "PTX");
        return NULL;
    }
    char *to = arena_alloc(a, *bytes + 1);
    return nvrtc_ok(d, t, cubin ? "nvrtcGetCUBIN" : "nvrtcGetPTX", get(p, to)) ? to : NULL;
}

static bool compile_program(Arena *a, Diag *d, const Nvrtc *t, NvrtcProgram p, const NvrtcText *text, NvrtcCode *out)
{
    NvrtcResult status = t->compile(p, text->n_options, text->options);
    const char *log = fetch_log(a, d, t, p);
    out->log = log ? log : "";
    if (status != NVRTC_SUCCESS) {
        out->bad_text = status == NVRTC_COMPILATION;
        report_text(a, d, t, text, status, out->log);
        return false;
    }
    if (!log)
        return false;
    if (text->cubin && !(out->cubin = fetch(a, d, t, p, true, &out->cubin_bytes)))
        return false;
    return !text->ptx || (out->ptx = fetch(a, d, t, p, false, &out->ptx_bytes));
}

bool nvrtc_compile(Arena *a, Diag *d, const Nvrtc *t, const NvrtcText *text, NvrtcCode *out)
{
    NvrtcProgram p = NULL;
    *out = (NvrtcCode){ .log = "" };
    if (!nvrtc_ok(d, t, "nvrtcCreateProgram", t->create(&p, text->source, text->name, 0, NULL, NULL)))
        return false;
    bool        done = compile_program(a, d, t, p, text, out);
    NvrtcResult status = t->destroy(&p);
    return done && nvrtc_ok(d, t, "nvrtcDestroyProgram", status);
}
