/* All items as lines of text, and back.
 *
 *   #larder dump 1
 *   KEY<tab>FLAGS<tab>TTL<tab>VALUE        KEY and VALUE escaped (ctl_bytes.c), FLAGS decimal, TTL milliseconds left or - for none
 *   #end N                                 N items: without this line the dump is not whole
 *
 * Lines that begin with # are not items; a key that does has its # escaped. Load takes any mix of item lines, also without first and last
 * line; if there is a first line there must be a last one.
 *
 * A dump is taken while others write. Every item is whole. An item that was there all the time is in it (shm/walk.h); one that moved in the table meanwhile may be in it
 * twice. */
#include "tools/ctl.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "shm/item.h"
#include "shm/walk.h"

#define FIRST_LINE "#larder dump "
#define LAST_LINE "#end "
#define FORMAT 1u
#define BUSY_TRIES 10u     /* of a second each (ctl_attach) */
#define FLUSH_MS 30000u
#define FAULTS_SAID 10u    /* lines with faults; of the others only the count is said */

/* ---- dump ---- */

struct dump {
    const struct ctl_peek *p;
    uint32_t ns;
    struct ctl_item item;
    FILE *to;
    uint64_t n_items;
    uint64_t n_bad;
};

static void write_item(struct dump *d)
{
    const struct ctl_item *item = &d->item;
    uint64_t now_ms = ctl_now_ms(d->p);
    if (item->expires_ms != 0 && item->expires_ms <= now_ms)
        return;
    ctl_escape(d->to, item->data, item->key_len, true);
    if (item->expires_ms == 0)
        fprintf(d->to, "\t%" PRIu32 "\t-\t", item->flags);
    else
        fprintf(d->to, "\t%" PRIu32 "\t%" PRIu64 "\t", item->flags, item->expires_ms - now_ms);
    ctl_escape(d->to, item->data + item->key_len, item->value_len, false);
    putc('\n', d->to);
    d->n_items++;
}

static enum ctl_status dump(struct dump *d, const char *name)
{
    const struct lrd_reader *r = &d->p->r;
    const lrd_u64 *at;
    struct lrd_walk w;
    uint64_t budget = UINT64_MAX;
    fprintf(d->to, FIRST_LINE "%u\n", FORMAT);
    lrd_walk_begin(r, &w);
    while ((at = lrd_walk_next(r, &w, &budget)) != NULL) {
        enum ctl_slot state = ctl_item_look(r, at, &d->item, true);
        if (state == CTL_SLOT_LIVE && d->item.ns == d->ns && lrd_item_is_value(d->item.kind))
            write_item(d);
        d->n_bad += state == CTL_SLOT_BAD && w.pass == 0; /* which sees all of them */
    }
    fprintf(d->to, LAST_LINE "%" PRIu64 "\n", d->n_items);
    if (fflush(d->to) != 0 || ferror(d->to)) {
        ctl_error("cannot write to %s: %s; the dump is not whole", name, strerror(errno));
        return CTL_FAILURE;
    }
    if (d->n_bad != 0) {
        ctl_error("%" PRIu64 " slots make no sense and were left out: see larderctl check", d->n_bad);
        return CTL_FAILURE;
    }
    return CTL_OK;
}

static enum ctl_status dump_to(const struct ctl_peek *p, uint32_t ns, const char *path)
{
    struct dump d = {.p = p, .ns = ns, .to = path ? fopen(path, "we") : stdout};
    if (d.to == NULL) {
        ctl_error("cannot write to %s: %s", path, strerror(errno));
        return CTL_FAILURE;
    }
    ctl_item_init(&d.item, &p->r);
    enum ctl_status status = dump(&d, path ? path : "standard output");
    ctl_item_fini(&d.item);
    if (path && fclose(d.to) != 0 && status == CTL_OK) {
        ctl_error("cannot write to %s: %s; the dump is not whole", path, strerror(errno));
        status = CTL_FAILURE;
    }
    if (path && status == CTL_OK)
        printf("%" PRIu64 " items in %s\n", d.n_items, path);
    return status;
}

static const char *file_argument(const struct ctl_call *call)
{
    return call->n_args == 1 && strcmp(call->args[0], "-") != 0 ? call->args[0] : NULL;
}

enum ctl_status ctl_dump(const struct ctl_call *call)
{
    struct ctl_peek p;
    enum ctl_status status = ctl_peek_open(&p, call->socket);
    if (status != CTL_OK)
        return status;
    uint32_t ns;
    status = ctl_ns_find(call, &p.r, &ns) ? dump_to(&p, ns, file_argument(call)) : CTL_FAILURE;
    ctl_peek_close(&p);
    return status;
}

/* ---- load ---- */

struct load {
    struct larder *l;
    struct larder_ns *ns;
    const char *name;
    uint64_t line;
    uint64_t n_items, n_faults;
    uint64_t n_said; /* by the last line */
    bool first_line, last_line;
};

static void fault(struct load *load, const char *what)
{
    if (load->n_faults++ < FAULTS_SAID)
        ctl_error("%s:%" PRIu64 ": %s", load->name, load->line, what);
}

/* A line that begins with #. False: it is a dump that we do not understand. */
static bool take_note(struct load *load, const char *text)
{
    uint64_t n;
    if (strncmp(text, FIRST_LINE, strlen(FIRST_LINE)) == 0) {
        load->first_line = true;
        if (ctl_number(text + strlen(FIRST_LINE), UINT32_MAX, &n) && n == FORMAT)
            return true;
        ctl_error("%s:%" PRIu64 ": this larderctl loads format %u, not '%s': use the larderctl that wrote it", load->name, load->line, FORMAT,
                  text + strlen(FIRST_LINE));
        return false;
    }
    if (strncmp(text, LAST_LINE, strlen(LAST_LINE)) == 0 && ctl_number(text + strlen(LAST_LINE), UINT64_MAX, &n)) {
        load->last_line = true;
        load->n_said += n;
    }
    return true;
}

/* Cuts a line into its four fields; NULL: good, else what is wrong. */
static const char *split(unsigned char *line, size_t size, struct ctl_bytes field[4])
{
    for (unsigned i = 0; i < 4; i++) {
        unsigned char *tab = i < 3 ? memchr(line, '\t', size) : line + size;
        if (tab == NULL)
            return "a line has four fields with tabs between them: KEY FLAGS TTL VALUE";
        field[i] = (struct ctl_bytes){line, (size_t)(tab - line)};
        size -= i < 3 ? field[i].size + 1 : field[i].size;
        *tab = '\0';
        line = tab + 1;
    }
    return NULL;
}

/* NULL: good, else what is wrong. */
static const char *parse(struct ctl_bytes field[4], struct larder_set_options *options)
{
    uint64_t n;
    size_t bad;
    if (ctl_unescape(field[0].data, &field[0].size, &bad) < 0)
        return "the key has an escape that is none: there are \\\\ \\t \\n \\r \\e \\0 and \\xHH";
    if (field[0].size == 0 || field[0].size > LRD_KEY_MAX)
        return "a key has 1 to 1024 bytes";
    if (!ctl_number((const char *)field[1].data, UINT32_MAX, &n))
        return "the second field, flags, is a number below 2^32";
    options->flags = (uint32_t)n;
    options->ttl_ms = LARDER_TTL_NONE;
    if (strcmp((const char *)field[2].data, "-") != 0) {
        if (!ctl_number((const char *)field[2].data, LRD_EXPIRES_MAX, &n) || n == 0)
            return "the third field, the time to live, is milliseconds, at least 1, or - for ever";
        options->ttl_ms = (int64_t)n;
    }
    if (ctl_unescape(field[3].data, &field[3].size, &bad) < 0)
        return "the value has an escape that is none: there are \\\\ \\t \\n \\r \\e \\0 and \\xHH";
    return NULL;
}

static enum ctl_status put(struct load *load, const struct ctl_bytes field[4], const struct larder_set_options *options)
{
    int r = LARDER_BUSY;
    for (unsigned i = 0; i < BUSY_TRIES && r == LARDER_BUSY; i++)
        r = larder_set(load->ns, field[0].data, field[0].size, field[3].data, field[3].size, options, NULL);
    if (r == LARDER_OK)
        load->n_items++;
    else if (r == -E2BIG)
        fault(load, "the item is larger than this daemon takes (larderctl stat: item_max_bytes)");
    else {
        ctl_error("%s:%" PRIu64 ": %s; %" PRIu64 " items were loaded before", load->name, load->line, larder_strerror(r), load->n_items);
        return ctl_result_status(r);
    }
    return CTL_OK;
}

static enum ctl_status load_line(struct load *load, char *line, size_t size)
{
    struct larder_set_options options = {.size = sizeof options};
    struct ctl_bytes field[4];
    load->line++;
    if (size > 0 && line[size - 1] == '\n')
        line[--size] = '\0';
    if (size == 0)
        return CTL_OK;
    if (line[0] == '#')
        return take_note(load, line) ? CTL_OK : CTL_FAILURE;
    const char *wrong = split((unsigned char *)line, size, field);
    if (!wrong)
        wrong = parse(field, &options);
    if (wrong) {
        fault(load, wrong);
        return CTL_OK;
    }
    return put(load, field, &options);
}

static enum ctl_status load_all(struct load *load, FILE *from)
{
    char *line = NULL;
    size_t room = 0;
    ssize_t size;
    enum ctl_status status = CTL_OK;
    while (status == CTL_OK && (size = getline(&line, &room, from)) >= 0)
        status = load_line(load, line, (size_t)size);
    free(line);
    if (status == CTL_OK && ferror(from)) {
        ctl_error("cannot read %s: %s", load->name, strerror(errno));
        status = CTL_FAILURE;
    }
    return status;
}

/* What is to be said when all lines were read. */
static enum ctl_status conclude(struct load *load)
{
    int r = larder_flush(load->l, FLUSH_MS);
    printf("%" PRIu64 " items loaded\n", load->n_items);
    if (r != LARDER_OK) {
        ctl_error("the items were acknowledged, but: %s (see larderctl ping)", larder_strerror(r));
        return r == LARDER_TIMEOUT ? CTL_WARNING : CTL_FAILURE;
    }
    if (load->n_faults != 0) {
        ctl_error("%" PRIu64 " lines of %s were left out", load->n_faults, load->name);
        return CTL_FAILURE;
    }
    if (load->first_line && (!load->last_line || load->n_said != load->n_items)) {
        ctl_error("%s is not a whole dump: %s", load->name, load->last_line ? "it has another number of items than its last line says" : "its last line is missing");
        return CTL_FAILURE;
    }
    return CTL_OK;
}

enum ctl_status ctl_load(const struct ctl_call *call)
{
    const char *path = file_argument(call);
    struct load load = {.name = path ? path : "standard input"};
    FILE *from = path ? fopen(path, "re") : stdin;
    if (from == NULL) {
        ctl_error("cannot read %s: %s", path, strerror(errno));
        return CTL_FAILURE;
    }
    enum ctl_status status = ctl_attach(&load.l, call);
    if (status == CTL_OK) {
        status = ctl_ns_open(call, load.l, &load.ns);
        if (status == CTL_OK)
            status = load_all(&load, from);
        if (status == CTL_OK)
            status = conclude(&load);
        larder_close(load.l);
    }
    if (path)
        fclose(from);
    return status;
}
