/* Numbers with units, as people write and read them: one parser for options, configuration files and namespaces. */
#ifndef LRD_UNITS_H
#define LRD_UNITS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Digits only: no sign, no blank before them. *rest is what follows. False also for what does not fit. */
bool lrd_whole_parse(const char *text, int base, uint64_t *value, const char **rest);

/* A number of bytes with K, M, G or T behind it, in either case; "iB" may follow. */
bool lrd_size_parse(const char *text, uint64_t *bytes);

/* A number with ms, s, m, h or d behind it. */
bool lrd_ms_parse(const char *text, uint64_t *ms);

/* "256M" for round numbers of bytes, else a number with one decimal. Returns `text`. */
char *lrd_size_text(uint64_t bytes, char text[16]);

/* The same without a decimal, to be read again: "58880K". Returns `text`. */
char *lrd_size_exact_text(uint64_t bytes, char text[24]);

/* "90s": the largest unit that divides it. Returns `text`. */
char *lrd_ms_text(uint64_t ms, char text[24]);

/* What somebody wrote, printable and cut to size: it goes into a message. Returns `to`. */
char *lrd_quote(const char *text, char *to, size_t bytes);

#endif
