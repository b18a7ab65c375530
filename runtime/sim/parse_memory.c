/* parse_memory.c: pointers and what they point to. Nearly every address is known to lie in one array while the text is
 * read; only pointers that are given a value from several places carry a tag at run time. Elements of local arrays at
 * constant places are plain registers. Tested by tests/unit/test_sim.c. */
#include "runtime/sim/parse.h"

#include <string.h>

Addr addr_none(void)
{
    return (Addr){ .region = REGION_NONE, .base = SLOT_NONE, .index = SLOT_NONE };
}

Val val_pointer(Parser *p, Type t, Addr a)
{
    (void)p;
    t.ptr = true;
    return (Val){ .kind = VAL_MEM, .t = t, .def = SLOT_NONE, .sym = -1, .addr = a };
}

static Val register_pointer(Type t, int32_t slot)
{
    t.ptr = true;
    Val v = { .kind = VAL_REG, .t = t, .temp = true, .def = SLOT_NONE, .sym = -1, .addr = addr_none() };
    v.slot[0] = slot;
    return v;
}

/* base + index * scale + imm as one register. */
static Val address_register(Parser *p, Type t, Addr a, int64_t add)
{
    if (a.base != SLOT_NONE && a.index == SLOT_NONE && a.imm + add == 0) {
        Val same = register_pointer(t, a.base);
        same.temp = false;
        return same;
    }
    int32_t slot = slot_new(p, 2);
    sim_emit(p, (Inst){ .op = OP_lea,
                        .d = { slot },
                        .a = a.base,
                        .b = a.index,
                        .index = a.kind,
                        .scale = a.scale,
                        .imm = a.imm + add });
    return register_pointer(t, slot);
}

Val val_pointer_register(Parser *p, Val pointer, int32_t region)
{
    Addr a = pointer.addr;
    if (pointer.kind != VAL_MEM || (region != REGION_NONE && region != a.region)) {
        parse_error(p, "this pointer cannot be given such a value");
        return val_none();
    }
    int64_t origin = region == REGION_NONE && a.region != REGION_NONE ? pointer_origin(a.region) : 0;
    return address_register(p, pointer.t, a, origin);
}

Val val_pointer_add(Parser *p, Val pointer, Val index, int32_t sign)
{
    index = val_load(p, index);
    if (!pointer.t.ptr || !sim_type_is_int(index.t)) {
        parse_error(p, "an index of an integer type is expected");
        return val_none();
    }
    int64_t bytes = sim_type_bytes(pointer.t) * sign;
    Addr   *a = &pointer.addr;
    if (!bytes) {
        parse_error(p, "a pointer to void cannot be moved");
        return val_none();
    }
    if (index.kind == VAL_CONST) {
        int64_t i = index.t.base == T_U32 || sim_type_is_wide(index.t) ? (int64_t)index.bits : (int32_t)index.bits;
        int64_t add;
        if (__builtin_mul_overflow(i, bytes, &add) || __builtin_add_overflow(a->imm, add, &a->imm) ||
            a->imm > INT64_C(1) << 46 || a->imm < -(INT64_C(1) << 46))
            parse_error(p, "an index that no array has");
        return pointer;
    }
    if (a->index != SLOT_NONE) { /* one index an address */
        Val at = address_register(p, pointer.t, *a, 0);
        a->base = at.slot[0];
        a->index = SLOT_NONE;
        a->imm = 0;
    }
    a->index = index.slot[0];
    a->kind = sim_type_is_wide(index.t) ? INDEX_I64 : index.t.base == T_U32 ? INDEX_U32 : INDEX_I32;
    a->scale = bytes;
    return pointer;
}

/* ---- Local arrays ---- */

static const Region *local_region(const Parser *p, int32_t region)
{
    const Region *r = region == REGION_NONE ? NULL : &p->k->regions.at[region];
    return r && r->kind == REGION_LOCAL ? r : NULL;
}

/* An element of a local array at a constant place: registers. */
static Val local_element(Parser *p, const Region *r, Val v)
{
    int64_t bytes = sim_type_bytes(v.t);
    if (v.addr.imm < 0 || v.addr.imm + bytes > r->bytes) {
        parse_error(p, "index out of local array '%s': bytes %lld to %lld of %lld", r->name, (long long)v.addr.imm,
                    (long long)(v.addr.imm + bytes - 1), (long long)r->bytes);
        return val_none();
    }
    int32_t unit = (int32_t)(v.addr.imm / r->unit), each = r->unit == 8 ? 2 : 1;
    v.kind = VAL_REG;
    for (int32_t i = 0; i < v.t.n; i++)
        v.slot[i] = r->slot + (unit + i) * each;
    v.def = r->def == SLOT_NONE ? SLOT_NONE : r->def + unit;
    return v; /* with its address, should somebody ask */
}

Val val_deref(Parser *p, Val pointer)
{
    if (!pointer.t.ptr || pointer.kind != VAL_MEM || pointer.t.base == T_VOID) {
        if (!p->failed)
            parse_error(p, "%s does not point to a value", sim_type_name(p->a, pointer.t));
        return val_none();
    }
    Val v = pointer;
    v.t.ptr = v.t.fixed = false;
    v.lvalue = true;
    v.temp = false;
    v.sym = -1;
    const Region *r = local_region(p, v.addr.region);
    if (r && !v.t.n_dims) {
        if (sim_base_bytes[v.t.base] != r->unit) {
            parse_error(p, "local array '%s' has elements of %d bytes: it cannot be used as one of %s", r->name,
                        r->unit, sim_base_names[v.t.base]);
            return val_none();
        }
        bool same = v.t.base == r->base || r->unit >= 4; /* smaller ones are widened by their sign */
        if (same && v.addr.base == SLOT_NONE && v.addr.index == SLOT_NONE)
            return local_element(p, r, v);
    }
    return v;
}

Val val_address(Parser *p, Val v)
{
    if (v.lvalue && !v.t.ptr && (v.kind == VAL_MEM || (v.kind == VAL_REG && v.addr.region != REGION_NONE)))
        return val_pointer(p, v.t, v.addr);
    if (!v.lvalue || v.kind != VAL_REG || v.t.ptr || v.sym < 0) {
        if (!p->failed)
            parse_error(p, "& needs a variable that is no pointer");
        return val_none();
    }
    Sym *sym = &p->syms.at[v.sym];
    if (sym->region == REGION_NONE) { /* its registers become a region */
        Type whole = sym->val.t;
        sym->region = parse_region(p, (Region){ .kind = REGION_LOCAL,
                                                .name = p->m->names.at[sym->name],
                                                .bytes = sim_type_bytes(whole),
                                                .slot = sym->val.slot[0],
                                                .def = sym->val.def,
                                                .unit = sim_base_bytes[whole.base],
                                                .base = whole.base });
    }
    const Region *r = &p->k->regions.at[sym->region];
    Addr          a = addr_none();
    a.region = sym->region;
    a.imm = (int64_t)(v.slot[0] - r->slot) / (r->unit == 8 ? 2 : 1) * r->unit;
    return val_pointer(p, v.t, a);
}

/* ---- Loads and stores ---- */

static Inst access_inst(SimOp op, const Val *mem)
{
    const Addr *a = &mem->addr;
    return (Inst){ .op = (uint16_t)op,
                   .base = (uint8_t)mem->t.base,
                   .n = (uint8_t)mem->t.n,
                   .index = a->kind,
                   .a = a->base,
                   .b = a->index,
                   .region = a->region,
                   .imm = a->imm,
                   .scale = a->scale };
}

Val val_read(Parser *p, Val mem)
{
    Val  v = val_new(p, mem.t);
    Inst in = access_inst(OP_load, &mem);
    memcpy(in.d, v.slot, sizeof in.d);
    sim_emit(p, in);
    return v;
}

void val_write(Parser *p, Val mem, Val v)
{
    Inst in = access_inst(OP_store, &mem);
    for (int32_t i = 0; i < mem.t.n; i++)
        in.d[i] = val_slot(p, &v, i);
    sim_emit(p, in);
}

/* Bytes written alone make a word's bytes watched alone. */
static void watch_finer(Parser *p, int32_t region, int32_t bytes)
{
    for (int32_t i = 0; i < p->k->regions.len; i++) {
        Region *r = &p->k->regions.at[i];
        if ((region == i || region == REGION_NONE) && r->granule > bytes && bytes)
            r->granule = bytes;
    }
}

Val val_pointer_cast(Parser *p, Val pointer, Type t)
{
    if (pointer.kind != VAL_MEM)
        return val_none();
    if (!t.is_const)
        watch_finer(p, pointer.addr.region, sim_base_bytes[t.base]);
    t.fixed = false;
    pointer.t = t;
    return pointer;
}
