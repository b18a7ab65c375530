/* loader.c: batches, one ahead. A thread of its own fills the next batch while the step runs; loader_next copies it to
 * the program's inputs and sets the thread to work again. One buffer is enough: the copy is short beside a step.
 *
 *   slot: IDLE -> (loader_start, loader_next) -> FILL -> (thread) -> READY -> (loader_next copies) -> FILL or IDLE
 *
 * In FILL the buffer belongs to the thread, otherwise to the caller; the mutex guards the slot's state alone. What a
 * batch holds is a function of (seed, epoch, batch), so timing can change nothing but speed.
 *
 * Tested by tests/unit/test_data.c (under ThreadSanitizer, too). */
#include "runtime/runtime_impl.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

typedef enum Slot { SLOT_IDLE, SLOT_FILL, SLOT_READY, SLOT_QUIT } Slot;

struct Loader {
    LoaderConfig    c;
    PixelTable      values;
    int32_t         batches, sample_elems;
    double          wait_s;

    pthread_t       thread;
    pthread_mutex_t lock;
    pthread_cond_t  changed;
    Slot            slot; /* guarded by lock, as are the next two */
    int32_t         epoch, batch;

    /* Owned by whoever the slot says. */
    float    *image;
    int32_t  *label;
    int32_t   valid;
    uint32_t *order; /* training: the epoch's permutation */
    int32_t   order_epoch;
};

static void fill_batch(Loader *l, int32_t epoch, int32_t batch)
{
    const LoaderConfig *c = &l->c;
    const bool          train = c->split == SPLIT_TRAIN;
    const int32_t       count = c->data->count[c->split];
    if (train && l->order_epoch != epoch) {
        rng_permutation(c->seed, hash_u32("shuffle"), (uint32_t)epoch, l->order, (uint32_t)count);
        l->order_epoch = epoch;
    }
    const int32_t first = batch * c->batch;
    l->valid = (int32_t)dt_min64(c->batch, count - first);
    for (int32_t i = 0; i < c->batch; i++) {
        int32_t place = i < l->valid ? first + i : 0;
        int32_t sample = train ? (int32_t)l->order[place] : place;
        View    v = train && c->augment ? dataset_view(c->data, c->seed, epoch, sample) : (View){ 0, 0, false };
        dataset_fetch(c->data, c->split, sample, v, &l->values, c->nhwc,
                      l->image + (size_t)i * (size_t)l->sample_elems);
        l->label[i] = c->data->labels[c->split][sample];
    }
}

static void *loader_thread(void *arg)
{
    Loader *l = arg;
    pthread_mutex_lock(&l->lock);
    for (;;) {
        while (l->slot != SLOT_FILL && l->slot != SLOT_QUIT)
            pthread_cond_wait(&l->changed, &l->lock);
        if (l->slot == SLOT_QUIT)
            break;
        int32_t epoch = l->epoch, batch = l->batch;
        pthread_mutex_unlock(&l->lock);
        fill_batch(l, epoch, batch);
        pthread_mutex_lock(&l->lock);
        l->slot = SLOT_READY;
        pthread_cond_broadcast(&l->changed);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* Signals are for the thread that trains. */
static int start_thread(Loader *l)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int err = pthread_create(&l->thread, NULL, loader_thread, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return err;
}

Loader *loader_new(Arena *a, Diag *d, LoaderConfig c)
{
    const int32_t count = c.data->count[c.split];
    DT_ASSERT(c.batch > 0 && count > 0, "batch %d of %d samples", c.batch, count);
    if (c.split == SPLIT_TRAIN && c.batch > count) {
        diag_error(d, LOC_NONE, "data: a batch of %d is larger than the training set of %s, %d samples", c.batch,
                   c.data->name, count);
        diag_help(d, "choose a batch of at most %d", count);
        return NULL;
    }
    Loader *l = ARENA_NEW(a, Loader);
    l->c = c;
    l->values = pixel_table(c.normalise);
    l->batches = c.split == SPLIT_TRAIN ? count / c.batch : (int32_t)dt_ceil_div(count, c.batch);
    l->sample_elems = c.data->c * c.data->h * c.data->w;
    l->image = ARENA_ARRAY(a, float, (int64_t)c.batch * l->sample_elems);
    l->label = ARENA_ARRAY(a, int32_t, c.batch);
    l->order = c.split == SPLIT_TRAIN ? ARENA_ARRAY(a, uint32_t, count) : NULL;
    l->order_epoch = -1;
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->changed, NULL);
    int err = start_thread(l);
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

/* With the lock held: the next batch is l->batch, if the epoch has it. */
static void request(Loader *l)
{
    l->slot = l->batch < l->batches ? SLOT_FILL : SLOT_IDLE;
    pthread_cond_broadcast(&l->changed);
}

void loader_start(Loader *l, int32_t epoch, int32_t first_batch)
{
    pthread_mutex_lock(&l->lock);
    while (l->slot == SLOT_FILL)
        pthread_cond_wait(&l->changed, &l->lock);
    l->epoch = epoch;
    l->batch = first_batch;
    request(l);
    pthread_mutex_unlock(&l->lock);
}

int32_t loader_next(Loader *l, float *image, int32_t *label)
{
    double start = time_now_s();
    pthread_mutex_lock(&l->lock);
    while (l->slot == SLOT_FILL)
        pthread_cond_wait(&l->changed, &l->lock);
    bool ready = l->slot == SLOT_READY;
    pthread_mutex_unlock(&l->lock);
    l->wait_s += time_now_s() - start;
    if (!ready)
        return 0;

    memcpy(image, l->image, sizeof(float) * (size_t)l->c.batch * (size_t)l->sample_elems);
    memcpy(label, l->label, sizeof(int32_t) * (size_t)l->c.batch);
    int32_t valid = l->valid;

    pthread_mutex_lock(&l->lock);
    l->batch++;
    request(l);
    pthread_mutex_unlock(&l->lock);
    return valid;
}

void loader_free(Loader *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    while (l->slot == SLOT_FILL)
        pthread_cond_wait(&l->changed, &l->lock);
    l->slot = SLOT_QUIT;
    pthread_cond_broadcast(&l->changed);
    pthread_mutex_unlock(&l->lock);
    pthread_join(l->thread, NULL);
    pthread_cond_destroy(&l->changed);
    pthread_mutex_destroy(&l->lock);
}
