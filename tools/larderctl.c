/* larderctl: looks at a larder, changes single items in it, makes and empties namespaces. Verbs and options are in tables here; from them come dispatch and help. */
#include "tools/ctl.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* ---- options ---- */

enum option_id {
    OPTION_COUNT,
    OPTION_CREATE,
    OPTION_ESCAPES,
    OPTION_FLAGS,
    OPTION_HEX,
    OPTION_ITEM,
    OPTION_MATCH,
    OPTION_MAX_SILENCE,
    OPTION_NAMESPACE,
    OPTION_NO_MEASURE,
    OPTION_OUTPUT,
    OPTION_PREFIX,
    OPTION_STABLE,
    OPTION_TTL,
    /* for every verb, and before it */
    OPTION_SOCKET,
    OPTION_HELP,
    OPTION_VERSION,
    N_OPTIONS
};
#define BIT(id) (1u << (id))
#define FOR_ALL (BIT(OPTION_SOCKET) | BIT(OPTION_HELP) | BIT(OPTION_VERSION))
#define OF_WRITE (OF_ITEM | BIT(OPTION_TTL) | BIT(OPTION_FLAGS))
#define OF_ITEM (BIT(OPTION_ESCAPES) | BIT(OPTION_HEX) | BIT(OPTION_NAMESPACE))

struct option_info {
    char letter; /* 0: none */
    const char *name;
    const char *argument; /* NULL: none */
    const char *help;
    const char *values; /* what to say instead of a wrong argument; NULL: none is wrong */
};

static const struct option_info option_info[N_OPTIONS] = {
    [OPTION_COUNT] = {'N', "count", "N", "end after so many events [go on]", "a number of 1 or more"},
    [OPTION_CREATE] = {'c', "create", "N", "if there is no such item, count from this number", "a whole number from -9223372036854775808 to 9223372036854775807"},
    [OPTION_ESCAPES] = {'e', "escapes", NULL, "KEY and VALUE have escapes: \\\\ \\t \\n \\r \\e \\0 \\xHH", NULL},
    [OPTION_FLAGS] = {'f', "flags", "N", "store this number (0 to 4294967295) with the item [0]", "a number from 0 to 4294967295"},
    [OPTION_HEX] = {'x', "hex", NULL, "KEY and VALUE are pairs of hexadecimal digits", NULL},
    [OPTION_ITEM] = {'i', "item", NULL, "first a line with its version, flags, size in bytes, and time to live in ms or -", NULL},
    [OPTION_MATCH] = {0, "match", "PATTERN", "keys that match as a whole: * ? [a-z] [^a-z] \\x", NULL},
    [OPTION_MAX_SILENCE] = {'m', "max-silence", "MS", "how long a worker that lives may be silent [1000]", "milliseconds from 0 to 4294967295"},
    [OPTION_NAMESPACE] = {'n', "namespace", "NAME", "of this namespace [default]", NULL},
    [OPTION_NO_MEASURE] = {0, "no-measure", NULL, "do not ask the kernel anew: show what it said the last time", NULL},
    [OPTION_OUTPUT] = {'o', "output", "FORMAT", "text or json [text]", "text or json"},
    [OPTION_PREFIX] = {'p', "prefix", "PREFIX", "keys that begin with it; with -e or -x it is read as a KEY is", NULL},
    [OPTION_STABLE] = {0, "stable", NULL, "the worker is stopped: believe what one look finds", NULL},
    [OPTION_TTL] = {'t', "ttl", "TIME", "time to live: 90, 90s, 500ms, 15m, 2h, 7d, or none [the namespace's]", "90, 90s, 500ms, 15m, 2h, 7d, or none"},
    [OPTION_SOCKET] = {'s', "socket", "PATH", "the daemon's socket [$LARDER_SOCKET, /run/larder/default.sock]", NULL},
    [OPTION_HELP] = {'h', "help", NULL, "say this", NULL},
    [OPTION_VERSION] = {'V', "version", NULL, "say the version", NULL},
};

/* ---- verbs ---- */

struct verb {
    const char *name;
    const char *arguments;
    const char *summary;
    const char *more;
    unsigned options;
    unsigned least_args, most_args;
    enum ctl_status (*run)(const struct ctl_call *call);
};

static const struct verb verbs[] = {
    {"ping", "", "is the daemon alive?", "Exit status 0: yes; 1: its worker is silent, or nobody can attach; 69: there is none.", BIT(OPTION_MAX_SILENCE), 0, 0,
     ctl_ping},
    {"get", "KEY", "write the value of KEY to standard output", "Its bytes and no other; a line end is added on a terminal. Exit status 1: there is no such item.",
     OF_ITEM | BIT(OPTION_ITEM), 1, 1, ctl_get},
    {"set", "KEY VALUE", "store VALUE (-: standard input) under KEY", "Returns when other processes see it; exit status 1: that takes longer than a second.",
     OF_WRITE, 2, 2, ctl_set},
    {"delete", "KEY", "delete KEY", "Returns when other processes see it. Exit status 1: there was no such item, or that takes longer than a second.", OF_ITEM, 1, 1,
     ctl_delete},
    {"add", "KEY VALUE", "store VALUE under KEY if there is no such item", "Exit status 1: there is one.", OF_WRITE, 2, 2, ctl_add},
    {"replace", "KEY VALUE", "store VALUE under KEY if there is such an item", "Exit status 1: there is none.", OF_WRITE, 2, 2, ctl_replace},
    {"cas", "KEY VERSION VALUE", "store VALUE under KEY if the item has VERSION", "get --item shows the version. Exit status 1: it has another one, or there is no item.", OF_WRITE, 3, 3,
     ctl_cas},
    {"append", "KEY VALUE", "add VALUE (-: standard input) behind the value of KEY", "Exit status 1: there is no such item.", OF_ITEM, 2, 2, ctl_append},
    {"prepend", "KEY VALUE", "add VALUE (-: standard input) before the value of KEY", "Exit status 1: there is no such item.", OF_ITEM, 2, 2, ctl_prepend},
    {"touch", "KEY", "give KEY another time to live", "Exit status 1: there is no such item.", OF_ITEM | BIT(OPTION_TTL), 1, 1, ctl_touch},
    {"incr", "KEY [N]", "add N to the number of KEY, and write what comes out", "N is 1 unless said. Exit status 1: there is no such item; 2: its value is no number, or would not fit 64 bits.",
     OF_WRITE | BIT(OPTION_CREATE), 1, 2, ctl_incr},
    {"decr", "KEY [N]", "subtract N from the number of KEY, and write what comes out", "As incr.", OF_WRITE | BIT(OPTION_CREATE), 1, 2, ctl_decr},
    {"keys", "", "write the keys of a namespace, a line each",
     "Bytes escaped as in a dump. A key that is there all the time is written, perhaps twice; one that comes or goes meanwhile perhaps. JSON has sizes, flags and time to live too.",
     OF_ITEM | BIT(OPTION_PREFIX) | BIT(OPTION_MATCH) | BIT(OPTION_OUTPUT), 0, 0, ctl_keys},
    {"dump", "[FILE]", "write all items as lines of text", "One item a line: KEY, flags, time to live in ms or -, VALUE, with tabs between them, bytes escaped.",
     BIT(OPTION_NAMESPACE), 0, 1, ctl_dump},
    {"load", "[FILE]", "store the items of a dump", "Items that are there already are overwritten, others stay.", BIT(OPTION_NAMESPACE), 0, 1, ctl_load},
    {"namespaces", "", "what each namespace is, holds and has counted", "One row a namespace.", BIT(OPTION_OUTPUT), 0, 0, ctl_namespaces},
    {"create", "SPEC", "make a namespace", "SPEC: NAME[,policy=evict|fifo|refuse][,min=SIZE][,max=SIZE][,ttl=TIME][,reset-every=TIME][,feed=N]. There is one made with these options: done.", 0, 1,
     1, ctl_create},
    {"reset", "NAME", "empty a namespace at once", "When it returns nobody finds anything older. Exit status 1: that takes longer than a second.", 0, 1, 1, ctl_reset},
    {"watch", "", "say what changes in a namespace", "One event a line: ms since the segment was made, what, KEY (#hash if it is long), version. Exit status 1: some were missed.",
     BIT(OPTION_COUNT) | BIT(OPTION_NAMESPACE) | BIT(OPTION_OUTPUT), 0, 0, ctl_watch},
    {"stat", "", "figures of segment, table, arena, lanes, worker", "Exit status 1: there are warnings; each says what to do.",
     BIT(OPTION_NAMESPACE) | BIT(OPTION_OUTPUT), 0, 0, ctl_stat},
    {"mem", "", "where every byte is, and what the kernel says", "Exit status 1: sums differ, or the kernel's figure and ours.",
     BIT(OPTION_NO_MEASURE) | BIT(OPTION_OUTPUT), 0, 0, ctl_mem},
    {"inspect", "KEY", "where an item is and what finding it costs", "Exit status 1: there is no such item.", OF_ITEM | BIT(OPTION_OUTPUT), 1, 1, ctl_inspect},
    {"why", "KEY", "why is KEY not there?", "Exit status 0: it is; 1: it is not.", OF_ITEM | BIT(OPTION_OUTPUT), 1, 1, ctl_why},
    {"check", "", "prove the invariants of table and arena", "Exit status 2: findings, one a line; 1: the worker stands in the middle of a change.", BIT(OPTION_STABLE), 0,
     0, ctl_check},
};
#define N_VERBS (sizeof verbs / sizeof *verbs)

static const struct verb *find_verb(const char *name)
{
    for (size_t i = 0; i < N_VERBS; i++)
        if (strcmp(verbs[i].name, name) == 0)
            return &verbs[i];
    return NULL;
}

/* ---- saying ---- */

static const struct verb *current; /* names the verb in errors; NULL before it is known */

void ctl_error(const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    fprintf(stderr, "larderctl%s%s: ", current ? " " : "", current ? current->name : "");
    vfprintf(stderr, format, ap);
    putc('\n', stderr);
    va_end(ap);
}

void *ctl_grow(void *p, size_t n, size_t bytes)
{
    void *grown = reallocarray(p, n, bytes);
    if (grown == NULL) {
        ctl_error("no memory for %zu times %zu bytes", n, bytes);
        exit(CTL_FAILURE);
    }
    return grown;
}

void *ctl_alloc(size_t n, size_t bytes)
{
    void *p = calloc(n, bytes);
    if (p == NULL) {
        ctl_error("no memory for %zu times %zu bytes", n, bytes);
        exit(CTL_FAILURE);
    }
    return p;
}

static void print_options(unsigned which)
{
    for (unsigned i = 0; i < N_OPTIONS; i++) {
        const struct option_info *o = &option_info[i];
        char left[64];
        if ((which & BIT(i)) == 0)
            continue;
        snprintf(left, sizeof left, "%c%c%c --%s%s%s", o->letter ? '-' : ' ', o->letter ? o->letter : ' ', o->letter ? ',' : ' ', o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        printf("  %-24s %s\n", left, o->help);
    }
}

static void print_help(const struct verb *verb)
{
    if (verb) {
        printf("usage: larderctl [--socket PATH] %s [OPTION...]%s%s\n%s\n%s\n\n", verb->name, *verb->arguments ? " " : "", verb->arguments, verb->summary, verb->more);
        print_options(verb->options | FOR_ALL);
        return;
    }
    puts("usage: larderctl [--socket PATH] VERB [OPTION...] [ARGUMENT...]\n");
    for (size_t i = 0; i < N_VERBS; i++) {
        char left[64];
        snprintf(left, sizeof left, "%s %s", verbs[i].name, verbs[i].arguments);
        printf("  %-24s %s\n", left, verbs[i].summary);
    }
    putchar('\n');
    print_options(FOR_ALL);
    puts("\nlarderctl VERB --help says more. An argument that begins with - comes after --.\n"
         "Exit status: 0 done, 1 a miss or a warning, 2 failure, 64 usage, 69 no daemon.");
}

/* ---- reading the command line ---- */

/* 90 or 90s, 500ms, 15m, 2h, 7d, none. */
static bool parse_ttl(const char *text, int64_t *ttl_ms)
{
    static const struct {
        const char *suffix;
        uint64_t ms;
    } unit[] = {{"ms", 1}, {"s", 1000}, {"", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
    char digits[32];
    size_t n = strspn(text, "0123456789");
    uint64_t value;
    if (strcmp(text, "none") == 0) {
        *ttl_ms = LARDER_TTL_NONE;
        return true;
    }
    if (n == 0 || n >= sizeof digits)
        return false;
    memcpy(digits, text, n);
    digits[n] = '\0';
    for (size_t i = 0; i < sizeof unit / sizeof *unit; i++) {
        if (strcmp(text + n, unit[i].suffix) != 0)
            continue;
        if (!ctl_number(digits, LRD_EXPIRES_MAX / unit[i].ms, &value) || value == 0)
            return false;
        *ttl_ms = (int64_t)(value * unit[i].ms);
        return true;
    }
    return false;
}

static bool wrong(enum option_id id, const char *argument)
{
    ctl_error("--%s '%s' does not do: say %s", option_info[id].name, argument, option_info[id].values);
    return false;
}

static bool take_option(struct ctl_call *call, enum option_id id, const char *argument)
{
    uint64_t n;
    switch (id) {
    case OPTION_COUNT:
        return (ctl_number(argument, UINT64_MAX, &call->count) && call->count > 0) || wrong(id, argument);
    case OPTION_CREATE:
        call->create = true;
        return ctl_signed(argument, &call->initial) || wrong(id, argument);
    case OPTION_ESCAPES:
    case OPTION_HEX:
        call->form = id == OPTION_HEX ? CTL_HEX : CTL_ESCAPED;
        return true;
    case OPTION_FLAGS:
        if (!ctl_number(argument, UINT32_MAX, &n))
            return wrong(id, argument);
        call->flags = (uint32_t)n;
        return true;
    case OPTION_ITEM:
        call->item = true;
        return true;
    case OPTION_MATCH:
        call->match = argument;
        return true;
    case OPTION_MAX_SILENCE:
        if (!ctl_number(argument, UINT32_MAX, &n))
            return wrong(id, argument);
        call->max_silence_ms = (uint32_t)n;
        return true;
    case OPTION_NAMESPACE:
        call->ns = argument;
        call->ns_given = true;
        return true;
    case OPTION_NO_MEASURE:
        call->no_measure = true;
        return true;
    case OPTION_OUTPUT:
        call->json = strcmp(argument, "json") == 0;
        return call->json || strcmp(argument, "text") == 0 || wrong(id, argument);
    case OPTION_PREFIX:
        call->prefix = argument;
        return true;
    case OPTION_STABLE:
        call->stable = true;
        return true;
    case OPTION_TTL:
        return parse_ttl(argument, &call->ttl_ms) || wrong(id, argument);
    case OPTION_SOCKET:
        call->socket = argument;
        return true;
    case OPTION_HELP:
    case OPTION_VERSION:
    case N_OPTIONS:
        break;
    }
    return true;
}

/* The tables as getopt_long wants them. val is 1 + the option's id. */
static void getopt_tables(unsigned which, struct option longs[N_OPTIONS + 1], char letters[3 * N_OPTIONS + 3])
{
    size_t n = 0;
    if (current == NULL)
        *letters++ = '+'; /* stop at the verb; after it options may come anywhere */
    *letters++ = ':';     /* we say ourselves what is wrong */
    for (unsigned i = 0; i < N_OPTIONS; i++) {
        const struct option_info *o = &option_info[i];
        if ((which & BIT(i)) == 0)
            continue;
        longs[n++] = (struct option){o->name, o->argument ? required_argument : no_argument, NULL, 1 + (int)i};
        if (o->letter)
            *letters++ = o->letter;
        if (o->letter && o->argument)
            *letters++ = ':';
    }
    longs[n] = (struct option){0};
    *letters = '\0';
}

static enum option_id by_letter(int c)
{
    for (unsigned i = 0; i < N_OPTIONS; i++)
        if (option_info[i].letter == c)
            return (enum option_id)i;
    return N_OPTIONS;
}

/* getopt_long stopped at something that is no option of ours, or that lacks its argument. */
static void complain(int c, char **argv)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    const char *option = optopt != 0 && by_letter(optopt) != N_OPTIONS ? letter : argv[optind - 1];
    if (c == ':')
        ctl_error("%s needs an argument; see larderctl --help", option);
    else
        ctl_error("%s is not an option here; an argument that begins with - comes after --; see larderctl %s%s--help", option, current ? current->name : "",
                  current ? " " : "");
}

/* Takes the options. True: go on; false: *status says how it ended. */
static bool take_options(struct ctl_call *call, unsigned which, int argc, char **argv, enum ctl_status *status)
{
    struct option longs[N_OPTIONS + 1];
    char letters[3 * N_OPTIONS + 3];
    int c;
    getopt_tables(which, longs, letters);
    while ((c = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        enum option_id id = c >= 1 && c <= N_OPTIONS ? (enum option_id)(c - 1) : by_letter(c);
        *status = CTL_USAGE;
        if (c == ':' || c == '?') {
            complain(c, argv);
            return false;
        }
        if (!take_option(call, id, optarg))
            return false;
        *status = CTL_OK;
        if (id == OPTION_HELP)
            print_help(current);
        else if (id == OPTION_VERSION)
            printf("larderctl %s, layout %u\n", larder_version(), LRD_LAYOUT_VERSION);
        if (id == OPTION_HELP || id == OPTION_VERSION)
            return false;
    }
    return true;
}

static enum ctl_status run_verb(struct ctl_call *call, int argc, char **argv)
{
    enum ctl_status status;
    optind = 0; /* anew; argv[0] is the verb */
    if (!take_options(call, current->options | FOR_ALL, argc, argv, &status))
        return status;
    call->args = argv + optind;
    call->n_args = (unsigned)(argc - optind);
    if (call->n_args < current->least_args || call->n_args > current->most_args) {
        ctl_error("usage: larderctl %s [OPTION...]%s%s", current->name, *current->arguments ? " " : "", current->arguments);
        return CTL_USAGE;
    }
    call->socket = ctl_socket(call->socket);
    return current->run(call);
}

int main(int argc, char **argv)
{
    struct ctl_call call = {.ns = "default", .ttl_ms = LARDER_TTL_DEFAULT, .max_silence_ms = 1000};
    enum ctl_status status;
    opterr = 0;
    if (!take_options(&call, FOR_ALL, argc, argv, &status))
        return (int)status;
    if (optind == argc) {
        ctl_error("no verb; see larderctl --help");
        return CTL_USAGE;
    }
    const char *name = argv[optind];
    current = find_verb(name);
    if (current == NULL) {
        ctl_error("'%s' is not a verb; see larderctl --help", name);
        return CTL_USAGE;
    }
    return (int)run_verb(&call, argc - optind, argv + optind);
}
