/* Figures with names and units: a verb collects them once, and they are written as text or as JSON.
 *
 * A report is a list of entries in order. A group or a list begins with its name; the figures that follow are its own, until the next
 * begins. Within a list each row begins anew. A table is a list that is written as text in columns. JSON: {"group": {"name": value}, "list": [{"name": value}], "sentences": ["..."],
 * "units": {"group": {"name": "unit"}}}. */
#include "tools/ctl.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum kind { GROUP, LIST, TABLE, ROW, U64, REAL, TEXT, SENTENCE };

struct entry {
    enum kind kind;
    const char *name;
    const char *unit;
    uint64_t u64;
    double real;
    char *text;
};

struct ctl_report {
    struct entry *entry;
    size_t n;
};

struct ctl_report *ctl_report_create(void)
{
    struct ctl_report *report = ctl_alloc(1, sizeof *report);
    *report = (struct ctl_report){0};
    return report;
}

void ctl_report_free(struct ctl_report *report)
{
    for (size_t i = 0; i < report->n; i++)
        free(report->entry[i].text);
    free(report->entry);
    free(report);
}

static void add(struct ctl_report *report, struct entry e)
{
    if ((report->n & (report->n - 1)) == 0)
        report->entry = ctl_grow(report->entry, report->n ? report->n * 2 : 1, sizeof e);
    report->entry[report->n++] = e;
}

static __attribute__((format(printf, 1, 0))) char *format_text(const char *format, va_list ap)
{
    char *text;
    return vasprintf(&text, format, ap) < 0 ? NULL : text;
}

void ctl_report_group(struct ctl_report *report, const char *name) { add(report, (struct entry){.kind = GROUP, .name = name}); }
void ctl_report_list(struct ctl_report *report, const char *name) { add(report, (struct entry){.kind = LIST, .name = name}); }
void ctl_report_table(struct ctl_report *report, const char *name) { add(report, (struct entry){.kind = TABLE, .name = name}); }
void ctl_report_row(struct ctl_report *report) { add(report, (struct entry){.kind = ROW}); }

void ctl_report_u64(struct ctl_report *report, const char *name, const char *unit, uint64_t value)
{
    add(report, (struct entry){.kind = U64, .name = name, .unit = unit, .u64 = value});
}

void ctl_report_real(struct ctl_report *report, const char *name, const char *unit, double value)
{
    add(report, (struct entry){.kind = REAL, .name = name, .unit = unit, .real = value});
}

void ctl_report_text(struct ctl_report *report, const char *name, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add(report, (struct entry){.kind = TEXT, .name = name, .unit = "", .text = format_text(format, ap)});
    va_end(ap);
}

void ctl_report_say(struct ctl_report *report, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    add(report, (struct entry){.kind = SENTENCE, .text = format_text(format, ap)});
    va_end(ap);
}

/* ---- text ---- */

static const char *text_of(const struct entry *e) { return e->text ? e->text : ""; }

static void print_readable(uint64_t bytes)
{
    static const char *const unit[] = {"KiB", "MiB", "GiB", "TiB"};
    double x = (double)bytes / 1024;
    unsigned i = 0;
    for (; x >= 1024 && i < 3; i++)
        x /= 1024;
    printf(" (%.1f %s)", x, unit[i]);
}

static void print_value(const struct entry *e)
{
    if (e->kind == TEXT)
        fputs(text_of(e), stdout);
    else if (e->kind == REAL)
        printf("%.3f", e->real);
    else
        printf("%" PRIu64, e->u64);
    if (*e->unit)
        printf(" %s", e->unit);
    if (e->kind == U64 && e->u64 >= 10240 && strcmp(e->unit, "bytes") == 0)
        print_readable(e->u64);
}

#define WIDTH 100 /* of a terminal that somebody would call narrow no longer */
#define GAP 2     /* between columns */

/* A figure as it stands in a column: the heading has the unit. */
static const char *cell(const struct entry *e, char text[32])
{
    if (e->kind == TEXT)
        return text_of(e);
    if (e->kind == REAL)
        snprintf(text, 32, "%.3f", e->real);
    else
        snprintf(text, 32, "%" PRIu64, e->u64);
    return text;
}

/* The rows of a table: row[i] is the first of row i's n_columns entries. */
struct table {
    const struct entry **row;
    size_t n_rows, n_columns;
};

static int column_width(const struct table *t, size_t column)
{
    size_t width = strlen(t->row[0][column].name);
    for (size_t i = 0; i < t->n_rows; i++) {
        char text[32];
        size_t here = strlen(cell(&t->row[i][column], text));
        width = here > width ? here : width;
    }
    return (int)width;
}

static void print_cell(const struct entry *e, const char *text, int width, bool last)
{
    if (e->kind != TEXT)
        printf("%*s%*s", GAP, "", width, text);
    else if (last)
        printf("%*s%s", GAP, "", text);
    else
        printf("%*s%-*s", GAP, "", width, text);
}

/* The first column and those from `from` to before `to`. */
static void print_columns(const struct table *t, const int *width, size_t from, size_t to)
{
    for (size_t i = 0; i <= t->n_rows; i++) {
        const struct entry *row = t->row[i ? i - 1 : 0];
        for (size_t c = 0; c < to; c = c == 0 && from > 1 ? from : c + 1) {
            char text[32];
            print_cell(&row[c], i ? cell(&row[c], text) : row[c].name, width[c], c + 1 == to);
        }
        putchar('\n');
    }
}

/* A table that is too wide goes on below, beginning with its first column again. */
static void print_table(const struct table *t)
{
    int *width = ctl_alloc(t->n_columns, sizeof *width);
    for (size_t c = 0; c < t->n_columns; c++)
        width[c] = column_width(t, c);
    for (size_t from = 1, to; from <= t->n_columns; from = to) {
        int sum = GAP + width[0];
        for (to = from; to < t->n_columns && (to == from || sum + GAP + width[to] <= WIDTH); to++)
            sum += GAP + width[to];
        if (from > 1 && from < t->n_columns)
            putchar('\n');
        print_columns(t, width, from, to);
        if (to == t->n_columns)
            break;
    }
    free(width);
}

/* The table that begins at an entry. The entry after it. */
static size_t print_table_at(const struct ctl_report *report, size_t at)
{
    struct table t = {0};
    size_t end = at + 1;
    for (; end < report->n && report->entry[end].kind >= ROW; end++) {
        if (report->entry[end].kind == ROW) {
            t.row = ctl_grow(t.row, t.n_rows + 1, sizeof *t.row);
            t.row[t.n_rows++] = &report->entry[end + 1];
        } else if (t.n_rows == 1)
            t.n_columns++;
    }
    if (t.n_columns > 0) {
        printf("%s%s\n", at ? "\n" : "", report->entry[at].name);
        print_table(&t);
    }
    free(t.row);
    return end;
}

static void print_text(const struct ctl_report *report)
{
    bool in_list = false, first = true;
    for (size_t i = 0; i < report->n; i++) {
        const struct entry *e = &report->entry[i];
        bool last = i + 1 == report->n || report->entry[i + 1].kind <= ROW;
        switch (e->kind) {
        case GROUP:
        case LIST:
            /* A list of nothing is not worth a heading. */
            if (e->kind == GROUP || !last)
                printf("%s%s\n", i ? "\n" : "", e->name);
            else if (i + 1 < report->n && report->entry[i + 1].kind == ROW)
                printf("\n%s\n", e->name);
            in_list = e->kind == LIST;
            break;
        case TABLE:
            i = print_table_at(report, i) - 1;
            break;
        case ROW:
            first = true;
            break;
        case SENTENCE:
            printf("  %s\n", text_of(e));
            break;
        case U64:
        case REAL:
        case TEXT:
            if (in_list)
                printf("%s%s ", first ? "  " : ", ", e->name);
            else
                printf("  %-22s ", e->name);
            print_value(e);
            if (!in_list || last)
                putchar('\n');
            first = false;
            break;
        }
    }
}

/* ---- JSON ---- */

static json_t *json_value(const struct entry *e)
{
    if (e->kind == TEXT || e->kind == SENTENCE) {
        json_t *text = json_string(text_of(e));
        return text ? text : json_string("?"); /* not UTF-8 */
    }
    if (e->kind == REAL)
        return json_real(e->real);
    return json_integer(e->u64 > INT64_MAX ? INT64_MAX : (json_int_t)e->u64);
}

/* units.GROUP.NAME = unit */
static void note_unit(json_t *units, const char *group, const struct entry *e)
{
    if (!json_object_get(units, group))
        json_object_set_new(units, group, json_object());
    json_object_set_new(json_object_get(units, group), e->name, json_string(e->unit));
}

static json_t *as_json(const struct ctl_report *report)
{
    json_t *root = json_object(), *units = json_object(), *group = root, *at = root;
    const char *name = "";
    for (size_t i = 0; i < report->n; i++) {
        const struct entry *e = &report->entry[i];
        switch (e->kind) {
        case GROUP:
        case LIST:
        case TABLE:
            name = e->name;
            at = group = e->kind == GROUP ? json_object() : json_array();
            json_object_set_new(root, name, group);
            break;
        case ROW:
            at = json_object();
            json_array_append_new(group, at);
            break;
        case SENTENCE:
            json_array_append_new(group, json_value(e));
            break;
        case U64:
        case REAL:
        case TEXT:
            json_object_set_new(at, e->name, json_value(e));
            if (*e->unit)
                note_unit(units, name, e);
            break;
        }
    }
    json_object_set_new(root, "units", units);
    return root;
}

bool ctl_report_print(const struct ctl_report *report, bool json)
{
    if (!json) {
        print_text(report);
        return fflush(stdout) == 0;
    }
    json_t *root = as_json(report);
    bool ok = json_dumpf(root, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) == 0;
    json_decref(root);
    putchar('\n');
    return fflush(stdout) == 0 && ok;
}
