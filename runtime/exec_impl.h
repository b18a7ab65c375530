/* exec_impl.h: what the two kinds of Exec share: exec.c is the interface of program.h over this table, exec_host.c and
 * cuda/exec_gpu.c fill it. Tests put tables of their own in front of them. */
#ifndef DETENT_RUNTIME_EXEC_IMPL_H
#define DETENT_RUNTIME_EXEC_IMPL_H

#include "runtime/program.h"

/* A program that was added. First member of each kind's own struct. */
typedef struct Loaded {
    Program *program;
    void   **prepared;  /* one a launch; NULL: a kernel */
    double  *seconds;   /* one a launch, total; with profile */
    int64_t  runs;      /* steps, by exec_run and exec_submit */
    int64_t  submitted; /* of these by exec_submit: the next one's number */
} Loaded;

typedef struct ExecKind {
    bool gpu;                                                             /* which images it can run */
    int64_t (*needed)(const Exec *e, const Program *const *p, int32_t n); /* to add these */
    int64_t (*available)(const Exec *e);
    /* Memory and addresses. NULL: reported, and what was there still runs. The library calls are prepared already. */
    Loaded *(*load)(Exec *e, Program *p, void **prepared);
    void (*unload)(Exec *e, Loaded *l);
    bool (*run)(Exec *e, Loaded *l);
    void *(*ptr)(Exec *e, Loaded *l, const ProgTensor *t);
    void *(*input)(Exec *e, Loaded *l, const ProgTensor *t);
    bool (*submit)(Exec *e, Loaded *l); /* step number l->submitted */
    const void *(*output)(Exec *e, Loaded *l, const ProgTensor *t, int64_t number);
    int32_t (*depth)(const Exec *e, const Loaded *l);
    /* Between a tensor and an array of its bytes as they lie. False: reported. */
    bool (*write)(Exec *e, Loaded *l, const ProgTensor *t, const void *from);
    bool (*read)(Exec *e, Loaded *l, const ProgTensor *t, void *to);
    void (*release)(Exec *e); /* after every program was unloaded */
} ExecKind;

/* First member of each kind's own struct. */
struct Exec {
    const ExecKind *kind;
    Arena          *arena;
    Diag           *d;
    CallLib        *lib;
    ExecOptions     opt;
    int             threads;
    bool            failed; /* a GPU that reported an error: nothing runs any more */
    VEC(Loaded *) programs;
};

/* Exec by kind and index. */
Loaded *exec_loaded(const Exec *e, int32_t program);
/* "params", "values inside a step": for messages. */
extern const char *const exec_arena_names[ARENA_COUNT];

#endif
