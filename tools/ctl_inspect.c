/* Where an item is, and what a get of it costs. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "shm/hash.h"
#include "shm/item.h"
#include "shm/table.h"

static const char *outcome_text(enum lrd_outcome outcome, const struct lrd_get *get)
{
    if (outcome == LRD_KNOWN_ABSENT)
        return "known absent";
    if (outcome == LRD_ABSENT && get->slot != 0)
        return lrd_item_kind(get->head) == LRD_ITEM_LEASE ? "lease" : "expired";
    return outcome == LRD_ABSENT ? "absent" : "found";
}

static void report_kind(struct ctl_report *out, const struct lrd_get *get, uint64_t now_ms)
{
    static const char *const name[LRD_N_ITEM_KINDS] = {"plain", "soft", "leased", "soft leased", "aligned", "soft aligned", "leased aligned", "soft leased aligned", "absent", "lease"};
    uint32_t kind = lrd_item_kind(get->head);
    ctl_report_text(out, "kind", "%s", name[kind]);
    if (lrd_item_has_soft(kind))
        ctl_report_u64(out, "soft_ttl_left_ms", "ms", get->words.soft_ms > now_ms ? get->words.soft_ms - now_ms : 0);
}

static void report_key(struct ctl_report *out, const struct lrd_reader *r, const struct ctl_bytes *key, const struct lrd_get *get)
{
    char *text = NULL;
    size_t size;
    FILE *f = open_memstream(&text, &size);
    if (f) {
        ctl_escape(f, key->data, key->size, false);
        fclose(f);
    }
    ctl_report_group(out, "key");
    ctl_report_text(out, "key", "%s", text ? text : "?");
    ctl_report_u64(out, "key_bytes", "bytes", key->size);
    ctl_report_text(out, "hash", "%016" PRIx64, get->hash);
    ctl_report_u64(out, "tag", "", lrd_hash_tag(get->hash));
    ctl_report_u64(out, "home", "", lrd_hash_home(get->hash, r->n_pairs));
    free(text);
}

static void report_search(struct ctl_report *out, const struct lrd_reader *r, const struct lrd_get *get, enum lrd_outcome outcome)
{
    uint32_t tag = lrd_hash_tag(get->hash), home = lrd_hash_home(get->hash, r->n_pairs);
    ctl_report_group(out, "search");
    ctl_report_text(out, "outcome", "%s", outcome_text(outcome, get));
    ctl_report_u64(out, "buckets_looked_at", "buckets", get->lines);
    ctl_report_u64(out, "restarts", "times", get->restarts);
    ctl_report_text(out, "displaced_word", "%016" PRIx64, lrd_load_relaxed(&r->buckets[home].displaced));

    ctl_report_list(out, "buckets");
    for (uint32_t d = 0; d < 4; d++) {
        uint32_t bucket = lrd_hash_bucket(home, tag, d, r->n_pairs), used = 0, live = 0;
        for (unsigned i = 0; i < LRD_SLOTS; i++) {
            uint64_t slot = lrd_load_relaxed(&r->buckets[bucket].slot[i]); /* relaxed: only counted */
            used += slot != 0;
            live += ctl_slot_is_live(r, slot);
        }
        ctl_report_row(out);
        ctl_report_u64(out, "displacement", "", d);
        ctl_report_u64(out, "bucket", "", bucket);
        ctl_report_u64(out, "live", "slots", live);
        ctl_report_u64(out, "dead", "slots", used - live);
    }
}

static void report_slot(struct ctl_report *out, const struct lrd_reader *r, const struct lrd_get *get)
{
    uint32_t tag = lrd_slot_tag(get->slot), displacement = lrd_slot_displacement(get->slot);
    uint32_t bucket = lrd_hash_bucket(lrd_hash_home(get->hash, r->n_pairs), tag, displacement, r->n_pairs);
    ctl_report_group(out, "slot");
    ctl_report_text(out, "word", "%016" PRIx64, get->slot);
    ctl_report_u64(out, "bucket", "", bucket);
    for (unsigned i = 0; i < LRD_SLOTS; i++)
        if (lrd_load_relaxed(&r->buckets[bucket].slot[i]) == get->slot) /* relaxed: gone meanwhile, then it is not said */
            ctl_report_u64(out, "index", "", i);
    ctl_report_u64(out, "displacement", "", displacement);
    ctl_report_u64(out, "generation", "", lrd_slot_generation(get->slot));
    ctl_report_u64(out, "location", "granules", lrd_slot_location(get->slot));
}

static void report_item(struct ctl_report *out, const struct ctl_peek *p, const struct lrd_get *get)
{
    uint64_t expires_ms = lrd_item_expires_ms(get->head), now_ms = ctl_now_ms(p);
    uint32_t key_len = lrd_item_key_len(get->head), value_len = lrd_item_value_len(get->head);
    ctl_report_group(out, "item");
    ctl_report_u64(out, "key_bytes", "bytes", key_len);
    ctl_report_u64(out, "value_bytes", "bytes", value_len);
    ctl_report_u64(out, "bytes", "bytes", lrd_item_bytes_of(get->head, p->r.granule_shift));
    ctl_report_u64(out, "flags", "", lrd_item_flags(get->head));
    ctl_report_u64(out, "namespace", "", lrd_item_ns(get->head));
    report_kind(out, get, now_ms);
    if (expires_ms == 0)
        ctl_report_text(out, "ttl", "none");
    else
        ctl_report_u64(out, "ttl_left_ms", "ms", expires_ms > now_ms ? expires_ms - now_ms : 0);
}

static const char *block_state(uint64_t state)
{
    static const char *const name[] = {"free", "open", "full"};
    return state < sizeof name / sizeof *name ? name[state] : "unknown";
}

static void report_block(struct ctl_report *out, const struct lrd_reader *r, const struct lrd_get *get)
{
    uint32_t block = lrd_arena_block(r, get->slot);
    if (block >= r->n_blocks)
        return;
    const struct lrd_descriptor *d = &r->descriptors[block];
    uint64_t live = lrd_load_relaxed(&d->live);
    ctl_report_group(out, "block");
    ctl_report_u64(out, "index", "", block);
    ctl_report_u64(out, "offset", "bytes", lrd_arena_off(r, get->slot) & ((UINT64_C(1) << r->block_shift) - 1));
    ctl_report_text(out, "state", "%s", block_state(lrd_load_relaxed(&d->state)));
    ctl_report_u64(out, "generation", "", lrd_block_word_generation(get->block_word));
    ctl_report_u64(out, "epoch", "", lrd_block_word_epoch(get->block_word));
    ctl_report_u64(out, "sequence", "", lrd_load_relaxed(&d->sequence));
    ctl_report_u64(out, "used_bytes", "bytes", lrd_load_relaxed(&d->used));
    ctl_report_u64(out, "live_items", "items", lrd_live_items(live));
    ctl_report_u64(out, "live_bytes", "bytes", lrd_live_bytes(live));
}

static enum ctl_status inspect(const struct ctl_call *call, const struct ctl_peek *p, const struct ctl_bytes *key)
{
    unsigned char nothing;
    uint32_t ns;
    if (!ctl_ns_find(call, &p->r, &ns))
        return CTL_FAILURE;
    struct lrd_get get = {
        .key = key->data,
        .key_len = (uint32_t)key->size,
        .ns = ns,
        .hash = lrd_hash(p->r.hash_seed, ns, key->data, key->size),
        .buffer = &nothing, /* no room: an item with a value is "too small", which is found */
        .zero_ns = p->zero_ns,
    };
    enum lrd_outcome outcome = lrd_table_get(&p->r, &get);
    struct ctl_report *out = ctl_report_create();
    report_key(out, &p->r, key, &get);
    report_search(out, &p->r, &get, outcome);
    if (get.slot != 0) {
        report_slot(out, &p->r, &get);
        report_item(out, p, &get);
        report_block(out, &p->r, &get);
    }
    enum ctl_status status = outcome == LRD_ABSENT || outcome == LRD_KNOWN_ABSENT ? CTL_WARNING : CTL_OK;
    if (!ctl_report_print(out, call->json)) {
        ctl_error("cannot write to standard output: %s", strerror(errno));
        status = CTL_FAILURE;
    }
    ctl_report_free(out);
    return status;
}

enum ctl_status ctl_inspect(const struct ctl_call *call) { return ctl_look_up(call, inspect); }
