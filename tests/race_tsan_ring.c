/* race_ring.c with threads, for ThreadSanitizer: payload is not atomic, claim and commit must order it. */
#define RACE_THREADS 1
#include "tests/race_ring.c"
