/* Every way in ends at set_param(), which takes text: one parser and one set of messages for the command line, the file and the defaults. libconfuse does the
 * file's grammar and knows the line; it is told that all values are strings. */
#include "daemon/config.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <confuse.h>

#include "shm/layout.h"

enum param_type { TYPE_size, TYPE_count, TYPE_ratio, TYPE_mode, TYPE_text, TYPE_choice, TYPE_numa, TYPE_list };

struct param {
    const char *name;
    const char *option;
    enum param_type type;
    size_t at; /* in struct lrd_config */
    const char *standard;
    double low, high;
    const char *argument;
    const char *help;
};

static const struct param params[] = {
#define LRD_PARAM(name, option, type, standard, low, high, argument, help) \
    {#name, option, TYPE_##type, offsetof(struct lrd_config, name), standard, low, (double)(high), argument, help},
#define LRD_ACTION(option, argument, help)
#include "daemon/params.def"
#undef LRD_PARAM
#undef LRD_ACTION
};

struct action {
    const char *option;
    const char *argument;
    const char *help;
};

static const struct action actions[] = {
#define LRD_PARAM(name, option, type, standard, low, high, argument, help)
#define LRD_ACTION(option, argument, help) {option, argument, help},
#include "daemon/params.def"
#undef LRD_PARAM
#undef LRD_ACTION
};

#define N_PARAMS (sizeof params / sizeof params[0])
#define N_ACTIONS (sizeof actions / sizeof actions[0])

/* ---- values ---- */

static uint32_t n_words(const char *words)
{
    uint32_t n = 1;
    for (; *words != '\0'; words++)
        n += *words == '|';
    return n;
}

/* The index-th of words separated by bars; its length. */
static size_t word_at(const char *words, uint32_t index, const char **at)
{
    for (; index > 0; index--)
        words = strchr(words, '|') + 1;
    *at = words;
    return strcspn(words, "|");
}

static bool parse_ratio(const char *text, double *value)
{
    char *end;
    if (!isdigit((unsigned char)text[0]) && text[0] != '.')
        return false;
    *value = strtod(text, &end);
    return *end == '\0';
}

static bool parse_choice(const char *text, const char *words, uint32_t *value)
{
    for (uint32_t i = 0; i < n_words(words); i++) {
        const char *word;
        size_t n = word_at(words, i, &word);
        if (strlen(text) == n && memcmp(text, word, n) == 0) {
            *value = i;
            return true;
        }
    }
    return false;
}

static bool parse_numa(const char *text, struct lrd_numa_wish *value)
{
    uint64_t node;
    const char *rest;
    *value = (struct lrd_numa_wish){.policy = LRD_NUMA_NONE};
    if (strcmp(text, "none") == 0)
        return true;
    if (strcmp(text, "local") == 0)
        value->policy = LRD_NUMA_LOCAL;
    else if (strcmp(text, "interleave") == 0)
        value->policy = LRD_NUMA_INTERLEAVE;
    else if (strncmp(text, "bind:", 5) == 0 && lrd_whole_parse(text + 5, 10, &node, &rest) && *rest == '\0' && node < 1024)
        *value = (struct lrd_numa_wish){.policy = LRD_NUMA_BIND, .node = (uint32_t)node};
    else
        return false;
    return true;
}

/* What would have been right, for the end of a message. */
static void put_expectation(const struct param *p, char *to, size_t bytes)
{
    char low[16], high[16];
    switch (p->type) {
    case TYPE_size:
        if (p->high >= (double)INT64_MAX)
            snprintf(to, bytes, "say bytes or a number with K, M, G or T, at least %s, for example %s", lrd_size_text((uint64_t)p->low, low), p->standard);
        else
            snprintf(to, bytes, "say bytes or a number with K, M, G or T, from %s to %s, for example %s", lrd_size_text((uint64_t)p->low, low),
                     lrd_size_text((uint64_t)p->high, high), p->standard);
        break;
    case TYPE_count:
        snprintf(to, bytes, "say a number from %.0f to %.0f", p->low, p->high);
        break;
    case TYPE_ratio:
        snprintf(to, bytes, "say a number from %.2f to %.2f", p->low, p->high);
        break;
    case TYPE_mode:
        snprintf(to, bytes, "say an octal number from 0 to 0777, for example %s", p->standard);
        break;
    case TYPE_choice:
    case TYPE_numa:
        snprintf(to, bytes, "say one of %s", p->argument);
        break;
    case TYPE_text:
    case TYPE_list: /* says it itself */
        snprintf(to, bytes, "say some text");
        break;
    }
}

static bool in_bounds(const struct param *p, double value) { return value >= p->low && value <= p->high; }

static bool set_text(lrd_param_text *to, const char *text)
{
    char *copy = strdup(text);
    if (copy == NULL)
        return false;
    free(*to);
    *to = copy;
    return true;
}

/* Takes a value of any type from text. */
static bool parse_param(const struct param *p, const char *text, struct lrd_config *c)
{
    void *to = (unsigned char *)c + p->at;
    const char *rest;
    uint64_t whole;
    double ratio;
    switch (p->type) {
    case TYPE_size:
        if (!lrd_size_parse(text, &whole) || !in_bounds(p, (double)whole))
            return false;
        *(lrd_param_size *)to = whole;
        return true;
    case TYPE_count:
        if (!lrd_whole_parse(text, 10, &whole, &rest) || *rest != '\0' || !in_bounds(p, (double)whole))
            return false;
        *(lrd_param_count *)to = (uint32_t)whole;
        return true;
    case TYPE_mode:
        if (!lrd_whole_parse(text, 8, &whole, &rest) || *rest != '\0' || !in_bounds(p, (double)whole))
            return false;
        *(lrd_param_mode *)to = (uint32_t)whole;
        return true;
    case TYPE_ratio:
        if (!parse_ratio(text, &ratio) || !in_bounds(p, ratio))
            return false;
        *(lrd_param_ratio *)to = ratio;
        return true;
    case TYPE_choice:
        return parse_choice(text, p->argument, to);
    case TYPE_numa:
        return parse_numa(text, to);
    case TYPE_text:
        return set_text(to, text);
    case TYPE_list:
        break;
    }
    return false;
}

/* ---- lists ---- */

static bool is_in_list(const lrd_param_list *list, const char *name)
{
    for (uint32_t i = 0; i < list->n; i++)
        if (strcmp(list->at[i].name, name) == 0)
            return true;
    return false;
}

static bool append(lrd_param_list *list, const struct lrd_ns_spec *spec)
{
    struct lrd_ns_spec *at = realloc(list->at, (list->n + 1) * sizeof *at);
    if (at == NULL)
        return false;
    at[list->n] = *spec;
    *list = (lrd_param_list){.at = at, .n = list->n + 1};
    return true;
}

/* One more value; no name twice. */
static bool add_to_list(const struct param *p, const char *text, lrd_param_list *list, char why[LRD_WHY_BYTES])
{
    struct lrd_ns_spec spec;
    size_t n = (size_t)snprintf(why, LRD_WHY_BYTES, "%s: ", p->option);
    if (!lrd_ns_spec_parse(text, &spec, why + n, LRD_WHY_BYTES - n))
        return false;
    if (is_in_list(list, spec.name)) {
        snprintf(why + n, LRD_WHY_BYTES - n, "%s is there twice: say all about it in one", spec.name);
        return false;
    }
    snprintf(why + n, LRD_WHY_BYTES - n, "no memory");
    return append(list, &spec);
}

static bool set_param(const struct param *p, const char *text, struct lrd_config *c, char why[LRD_WHY_BYTES])
{
    if (p->type == TYPE_list)
        return add_to_list(p, text, (void *)((unsigned char *)c + p->at), why);
    if (parse_param(p, text, c))
        return true;
    char expectation[160], quoted[64];
    put_expectation(p, expectation, sizeof expectation);
    lrd_quote(text, quoted, sizeof quoted);
    snprintf(why, LRD_WHY_BYTES, "%s: \"%s\" does not do: %s", p->option, quoted, expectation);
    return false;
}

const char *lrd_config_word(const char *name, uint32_t index)
{
    static _Thread_local char word[32];
    for (size_t i = 0; i < N_PARAMS; i++) {
        if (params[i].type == TYPE_choice && strcmp(params[i].name, name) == 0 && index < n_words(params[i].argument)) {
            const char *at;
            size_t n = word_at(params[i].argument, index, &at);
            snprintf(word, sizeof word, "%.*s", (int)n, at);
            return word;
        }
    }
    return "?";
}

/* ---- help ---- */

static void print_wrapped(const char *text, size_t indent, size_t width)
{
    size_t column = 0;
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        if (column == 0)
            column = (size_t)printf("%*s", (int)indent, "");
        else if (column + 1 + n > width) {
            putchar('\n');
            column = (size_t)printf("%*s", (int)indent, "");
        } else
            column += (size_t)printf(" ");
        column += (size_t)printf("%.*s", (int)n, text);
        text += n + strspn(text + n, " ");
    }
    putchar('\n');
}

static bool has_optional_argument(const struct action *a) { return a->argument != NULL && a->argument[0] == '['; }

static void print_help(void)
{
    puts("larderd: a cache in shared memory for the processes of this machine\n\n  larderd [OPTION...]\n");
    for (size_t i = 0; i < N_PARAMS; i++) {
        printf("  --%s %s", params[i].option, params[i].argument);
        if (params[i].standard[0] != '\0')
            printf("  (default: %s)", params[i].standard);
        putchar('\n');
        print_wrapped(params[i].help, 8, 100);
    }
    for (size_t i = 0; i < N_ACTIONS; i++) {
        const struct action *a = &actions[i];
        printf("  --%s%s%s\n", a->option, a->argument == NULL ? "" : has_optional_argument(a) ? "=" : " ", a->argument == NULL ? "" : a->argument);
        print_wrapped(a->help, 8, 100);
    }
    puts("\nSizes are bytes, or numbers with K, M, G or T. See larderd(8).");
}

/* mdoc begins a line for every sentence. */
static void print_sentences(const char *text)
{
    for (; *text != '\0'; text++) {
        bool ends = (text[0] == '.' || text[0] == ':') && text[1] == ' ' && isupper((unsigned char)text[2]);
        putchar(*text);
        if (ends && text[0] == '.') {
            putchar('\n');
            text++;
        }
    }
    putchar('\n');
}

static void print_mdoc(void)
{
    for (size_t i = 0; i < N_PARAMS; i++) {
        printf(".It Fl -%s Ar %s\n", params[i].option, params[i].argument);
        print_sentences(params[i].help);
        if (params[i].standard[0] != '\0')
            printf("Default:\n.Cm %s .\n", params[i].standard);
    }
    for (size_t i = 0; i < N_ACTIONS; i++) {
        if (actions[i].argument == NULL)
            printf(".It Fl -%s\n", actions[i].option);
        else if (has_optional_argument(&actions[i]))
            printf(".It Fl -%s Ns Op = Ns Cm %.*s\n", actions[i].option, (int)strlen(actions[i].argument) - 2, actions[i].argument + 1);
        else
            printf(".It Fl -%s Ar %s\n", actions[i].option, actions[i].argument);
        print_sentences(actions[i].help);
    }
}

/* ---- configuration file ---- */

/* libconfuse has no pointer of ours in its calls; reading happens once, before there are threads. */
static char *file_why;

__attribute__((format(printf, 2, 0))) static void keep_first_error(cfg_t *cfg, const char *format, va_list args)
{
    if (file_why[0] != '\0')
        return;
    size_t n = (size_t)snprintf(file_why, LRD_WHY_BYTES, "%s:%d: ", cfg->filename != NULL ? cfg->filename : "?", cfg->line);
    if (n < LRD_WHY_BYTES)
        vsnprintf(file_why + n, LRD_WHY_BYTES - n, format, args);
    n = strlen(file_why);
    if (strstr(file_why, "no such option") != NULL)
        snprintf(file_why + n, LRD_WHY_BYTES - n, ": larderd --help lists them");
    else if (strstr(file_why, "unexpected token") != NULL)
        snprintf(file_why + n, LRD_WHY_BYTES - n, ": put values with blanks or commas in double quotes, several namespaces in braces with commas between");
    else if (strstr(file_why, "premature end") != NULL)
        snprintf(file_why + n, LRD_WHY_BYTES - n, ": a quote or a brace is not closed");
}

static const struct param *param_of_option(const char *option)
{
    for (size_t i = 0; i < N_PARAMS; i++)
        if (strcmp(params[i].option, option) == 0)
            return &params[i];
    return NULL;
}

/* A value of a list whose name was in front of it; probe has it alone. */
static bool is_repeated(cfg_opt_t *opt, const struct param *p, struct lrd_config *probe, char why[LRD_WHY_BYTES])
{
    for (unsigned i = 0; i < cfg_opt_size(opt); i++) {
        const char *before = cfg_opt_getnstr(opt, i); /* the place of the one that is being read is there, and empty */
        if (before != NULL && !set_param(p, before, probe, why))
            return true;
    }
    return false;
}

/* Called for each value as it is read, while libconfuse still knows the line. */
static int take_file_value(cfg_t *cfg, cfg_opt_t *opt, const char *value, void *result)
{
    char why[LRD_WHY_BYTES];
    struct lrd_config probe = {0};
    const struct param *p = param_of_option(cfg_opt_name(opt));
    bool good = set_param(p, value, &probe, why);
    if (good && p->type == TYPE_list)
        good = !is_repeated(opt, p, &probe, why);
    lrd_config_free(&probe);
    if (!good) {
        cfg_error(cfg, "%s", why);
        return -1;
    }
    *(const char **)result = value; /* libconfuse makes its own copy */
    return 0;
}

/* libconfuse ends the process when it is given a folder. */
static int check_file(const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0)
        return errno;
    return S_ISDIR(st.st_mode) ? EISDIR : access(path, R_OK) < 0 ? errno : 0;
}

/* Adds the file's values whose names the command line has not said. */
static bool join_lists(cfg_t *cfg, const struct param *p, struct lrd_config *c, char why[LRD_WHY_BYTES])
{
    lrd_param_list *list = (void *)((unsigned char *)c + p->at), from_file = {0};
    bool good = true;
    for (unsigned i = 0; i < cfg_size(cfg, p->option) && good; i++)
        good = add_to_list(p, cfg_getnstr(cfg, p->option, i), &from_file, why);
    for (uint32_t i = 0; i < from_file.n && good; i++)
        good = is_in_list(list, from_file.at[i].name) || append(list, &from_file.at[i]);
    free(from_file.at);
    return good;
}

/* Sets what the file says, unless the command line has said it. */
static bool read_file(const char *path, struct lrd_config *c, const bool said[N_PARAMS], char why[LRD_WHY_BYTES])
{
    int err = check_file(path);
    if (err != 0) {
        snprintf(why, LRD_WHY_BYTES, "--config %s: %s: name a file that can be read", path, strerror(err));
        return false;
    }
    cfg_opt_t opts[N_PARAMS + 1];
    for (size_t i = 0; i < N_PARAMS; i++)
        opts[i] = params[i].type == TYPE_list ? (cfg_opt_t)CFG_STR_LIST_CB(params[i].option, NULL, CFGF_NODEFAULT, take_file_value)
                                              : (cfg_opt_t)CFG_STR_CB(params[i].option, NULL, CFGF_NODEFAULT, take_file_value);
    opts[N_PARAMS] = (cfg_opt_t)CFG_END();
    cfg_t *cfg = cfg_init(opts, CFGF_NONE);
    if (cfg == NULL) {
        snprintf(why, LRD_WHY_BYTES, "%s: no memory", path);
        return false;
    }
    file_why = why;
    why[0] = '\0';
    cfg_set_error_function(cfg, keep_first_error);
    bool good = cfg_parse(cfg, path) == CFG_SUCCESS;
    if (!good && why[0] == '\0')
        snprintf(why, LRD_WHY_BYTES, "%s:%d: not understood: every line is option = value", path, cfg->line);
    for (size_t i = 0; i < N_PARAMS && good; i++) {
        const char *value = cfg_size(cfg, params[i].option) > 0 ? cfg_getstr(cfg, params[i].option) : NULL;
        if (params[i].type == TYPE_list)
            good = join_lists(cfg, &params[i], c, why);
        else if (value != NULL && !said[i])
            good = set_param(&params[i], value, c, why);
    }
    cfg_free(cfg);
    return good;
}

/* ---- command line ---- */

#define ACTION_BASE 1000

static void fill_long_options(struct option *o)
{
    for (size_t i = 0; i < N_PARAMS; i++)
        *o++ = (struct option){.name = params[i].option, .has_arg = required_argument, .val = (int)i + 1};
    for (size_t i = 0; i < N_ACTIONS; i++) {
        int has = actions[i].argument == NULL ? no_argument : has_optional_argument(&actions[i]) ? optional_argument : required_argument;
        *o++ = (struct option){.name = actions[i].option, .has_arg = has, .val = ACTION_BASE + (int)i};
    }
    *o = (struct option){0};
}

static bool is_action(int option, const char *name) { return option >= ACTION_BASE && strcmp(actions[option - ACTION_BASE].option, name) == 0; }

/* getopt says which argument it stumbled over by optind, which has moved past it. */
static enum lrd_config_result complain(char **argv, bool missing, char why[LRD_WHY_BYTES])
{
    char quoted[64];
    lrd_quote(argv[optind - 1], quoted, sizeof quoted);
    if (missing)
        snprintf(why, LRD_WHY_BYTES, "%s needs a value: see larderd --help", quoted);
    else
        snprintf(why, LRD_WHY_BYTES, "unknown option %s: larderd --help lists them", quoted);
    return LRD_CONFIG_WRONG;
}

/* --help, --version; anything else goes on. */
static enum lrd_config_result act(int option, struct lrd_config *c, const char **file)
{
    if (is_action(option, "help")) {
        if (optarg != NULL && strcmp(optarg, "mdoc") == 0)
            print_mdoc();
        else
            print_help();
        return LRD_CONFIG_DONE;
    }
    if (is_action(option, "version")) {
        puts("larderd " PACKAGE_VERSION);
        return LRD_CONFIG_DONE;
    }
    if (is_action(option, "config"))
        *file = optarg;
    if (is_action(option, "check-config"))
        c->check_only = true;
    return LRD_CONFIG_RUN;
}

static enum lrd_config_result read_command_line(struct lrd_config *c, int argc, char **argv, bool said[N_PARAMS], const char **file, char *why)
{
    struct option options[N_PARAMS + N_ACTIONS + 1];
    int option;
    fill_long_options(options);
    optind = 0; /* a test reads several */
    opterr = 0;
    while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
        if (option == '?' || option == ':')
            return complain(argv, option == ':', why);
        if (option >= ACTION_BASE) {
            enum lrd_config_result result = act(option, c, file);
            if (result != LRD_CONFIG_RUN)
                return result;
            continue;
        }
        char text[LRD_WHY_BYTES];
        if (!set_param(&params[option - 1], optarg, c, text)) {
            snprintf(why, LRD_WHY_BYTES, "--%.500s", text);
            return LRD_CONFIG_WRONG;
        }
        said[option - 1] = true;
    }
    if (optind < argc) {
        char quoted[64];
        lrd_quote(argv[optind], quoted, sizeof quoted);
        snprintf(why, LRD_WHY_BYTES, "\"%s\" is not an option: all of larderd's begin with --", quoted);
        return LRD_CONFIG_WRONG;
    }
    return LRD_CONFIG_RUN;
}

/* ---- what depends on who runs it ---- */

static bool default_socket(char path[4096], char why[LRD_WHY_BYTES])
{
    const char *from_env = getenv("LARDER_SOCKET"), *runtime = getenv("XDG_RUNTIME_DIR");
    if (from_env != NULL && from_env[0] != '\0')
        snprintf(path, 4096, "%s", from_env);
    else if (geteuid() == 0)
        snprintf(path, 4096, "/run/larder/default.sock");
    else if (runtime != NULL && runtime[0] != '\0')
        snprintf(path, 4096, "%s/larder/default.sock", runtime);
    else {
        snprintf(why, LRD_WHY_BYTES, "no place for the socket: give --socket PATH, or set XDG_RUNTIME_DIR");
        return false;
    }
    return true;
}

static bool finish(struct lrd_config *c, char why[LRD_WHY_BYTES])
{
    char path[4096];
    if (c->socket[0] == '\0' && (!default_socket(path, why) || !set_text(&c->socket, path)))
        return false;
    if (c->dump_dir[0] != '\0')
        return true;
    snprintf(path, sizeof path, "%s", c->socket);
    char *slash = strrchr(path, '/');
    if (slash != NULL)
        slash[slash == path] = '\0'; /* "/" stays */
    return set_text(&c->dump_dir, slash != NULL ? path : ".");
}

enum lrd_config_result lrd_config_read(struct lrd_config *c, int argc, char **argv, char why[LRD_WHY_BYTES])
{
    bool said[N_PARAMS] = {false};
    const char *file = NULL;
    memset(c, 0, sizeof *c);
    snprintf(why, LRD_WHY_BYTES, "no memory");
    for (size_t i = 0; i < N_PARAMS; i++)
        if (params[i].type != TYPE_list && !set_param(&params[i], params[i].standard, c, why))
            return LRD_CONFIG_WRONG;
    enum lrd_config_result result = read_command_line(c, argc, argv, said, &file, why);
    if (result == LRD_CONFIG_RUN && file != NULL && !read_file(file, c, said, why))
        result = LRD_CONFIG_WRONG;
    if (result == LRD_CONFIG_RUN && !finish(c, why))
        result = LRD_CONFIG_WRONG;
    return result;
}

void lrd_config_free(struct lrd_config *c)
{
    for (size_t i = 0; i < N_PARAMS; i++) {
        if (params[i].type == TYPE_text) {
            lrd_param_text *text = (void *)((unsigned char *)c + params[i].at);
            free(*text);
            *text = NULL;
        } else if (params[i].type == TYPE_list) {
            lrd_param_list *list = (void *)((unsigned char *)c + params[i].at);
            free(list->at);
            *list = (lrd_param_list){0};
        }
    }
}
