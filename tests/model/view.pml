/*
 * view.pml - a view beside the writer that uses its block again
 *
 * One client pins a block, looks whether it is still there, reads a byte of it and ends the view; the writer frees the block, looks at the pins, and delays the block, or
 * revokes the pin, and overwrites the byte. Or the clerk has taken the client for dead before: then nobody looks at its pins.
 *
 * Memory. Each word has the list of its stores. A thread has, for each word, the oldest store that it may still load (`cur`); a store carries what who acquires it is bound
 * to have seen: all that its thread had, if it is a release, else what it had at its last release fence (`rel`). A relaxed load keeps that back (`acq`) until an acquire fence. A
 * seq_cst fence joins all that with one view that is everybody's (`sc`). A read-modify-write takes the last store. This is C11 without stores that overtake an earlier load.
 *
 * Property. A view that ends well has read the byte as it was.
 *
 * switch                 what it takes away                                          what breaks
 * NO_CLIENT_FENCE        fence between pin and block word                            neither sees the other
 * NO_WRITER_FENCE        fence between block word and the look                       the same
 * NO_WORD_LOAD           the block word loaded behind the pin                        pinned when it was too late
 * NO_BIT_FIRST           bit set before the fence                                    pin not looked at
 * NO_LOOK                the look at the pins                                        overwritten unnoticed
 * NO_REVOKE              the pin revoked                                             the same
 * NO_PIN_COMPARE         the pin compared at the end                                 revoked, not noticed
 * NO_STATE_LOAD          the lane's state loaded at the end                          overwritten for a client that was taken for dead
 * NO_ACQUIRE_FENCE       fence between the bytes and the end                         pin and state seen too early
 * NO_RELEASE_FENCE       fence between looks and bytes                               the same
 */

#define WORD 0			/* of the block: 0 as the client found it, 1 freed */
#define PIN 1			/* 0 free, 1 ours, 2 revoked */
#define BIT 2
#define STATE 3			/* of the lane: 0 LIVE */
#define BYTE 4
#define NLOC 5
#define NST 4			/* stores to one word */

#define CLIENT 0
#define WRITER 1

#define AT(l, k) ((l) * NST + (k))

byte n[NLOC];			/* stores, the first included */
byte val[20];			/* NLOC * NST */
byte msg[100];			/* what each carries, by word */
byte cur[10], acq[10], rel[10];	/* by thread and word */
byte sc[NLOC];

#define MAX(x, y) ((x) > (y) -> (x) : (y))

#define JOIN(to, tb, from, fb) i = 0; do \
	:: i < NLOC -> to[(tb) + i] = MAX(to[(tb) + i], from[(fb) + i]); i++ \
	:: else -> i = 0; break od

#define APPEND(t, l, v, from) k = n[l]; assert(k < NST); val[AT(l, k)] = v; n[l] = k + 1; cur[(t) * NLOC + l] = k; \
	JOIN(msg, AT(l, k) * NLOC, from, (t) * NLOC); msg[AT(l, k) * NLOC + l] = k; k = 0

inline load(t, v, l)
{
	atomic {
		k = cur[(t) * NLOC + l];
		do
		:: k + 1 < n[l] -> k++
		:: break
		od;
		d_step {
			v = val[AT(l, k)];
			cur[(t) * NLOC + l] = k;
			JOIN(acq, (t) * NLOC, msg, AT(l, k) * NLOC);
			k = 0
		}
	}
}

inline store(t, l, v) { d_step { APPEND(t, l, v, rel) } }
inline store_release(t, l, v) { d_step { APPEND(t, l, v, cur) } }

/* Acquire and release; does nothing if it is not what is expected. */
inline cas(t, l, expected, v, done)
{
	d_step {
		done = (val[AT(l, n[l] - 1)] == expected);
		if
		:: done ->
			cur[(t) * NLOC + l] = n[l] - 1;
			JOIN(cur, (t) * NLOC, msg, AT(l, n[l] - 1) * NLOC);
			JOIN(acq, (t) * NLOC, cur, (t) * NLOC);
			APPEND(t, l, v, cur)
		:: else
		fi
	}
}

inline fence_acquire(t) { d_step { JOIN(cur, (t) * NLOC, acq, (t) * NLOC) } }
inline fence_release(t) { d_step { JOIN(rel, (t) * NLOC, cur, (t) * NLOC) } }
inline fence_seq_cst(t)
{
	d_step {
		JOIN(cur, (t) * NLOC, acq, (t) * NLOC);
		JOIN(sc, 0, cur, (t) * NLOC);
		JOIN(cur, (t) * NLOC, sc, 0);
		JOIN(rel, (t) * NLOC, cur, (t) * NLOC)
	}
}

init
{
	byte l;
	atomic {
		do
		:: l < NLOC -> n[l] = 1; l++
		:: else -> break
		od;
		run client();
		run writer()
	}
}

proctype client()
{
	byte i, k, word, byte_seen, state, pin;
	bool done;

#ifndef NO_BIT_FIRST
	cas(CLIENT, BIT, 0, 1, done);
#endif
	store(CLIENT, PIN, 1);
#ifndef NO_CLIENT_FENCE
	fence_seq_cst(CLIENT);
#endif
#ifdef NO_BIT_FIRST
	cas(CLIENT, BIT, 0, 1, done);
#endif
#ifndef NO_WORD_LOAD
	load(CLIENT, word, WORD);
#endif
	if
	:: word != 0 -> goto over	/* begins anew, and will not find it */
	:: else
	fi;
	load(CLIENT, byte_seen, BYTE);
#ifndef NO_ACQUIRE_FENCE
	fence_acquire(CLIENT);
#endif
#ifndef NO_STATE_LOAD
	load(CLIENT, state, STATE);
#endif
#ifndef NO_PIN_COMPARE
	load(CLIENT, pin, PIN);
#else
	pin = 1;
#endif
	store_release(CLIENT, PIN, 0);
	assert(pin != 1 || state != 0 || byte_seen == 0);
over:
	cas(CLIENT, BIT, 1, 0, done)
}

proctype writer()
{
	byte i, k, bit_seen, pin;
	bool done, forgotten;

	if
	:: store_release(WRITER, STATE, 1); forgotten = true	/* the clerk's; the command that follows brings it here */
	:: true
	fi;
	store_release(WRITER, WORD, 1);
	if
	:: forgotten
	:: else ->
#ifndef NO_WRITER_FENCE
		fence_seq_cst(WRITER);
#endif
#ifndef NO_LOOK
		load(WRITER, bit_seen, BIT);
		if
		:: bit_seen == 0 -> goto use
		:: else
		fi;
		load(WRITER, pin, PIN);
		if
		:: pin != 1 -> goto use
		:: pin == 1
		fi;
		if
		:: goto over		/* delayed */
		:: true
		fi;
#ifndef NO_REVOKE
		cas(WRITER, PIN, 1, 2, done)
#endif
#endif
	fi;
use:
#ifndef NO_RELEASE_FENCE
	fence_release(WRITER);
#endif
	store(WRITER, BYTE, 1);
over:
	skip
}
