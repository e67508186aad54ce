/* larderctl, inside: what its verbs share.
 *
 * Verbs that look (get, dump, stat, namespaces, mem, inspect, why, check) read the segment itself, through SOCKET.peek: no lane, no worker needed. Verbs that
 * change something go through liblarder like any application. The segment's bytes are loaded once, checked, then used.
 */
#ifndef CTL_H
#define CTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "libclient/larder.h"
#include "shm/layout.h"
#include "shm/segment.h"

enum ctl_status {
    CTL_OK = 0,
    CTL_WARNING = 1, /* a miss, or something to look after */
    CTL_FAILURE = 2,
    CTL_USAGE = 64,     /* EX_USAGE */
    CTL_NO_DAEMON = 69, /* EX_UNAVAILABLE */
};

enum ctl_form { CTL_AS_IS, CTL_ESCAPED, CTL_HEX };

/* What the command line said. */
struct ctl_call {
    const char *socket;
    const char *ns;     /* a namespace's name, */
    bool ns_given;      /* which was said and is not only taken */
    enum ctl_form form; /* of keys and values on the command line */
    int64_t ttl_ms;     /* for larder_set_options */
    uint32_t flags;
    uint32_t max_silence_ms;
    uint64_t count;     /* 0: no end */
    bool create;        /* incr and decr: from here on, if there is no item */
    int64_t initial;
    bool item;          /* get: what is known about it, too */
    const char *prefix; /* NULL: any */
    const char *match;  /* NULL: any; else a pattern of shm/glob.h */
    bool json;
    bool no_measure;
    bool stable;
    unsigned n_args;
    char **args;
};

/* ---- verbs, by file ---- */
enum ctl_status ctl_ping(const struct ctl_call *call);    /* ctl_ping.c */
enum ctl_status ctl_get(const struct ctl_call *call);     /* ctl_item.c */
enum ctl_status ctl_set(const struct ctl_call *call);
enum ctl_status ctl_delete(const struct ctl_call *call);
enum ctl_status ctl_add(const struct ctl_call *call);
enum ctl_status ctl_replace(const struct ctl_call *call);
enum ctl_status ctl_cas(const struct ctl_call *call);
enum ctl_status ctl_append(const struct ctl_call *call);
enum ctl_status ctl_prepend(const struct ctl_call *call);
enum ctl_status ctl_touch(const struct ctl_call *call);
enum ctl_status ctl_incr(const struct ctl_call *call);
enum ctl_status ctl_decr(const struct ctl_call *call);
enum ctl_status ctl_keys(const struct ctl_call *call);    /* ctl_keys.c */
enum ctl_status ctl_dump(const struct ctl_call *call);    /* ctl_dump.c */
enum ctl_status ctl_load(const struct ctl_call *call);
enum ctl_status ctl_stat(const struct ctl_call *call);    /* ctl_stat.c */
enum ctl_status ctl_inspect(const struct ctl_call *call); /* ctl_inspect.c */
enum ctl_status ctl_why(const struct ctl_call *call);     /* ctl_why.c */
enum ctl_status ctl_mem(const struct ctl_call *call);     /* ctl_mem.c */
enum ctl_status ctl_namespaces(const struct ctl_call *call); /* ctl_namespace.c */
enum ctl_status ctl_create(const struct ctl_call *call);
enum ctl_status ctl_reset(const struct ctl_call *call);
enum ctl_status ctl_watch(const struct ctl_call *call);   /* ctl_watch.c */
enum ctl_status ctl_check(const struct ctl_call *call);   /* ctl_check.c */

/* ---- larderctl.c ---- */

/* One line on stderr: what is wrong, where, how to put it right. */
void ctl_error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Memory, or the end of the program with a line that says so. */
void *ctl_alloc(size_t n, size_t bytes);
void *ctl_grow(void *p, size_t n, size_t bytes);

/* ---- ctl_bytes.c: bytes as text ---- */

struct ctl_bytes {
    unsigned char *data;
    size_t size;
};

/* Takes the escapes out of text, in place. 0; -EINVAL: an escape that is none (*bad: where). */
int ctl_unescape(unsigned char *text, size_t *size, size_t *bad);

/* Writes bytes so that they have no line end, tab or byte above 126, and can be read back by ctl_unescape(). first_hash: also a leading #. */
void ctl_escape(FILE *to, const unsigned char *bytes, size_t size, bool first_hash);

/* An argument as bytes, newly allocated. False: it is not what its form says; a line was written. */
bool ctl_argument(const struct ctl_call *call, const char *what, const char *text, struct ctl_bytes *out);

/* The same for a key: 1 to LRD_KEY_MAX bytes. */
bool ctl_key_argument(const struct ctl_call *call, struct ctl_bytes *out);

/* A whole number in decimal or 0x..., up to max, all of text. */
bool ctl_number(const char *text, uint64_t max, uint64_t *out);

/* The same with a minus sign or none, of 64 bits. */
bool ctl_signed(const char *text, int64_t *out);

/* ---- ctl_peek.c: the segment, read-only ---- */

struct ctl_peek {
    struct lrd_reader r;
    void *base;
    size_t bytes;
    uint64_t zero_ns; /* this process's CLOCK_MONOTONIC at segment time 0 */
};

/* --socket, else $LARDER_SOCKET, else the default instance's. */
const char *ctl_socket(const char *given);

/* CTL_OK; anything else: a line was written. */
enum ctl_status ctl_peek_open(struct ctl_peek *p, const char *socket);
void ctl_peek_close(struct ctl_peek *p);

/* For a verb with a key: takes the key, opens the segment, looks, closes. */
enum ctl_status ctl_look_up(const struct ctl_call *call, enum ctl_status (*look)(const struct ctl_call *call, const struct ctl_peek *p, const struct ctl_bytes *key));

uint64_t ctl_now_ms(const struct ctl_peek *p);
uint64_t ctl_silence_ms(const struct ctl_peek *p);

/* Attaches as an application does. */
enum ctl_status ctl_attach(struct larder **out, const struct ctl_call *call);

/* What a result of liblarder means for the exit status. */
enum ctl_status ctl_result_status(int result);

/* ---- ctl_walk.c: items by slot ---- */

enum ctl_slot { CTL_SLOT_EMPTY, CTL_SLOT_DEAD, CTL_SLOT_LIVE, CTL_SLOT_BAD };

/* What a slot pointed to, at one moment: a private copy. */
struct ctl_item {
    uint64_t slot;
    uint64_t block_word;
    uint64_t used;       /* of the block's descriptor, as latest_expiry and block_ns */
    uint64_t latest_expiry;
    uint64_t block_ns;
    uint64_t expires_ms;
    uint64_t off;        /* in the arena */
    uint32_t block;
    uint32_t ns;
    uint32_t flags;
    uint32_t kind;
    uint32_t key_len;
    uint32_t value_len;
    uint32_t bytes;      /* padding included */
    unsigned char *data; /* key, then value if asked for; room for the largest item */
    const char *bad;     /* why CTL_SLOT_BAD */
};

void ctl_item_init(struct ctl_item *item, const struct lrd_reader *r);
void ctl_item_fini(struct ctl_item *item);

/* Looks at a slot and copies its item; starts over while somebody changes what it looks at. */
enum ctl_slot ctl_item_look(const struct lrd_reader *r, const lrd_u64 *at, struct ctl_item *item, bool with_value);

/* Whether a slot is live, without a look at its item; as of now, it may change at once. */
bool ctl_slot_is_live(const struct lrd_reader *r, uint64_t slot);

/* Buckets that a get of the item in this slot looks at. */
uint32_t ctl_slot_lines(const struct lrd_reader *r, uint32_t bucket, uint64_t slot);

static inline uint32_t ctl_n_buckets(const struct lrd_reader *r) { return r->n_pairs * 2; }

/* ---- ctl_namespace.c ---- */

/* What is no character of a name is a question mark in it. */
void ctl_ns_name(const struct lrd_reader *r, uint32_t ns, char name[LRD_NAMESPACE_NAME]);

bool ctl_ns_is_live(const struct lrd_reader *r, uint32_t ns);

/* The namespace of the call. False: there is none; a line was written. */
bool ctl_ns_find(const struct ctl_call *call, const struct lrd_reader *r, uint32_t *ns);

/* The same through a handle. CTL_OK; anything else: a line was written. */
enum ctl_status ctl_ns_open(const struct ctl_call *call, struct larder *l, struct larder_ns **ns);

/* ---- ctl_blocks.c: where the bytes of the arena are ---- */

/* Of blocks in use. All bytes together are the blocks' size. */
struct ctl_space {
    uint64_t blocks;
    uint64_t items;                                      /* live */
    uint64_t payload_bytes, header_bytes, padding_bytes; /* of those */
    uint64_t dead_bytes;                                 /* written, and no live item's */
    uint64_t free_bytes, tail_bytes;                     /* not written: of open blocks, which will be, and of full ones */
};

struct ctl_arena {
    struct ctl_space of[LRD_NAMESPACES];
    struct ctl_space all; /* their sum */
    uint64_t open_blocks; /* of those */
    uint64_t free_blocks;
    uint64_t unknown_blocks; /* whose descriptor makes no sense; check says more */
};

void ctl_arena_look(const struct lrd_reader *r, struct ctl_arena *a);
uint64_t ctl_space_live(const struct ctl_space *s);
uint64_t ctl_space_bytes(const struct ctl_space *s);

/* ---- ctl_report.c: figures, written as text or as JSON ---- */

struct ctl_report;

struct ctl_report *ctl_report_create(void);
void ctl_report_free(struct ctl_report *report);

/* A group of figures; a list is a group of rows, each with figures of its own; a table is a list whose rows have the same figures. */
void ctl_report_group(struct ctl_report *report, const char *name);
void ctl_report_list(struct ctl_report *report, const char *name);
void ctl_report_table(struct ctl_report *report, const char *name);
void ctl_report_row(struct ctl_report *report);

/* Names and units are static strings; unit "" for bare numbers. Text is copied. */
void ctl_report_u64(struct ctl_report *report, const char *name, const char *unit, uint64_t value);
void ctl_report_real(struct ctl_report *report, const char *name, const char *unit, double value);
void ctl_report_text(struct ctl_report *report, const char *name, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* A sentence in a list of sentences. */
void ctl_report_say(struct ctl_report *report, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* False: stdout cannot be written. */
bool ctl_report_print(const struct ctl_report *report, bool json);

#endif
