/* loader.c: batches, some ahead. Threads make samples of the next batches while the step runs; loader_next copies the
 * oldest one to the program's inputs.
 *
 * Batches lie in a ring. A batch is opened for its epoch's number, its samples are handed out to the threads in order
 * (some at a time, where one costs little), and who finishes the last one closes it: mixes, and says that it is ready.
 *
 *   slot: FREE -> (open) -> FILLING -> (last sample made) -> READY -> (loader_next copies) -> FREE
 *
 * In FILLING each sample's place belongs to the thread that makes it; the mutex guards states and counters. What a
 * batch holds is a function of (seed, epoch, batch), so timing and the number of threads can change nothing but speed.
 *
 * A picture that cannot be read is passed over: the next sound sample of the epoch's order stands in its place. Which
 * one that is depends on the files alone. Threads only note it; loader_next says it, in order, on the caller's thread.
 *
 * Tested by tests/unit/test_data.c, test_folder.c, test_augment.c (under ThreadSanitizer, too). */
#include "runtime/data_impl.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

enum { MAX_SLOTS = 3, MAX_THREADS = 64, FILE_THREADS = 2 };
static const int64_t large_batch = 64 << 20; /* bytes; of such batches only two are held */

typedef enum SlotState { SLOT_FREE, SLOT_FILLING, SLOT_READY } SlotState;

/* A sample that could not be read. */
typedef struct Passed {
    int32_t     place, sample; /* place: in the batch */
    int32_t     instead;       /* the sample that stands there; -1: this one stood there in vain, or none was found */
    bool        own;           /* it was this sample's place */
    const char *why;
} Passed;

typedef struct Slot {
    SlotState state; /* guarded by the loader's lock, as are the next four */
    int32_t   batch, valid, given, made;
    Arena     arena; /* of what was passed over */
    VEC(Passed) passed;
    /* Owned by whoever the state says. */
    float   *image, *target, *noise, *share;
    int32_t *label, *label2, *sample;
} Slot;

struct Loader {
    SampleMaker     make;
    Diag           *diag;
    int32_t         batches, at_once; /* at_once: samples that a thread takes together */
    double          wait_s;

    pthread_t       threads[MAX_THREADS];
    int32_t         n_threads;
    pthread_mutex_t lock;
    pthread_cond_t  work, ready; /* there is work for threads; something is done */
    bool            quit;        /* guarded by lock, as are the next */
    bool            stopped;     /* an epoch is being left: no new samples */
    int32_t         epoch, next_open, busy;

    Slot            slots[MAX_SLOTS];
    int32_t         n_slots;
    uint32_t       *order; /* training: the epoch's permutation; written while no thread works */
    int32_t         order_epoch;
    /* The caller's. */
    int32_t next; /* batch */
    bool   *known_broken;
    int32_t broken;
    bool    failed;
};

/* ---- Threads --------------------------------------------------------------------------------------------------- */

/* The sample at a place of the epoch's order, which begins anew at its end. */
static int32_t sample_at(const Loader *l, int64_t place)
{
    int64_t count = dataset_count(l->make.c.data, l->make.c.split);
    return l->make.c.split == SPLIT_TRAIN ? (int32_t)l->order[place % count] : (int32_t)(place % count);
}

/* "picture: a.jpg: damaged JPEG: ..." of what a Diag was told. */
static const char *first_error(Arena *a, const Diag *d)
{
    static const char intro[] = "error: ";
    const char       *text = d->text.s ? strstr(d->text.s, intro) : NULL;
    text = text ? text + sizeof intro - 1 : "it cannot be read";
    return arena_strndup(a, text, strcspn(text, "\n"));
}

/* `what` lacks its reason, which the Diag was told. */
static void note_passed(Loader *l, Slot *s, Passed what, const Diag *d)
{
    pthread_mutex_lock(&l->lock);
    what.why = first_error(&s->arena, d);
    vec_push(&s->arena, &s->passed, what);
    pthread_mutex_unlock(&l->lock);
}

static bool try_sample(Loader *l, Slot *s, Arena *scratch, Diag *d, int32_t place, int32_t sample)
{
    const int64_t   at = (int64_t)place * l->make.elems;
    const SampleOut to = { .image = s->image + at,
                           .target = s->target ? s->target + at : NULL,
                           .noise = s->noise ? s->noise + at : NULL,
                           .label = &s->label[place] };
    s->sample[place] = sample;
    bool ok = sample_make(&l->make, scratch, d, l->epoch, sample, &to);
    arena_reset(scratch);
    return ok;
}

/* Puts the next sound sample of the order into a place whose own one is broken. */
static void fill_instead(Loader *l, Slot *s, Arena *scratch, int32_t place, int64_t first, const Diag *own)
{
    const Dataset *set = l->make.c.data;
    const int32_t  limit = set->bad_limit; /* with that many more the limit is passed */
    const int64_t  count = dataset_count(set, l->make.c.split);
    int32_t        instead = -1;
    for (int32_t i = 1; i <= limit && i < count && instead < 0; i++) {
        const int32_t sample = sample_at(l, first + i);
        Diag          d = diag_new(NULL);
        if (try_sample(l, s, scratch, &d, place, sample))
            instead = sample;
        else
            note_passed(l, s, (Passed){ .place = place, .sample = sample, .instead = -1 }, &d);
        diag_free(&d);
    }
    note_passed(l, s, (Passed){ .place = place, .sample = sample_at(l, first), .instead = instead, .own = true }, own);
}

static void fill_place(Loader *l, Slot *s, Arena *scratch, int32_t place)
{
    const int64_t first = place < s->valid ? (int64_t)s->batch * l->make.c.batch + place : 0;
    Diag          d = diag_new(NULL);
    if (!try_sample(l, s, scratch, &d, place, sample_at(l, first)))
        fill_instead(l, s, scratch, place, first, &d);
    diag_free(&d);
}

/* Two samples in one picture: each with its neighbour, as they were before. */
static void mix(Loader *l, Slot *s)
{
    const int32_t n = l->make.c.batch, elems = l->make.elems;
    Arena         scratch = arena_new("mix");
    float        *planes[] = { s->image, s->target, s->noise };
    for (int32_t i = 0; i < n; i++) {
        Draws r = draws_new(l->make.c.seed, "augment/mixup", l->epoch, s->sample[i]);
        s->share[i] = (float)draw_beta(&r, (double)l->make.c.augment.mixup);
        s->label2[i] = s->label[(i + 1) % n];
    }
    for (int32_t k = 0; k < DT_COUNT(planes); k++) {
        float *x = planes[k];
        if (!x)
            continue;
        const float *first = arena_copy(&scratch, x, sizeof(float) * (size_t)elems);
        for (int32_t i = 0; i < n; i++) {
            const float *other = i + 1 < n ? x + (int64_t)(i + 1) * elems : first;
            float       *to = x + (int64_t)i * elems, share = s->share[i];
            for (int32_t e = 0; e < elems; e++)
                to[e] = share * to[e] + (1 - share) * other[e];
        }
    }
    arena_free(&scratch);
}

/* With the lock held: a batch with samples that nobody has taken; NULL: none, and none can be opened. */
static Slot *slot_with_work(Loader *l)
{
    Slot *oldest = NULL, *free = NULL;
    for (int32_t i = 0; i < l->n_slots; i++) {
        Slot *s = &l->slots[i];
        if (s->state == SLOT_FILLING && s->given < l->make.c.batch && (!oldest || s->batch < oldest->batch))
            oldest = s;
        if (s->state == SLOT_FREE)
            free = s;
    }
    if (oldest || !free || l->next_open >= l->batches)
        return oldest;
    const int64_t first = (int64_t)l->next_open * l->make.c.batch;
    const int64_t left = dataset_count(l->make.c.data, l->make.c.split) - first;
    free->state = SLOT_FILLING;
    free->batch = l->next_open++;
    free->valid = (int32_t)dt_min64(l->make.c.batch, left);
    free->given = free->made = 0;
    free->passed.at = NULL;
    free->passed.len = free->passed.cap = 0;
    arena_reset(&free->arena);
    return free;
}

/* Takes some samples of a batch and makes them; the lock is held before and after. */
static void work_on(Loader *l, Slot *s, Arena *scratch)
{
    const int32_t from = s->given, n = (int32_t)dt_min64(l->at_once, l->make.c.batch - from);
    s->given += n;
    l->busy++;
    if (s->given < l->make.c.batch)
        pthread_cond_signal(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int32_t i = 0; i < n; i++)
        fill_place(l, s, scratch, from + i);
    pthread_mutex_lock(&l->lock);
    s->made += n;
    if (s->made == l->make.c.batch) {
        if (s->share) { /* nobody else looks at it now */
            pthread_mutex_unlock(&l->lock);
            mix(l, s);
            pthread_mutex_lock(&l->lock);
        }
        s->state = SLOT_READY;
    }
    l->busy--;
    pthread_cond_broadcast(&l->ready);
}

static void *loader_thread(void *arg)
{
    Loader *l = arg;
    Arena   scratch = arena_new("sample");
    pthread_mutex_lock(&l->lock);
    while (!l->quit) {
        Slot *s = l->stopped ? NULL : slot_with_work(l);
        if (s)
            work_on(l, s, &scratch);
        else
            pthread_cond_wait(&l->work, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    arena_free(&scratch);
    return NULL;
}

/* Signals are for the thread that trains. */
static int start_threads(Loader *l, int32_t n)
{
    sigset_t all, old;
    int      err = 0;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (l->n_threads < n && err == 0) {
        err = pthread_create(&l->threads[l->n_threads], NULL, loader_thread, l);
        l->n_threads += err == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return l->n_threads > 0 ? 0 : err; /* fewer threads are slower and no mistake */
}

/* ---- The caller ------------------------------------------------------------------------------------------------ */

static int32_t choose_threads(const LoaderConfig *c)
{
    int32_t said = c->threads > 0 ? c->threads : c->data->workers;
    if (said > 0)
        return said < MAX_THREADS ? said : MAX_THREADS;
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return dataset_decodes(c->data, c->split) && cores >= FILE_THREADS ? FILE_THREADS : 1;
}

static void make_slots(Arena *a, Loader *l)
{
    const LoaderConfig *c = &l->make.c;
    const bool          pairs = c->data->task == DATA_PAIRS, mixes = l->make.c.augment.mixup > 0;
    const int64_t       elems = (int64_t)c->batch * l->make.elems;
    const bool          large = elems * (int64_t)sizeof(float) > large_batch;
    l->n_slots = dataset_decodes(c->data, c->split) && !large ? MAX_SLOTS : 2;
    for (int32_t i = 0; i < l->n_slots; i++) {
        Slot *s = &l->slots[i];
        s->arena = arena_new("passed");
        s->image = ARENA_ARRAY(a, float, elems);
        s->target = pairs ? ARENA_ARRAY(a, float, elems) : NULL;
        s->noise = pairs ? ARENA_ARRAY(a, float, elems) : NULL;
        s->share = mixes ? ARENA_ARRAY(a, float, c->batch) : NULL;
        s->label = ARENA_ARRAY(a, int32_t, c->batch);
        s->label2 = mixes ? ARENA_ARRAY(a, int32_t, c->batch) : NULL;
        s->sample = ARENA_ARRAY(a, int32_t, c->batch);
    }
}

Loader *loader_new(Arena *a, Diag *d, LoaderConfig c)
{
    const int32_t count = dataset_count(c.data, c.split);
    DT_ASSERT(c.batch > 0 && count > 0, "batch %d of %d samples", c.batch, count);
    if (c.split == SPLIT_TRAIN && c.batch > count) {
        diag_error(d, LOC_NONE, "data: a batch of %d is larger than the training set of %s, %d samples", c.batch,
                   dataset_name(c.data), count);
        diag_help(d, "choose a batch of at most %d", count);
        return NULL;
    }
    Loader *l = ARENA_NEW(a, Loader);
    l->make = sample_maker(&c);
    l->diag = d;
    l->batches = c.split == SPLIT_TRAIN ? count / c.batch : (int32_t)dt_ceil_div(count, c.batch);
    l->next = l->next_open = l->batches;
    l->order = c.split == SPLIT_TRAIN ? ARENA_ARRAY(a, uint32_t, count) : NULL;
    l->order_epoch = -1;
    l->known_broken = ARENA_ARRAY(a, bool, count);
    make_slots(a, l);
    const int32_t threads = choose_threads(&c);
    l->at_once = dataset_decodes(c.data, c.split) ? 1 : (int32_t)dt_ceil_div(c.batch, threads);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    int err = start_threads(l, threads);
    if (err) {
        diag_error(d, LOC_NONE, "data: cannot start a thread: %s", strerror(err));
        return NULL;
    }
    return l;
}

int32_t loader_batches(const Loader *l)
{
    return l->batches;
}

double loader_wait_s(const Loader *l)
{
    return l->wait_s;
}

/* With the lock held: no thread works on anything, and none will begin. */
static void stop_work(Loader *l)
{
    l->stopped = true;
    while (l->busy > 0)
        pthread_cond_wait(&l->ready, &l->lock);
    for (int32_t i = 0; i < l->n_slots; i++)
        l->slots[i].state = SLOT_FREE;
}

void loader_start(Loader *l, int32_t epoch, int32_t first_batch)
{
    const LoaderConfig *c = &l->make.c;
    pthread_mutex_lock(&l->lock);
    stop_work(l);
    if (l->order && l->order_epoch != epoch) {
        rng_permutation(c->seed, hash_u32("shuffle"), (uint32_t)epoch, l->order,
                        (uint32_t)dataset_count(c->data, c->split));
        l->order_epoch = epoch;
    }
    l->epoch = epoch;
    l->next = l->next_open = first_batch;
    l->stopped = false;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
}

/* False: that was one too many. */
static bool report_one(Loader *l, const Passed *p)
{
    const Dataset *set = l->make.c.data;
    const Split    split = l->make.c.split;
    Arena          a = arena_new("names");
    const char    *name = dataset_sample_name(&a, set, split, p->sample);
    l->known_broken[p->sample] = true;
    l->broken++;
    if (l->broken <= set->bad_limit) {
        const char *instead = p->instead >= 0 ? dataset_sample_name(&a, set, split, p->instead) : "another one";
        diag_warning(l->diag, LOC_NONE, "data: %s is passed over (%d of at most %d), %s stands in its place: %s", name,
                     l->broken, set->bad_limit, instead, p->why);
    } else {
        diag_error(l->diag, LOC_NONE, "data: %s cannot be used: %s", name, p->why);
        if (set->bad_limit > 0)
            diag_note(l->diag, LOC_NONE, "%d broken pictures were passed over before it, as many as may be",
                      set->bad_limit);
        diag_help(l->diag, "repair or remove it, or allow more broken pictures: --bad-limit %d",
                  set->bad_limit > 0 ? 2 * set->bad_limit : 10);
    }
    arena_free(&a);
    return l->broken <= set->bad_limit;
}

/* Says what was passed over in a batch, in its order; each picture once. False: one too many was, or all were. */
static bool report_passed(Loader *l, const Slot *s)
{
    bool none_left = false;
    for (int32_t place = 0; place < l->make.c.batch && !l->failed; place++)
        for (int32_t i = 0; i < s->passed.len && !l->failed; i++) {
            const Passed *p = &s->passed.at[i];
            if (p->place != place)
                continue;
            none_left |= p->own && p->instead < 0;
            l->failed = !l->known_broken[p->sample] && !report_one(l, p);
        }
    if (none_left && !l->failed) {
        diag_error(l->diag, LOC_NONE, "data: no sound picture is left among the %s samples of %s",
                   split_name(l->make.c.split), dataset_name(l->make.c.data));
        l->failed = true;
    }
    return !l->failed;
}

static void copy_floats(float *to, const float *from, float value, int64_t n)
{
    for (int64_t i = 0; to && !from && i < n; i++)
        to[i] = value;
    if (to && from)
        memcpy(to, from, sizeof(float) * (size_t)n);
}

static void copy_batch(const Loader *l, const Slot *s, const BatchOut *to)
{
    const int64_t  n = l->make.c.batch, elems = n * l->make.elems;
    const int32_t *second = s->label2 ? s->label2 : s->label;
    copy_floats(to->image, s->image, 0, elems);
    copy_floats(to->target, s->target, 0, elems);
    copy_floats(to->noise, s->noise, -1, elems);
    copy_floats(to->share, s->share, 1, n);
    if (to->label)
        memcpy(to->label, s->label, sizeof(int32_t) * (size_t)n);
    if (to->label2)
        memcpy(to->label2, second, sizeof(int32_t) * (size_t)n);
}

int32_t loader_next(Loader *l, const BatchOut *to)
{
    if (l->failed)
        return -1;
    if (l->next >= l->batches)
        return 0;
    Slot  *s = NULL;
    double start = time_now_s();
    pthread_mutex_lock(&l->lock);
    while (!s) {
        for (int32_t i = 0; i < l->n_slots; i++)
            if (l->slots[i].state == SLOT_READY && l->slots[i].batch == l->next)
                s = &l->slots[i];
        if (!s)
            pthread_cond_wait(&l->ready, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    l->wait_s += time_now_s() - start;

    int32_t valid = s->valid;
    bool    ok = report_passed(l, s);
    if (ok)
        copy_batch(l, s, to);
    pthread_mutex_lock(&l->lock);
    s->state = SLOT_FREE;
    l->next++;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    return ok ? valid : -1;
}

void loader_free(Loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    stop_work(l);
    l->quit = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (int32_t i = 0; i < l->n_threads; i++)
        pthread_join(l->threads[i], NULL);
    for (int32_t i = 0; i < l->n_slots; i++)
        arena_free(&l->slots[i].arena);
    pthread_cond_destroy(&l->work);
    pthread_cond_destroy(&l->ready);
    pthread_mutex_destroy(&l->lock);
}
