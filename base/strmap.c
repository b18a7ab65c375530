/* strmap.c: text -> index, an open-addressed table with linear probing, never more than three quarters full.
 * Nothing is ever removed, so a probe ends at the first empty slot. Tested by tests/unit/test_base.c. */
#include "base/base.h"

#include <string.h>

#define FIRST_CAP 16 /* a power of two */

StrMap strmap_new(Arena *a)
{
    return (StrMap){ .arena = a };
}

/* The slot of the key, or the empty one where it belongs. */
static int32_t strmap_slot(const char *const *keys, int32_t cap, const char *key)
{
    uint32_t mask = (uint32_t)cap - 1, i = hash_u32(key) & mask;
    while (keys[i] && strcmp(keys[i], key) != 0)
        i = (i + 1) & mask;
    return (int32_t)i;
}

static void strmap_grow(StrMap *m)
{
    DT_ASSERT(m->cap <= INT32_MAX / 2, "a map of %d slots cannot double", m->cap);
    int32_t      cap = m->cap ? 2 * m->cap : FIRST_CAP;
    const char **keys = ARENA_ARRAY(m->arena, const char *, cap);
    int32_t     *vals = ARENA_ARRAY(m->arena, int32_t, cap);
    for (int32_t i = 0; i < m->cap; i++) {
        if (!m->keys[i])
            continue;
        int32_t at = strmap_slot(keys, cap, m->keys[i]);
        keys[at] = m->keys[i];
        vals[at] = m->vals[i];
    }
    m->keys = keys;
    m->vals = vals;
    m->cap = cap;
}

int32_t strmap_get(const StrMap *m, const char *key)
{
    if (m->len == 0)
        return -1;
    int32_t i = strmap_slot(m->keys, m->cap, key);
    return m->keys[i] ? m->vals[i] : -1;
}

bool strmap_put(StrMap *m, const char *key, int32_t val)
{
    if ((int64_t)(m->len + 1) * 4 > (int64_t)m->cap * 3)
        strmap_grow(m);
    int32_t i = strmap_slot(m->keys, m->cap, key);
    bool    is_new = !m->keys[i];
    if (is_new) {
        m->keys[i] = arena_strdup(m->arena, key);
        m->len++;
    }
    m->vals[i] = val;
    return is_new;
}
