/* Bytes as text: escapes, hexadecimal digits, numbers. One set of escapes serves dump, load and the command line:
 *   \\  \t  \n  \r  \e  \0  \xHH     anything else that is printable stands for itself */
#include "tools/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char short_escape[][2] = {{'\\', '\\'}, {'\t', 't'}, {'\n', 'n'}, {'\r', 'r'}, {'\033', 'e'}, {'\0', '0'}};
#define N_SHORT (sizeof short_escape / sizeof *short_escape)

static int hex_digit(unsigned char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte of two digits, or -1. */
static int hex_byte(const unsigned char *text, size_t left)
{
    if (left < 2 || hex_digit(text[0]) < 0 || hex_digit(text[1]) < 0)
        return -1;
    return hex_digit(text[0]) * 16 + hex_digit(text[1]);
}

/* The byte that an escape stands for, and how long it was; -1: none. text begins after the backslash. */
static int escaped_byte(const unsigned char *text, size_t left, size_t *length)
{
    *length = 1;
    if (left == 0)
        return -1;
    for (size_t i = 0; i < N_SHORT; i++)
        if (text[0] == (unsigned char)short_escape[i][1])
            return (unsigned char)short_escape[i][0];
    *length = 3;
    return text[0] == 'x' ? hex_byte(text + 1, left - 1) : -1;
}

int ctl_unescape(unsigned char *text, size_t *size, size_t *bad)
{
    size_t to = 0;
    for (size_t from = 0; from < *size;) {
        unsigned char c = text[from++];
        if (c == '\\') {
            size_t length;
            int byte = escaped_byte(text + from, *size - from, &length);
            if (byte < 0) {
                *bad = from - 1;
                return -EINVAL;
            }
            c = (unsigned char)byte;
            from += length;
        }
        text[to++] = c;
    }
    *size = to;
    return 0;
}

static void escape_byte(FILE *to, unsigned char c)
{
    for (size_t i = 0; i < N_SHORT; i++) {
        if (c == (unsigned char)short_escape[i][0]) {
            putc('\\', to);
            putc(short_escape[i][1], to);
            return;
        }
    }
    fprintf(to, "\\x%02x", (unsigned)c);
}

void ctl_escape(FILE *to, const unsigned char *bytes, size_t size, bool first_hash)
{
    for (size_t i = 0; i < size; i++) {
        unsigned char c = bytes[i];
        bool plain = c >= ' ' && c <= '~' && c != '\\' && !(first_hash && i == 0 && c == '#');
        if (plain)
            putc(c, to);
        else
            escape_byte(to, c);
    }
}

static bool from_hex(struct ctl_bytes *b)
{
    if (b->size % 2 != 0)
        return false;
    for (size_t i = 0; i < b->size; i += 2) {
        int byte = hex_byte(b->data + i, 2);
        if (byte < 0)
            return false;
        b->data[i / 2] = (unsigned char)byte;
    }
    b->size /= 2;
    return true;
}

bool ctl_argument(const struct ctl_call *call, const char *what, const char *text, struct ctl_bytes *out)
{
    size_t bad;
    out->size = strlen(text);
    out->data = ctl_alloc(out->size + 1, 1);
    memcpy(out->data, text, out->size);
    if (call->form == CTL_HEX && !from_hex(out))
        ctl_error("%s '%s' is not pairs of hexadecimal digits; leave out --hex to take it as it is", what, text);
    else if (call->form == CTL_ESCAPED && ctl_unescape(out->data, &out->size, &bad) < 0)
        ctl_error("%s '%s': no such escape at byte %zu; there are \\\\ \\t \\n \\r \\e \\0 and \\xHH", what, text, bad + 1);
    else
        return true;
    free(out->data);
    return false;
}

bool ctl_key_argument(const struct ctl_call *call, struct ctl_bytes *out)
{
    if (!ctl_argument(call, "key", call->args[0], out))
        return false;
    if (out->size >= 1 && out->size <= LRD_KEY_MAX)
        return true;
    ctl_error("the key has %zu bytes; keys have 1 to %u", out->size, LRD_KEY_MAX);
    free(out->data);
    return false;
}

bool ctl_number(const char *text, uint64_t max, uint64_t *out)
{
    char *end;
    int base = strncmp(text, "0x", 2) == 0 ? 16 : 10; /* never octal */
    if (hex_digit((unsigned char)*text) < 0)
        return false; /* strtoull takes blanks and signs */
    errno = 0;
    *out = strtoull(text, &end, base);
    return errno == 0 && *end == '\0' && *out <= max;
}

bool ctl_signed(const char *text, int64_t *out)
{
    bool negative = text[0] == '-';
    uint64_t n;
    if (!ctl_number(text + negative, (uint64_t)INT64_MAX + negative, &n))
        return false;
    *out = negative ? (int64_t)(0 - n) : (int64_t)n;
    return true;
}
