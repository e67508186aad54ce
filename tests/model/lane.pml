/*
 * lane.pml - the ring of a lane: claim, commit, apply, park and wake, and the lane of a dead client
 *
 * Two producers, threads of one process, put RECORDS records each, of one or two cells, into a ring of CELLS cells;
 * the writer applies them. The process may be killed at any time, and its tail may then hold anything. Timeouts are
 * modelled off: in reality every wait has one, here a lost wake-up shows as a deadlock.
 *
 * Memory. A producer's stores go to a store buffer, which the process `memory` empties in any order, except that
 * a release store waits for all that came before it, and stores to one word stay in order. A seq_cst fence waits until the
 * buffer is empty; a CAS does not (it is a relaxed one). The writer's `parked` waits in a buffer as well. The writer's loads of payload
 * may come before the load of the commit word (without acquire) or after the store of the applied position
 * (without release). What a killed process has stored becomes visible before its death can be noticed.
 *
 * Not here: the acquire on a producer's load of the applied position. A load, a branch on it and a store keep their
 * order on every processor, so no execution of this model, or of a machine, needs it; C11 does not know that rule,
 * so the code has it.
 *
 * Properties. Every committed record is applied, once, whole, and in the order of its producer, also behind the hole that
 * a dead claim leaves; nothing else is applied. A scan is at most one ring long. No deadlock, so no lost wake-up.
 *
 * switch               what it takes away                                what breaks
 * NO_COMMIT_RELEASE    release on the commit word                        torn record
 * NO_COMMIT_ACQUIRE    acquire on the writer's load of it                torn record
 * NO_APPLIED_RELEASE   release on the applied position                   cells overwritten while they are copied
 * NO_SPACE_CHECK       claim looks at the applied position               cells overwritten before they are applied
 * NO_CAS               claim is one atomic step                          two producers in the same cells
 * NO_LAP               lap in the commit word                            old record applied again
 * NO_WIDE_LAP          more than one bit of it                           old word inside a record taken for a commit
 * NO_OWN_ARRAY         commit words apart from the payload               payload taken for a commit
 * NO_SKIP              scan of a dead lane goes on behind a hole         committed record lost
 * NO_CLAMP             that scan is clamped to one ring                  scan as long as a hostile client likes
 * NO_DEATH_WAIT        that scan waits until the process is gone         record lost that is committed behind the scan
 * NO_PARK_FENCE        the writer's fence after parked = 1               lost wake-up
 * NO_PARK_RECHECK      its second look at the commit words               lost wake-up
 * NO_RING_FENCE        the producer's fence after the commit             lost wake-up
 */

#ifndef RECORDS
#define RECORDS 3		/* of producer 0; of producer 1 one less */
#endif
#define LAST(p) (RECORDS - (p))
#define CELLS 2
#define BUF 4			/* stores in a buffer */

#define ID(p, seq) (1 + (p) * RECORDS + (seq))
#define NIDS (1 + 2 * RECORDS)
#define OWNER(id) (((id) - 1) / RECORDS)

/* Commit word: lap | cells:2. */
#ifdef NO_WIDE_LAP
#define LAP(pos) (((pos) / CELLS) & 1)
#else
#define LAP(pos) ((pos) / CELLS)
#endif
#define MKCOMMIT(pos, c) (LAP(pos) * 4 + (c))
#define WORD_CELLS(w) ((w) & 3)
#ifdef NO_LAP
#define COMMITTED(w, pos) (WORD_CELLS(w) != 0)
#else
#define COMMITTED(w, pos) (WORD_CELLS(w) != 0 && (w) >> 2 == LAP(pos))
#endif

/* The lane. A buffered store names its word: 0.. payload, CELLS.. commit words. */
byte word[2 * CELLS];
#define PAYLOAD(pos) ((pos) % CELLS)
#define COMMIT(pos) (CELLS + (pos) % CELLS)
byte tail, applied;
bool parked, doorbell;

typedef buffer {
	byte n;
	byte at[BUF];
	byte val[BUF];
	bool rel[BUF]
}
buffer buf[2];
bool parking, parking_to;	/* the writer's buffered store of parked */

bool killed, killable = true;
bool out[2];			/* producer has returned or is dead */

/* What ought to happen. */
bool committed[NIDS];
byte times[NIDS];		/* applied */
byte cells[NIDS];
byte newest[2];			/* last record applied of this producer */

#define QUIET (out[0] && out[1] && buf[0].n == 0 && buf[1].n == 0)
#define GONE (killed && QUIET)
#ifdef NO_DEATH_WAIT
#define NOTICED killed
#else
#define NOTICED GONE
#endif

inline push(a, v, r)
{
	buf[p].at[buf[p].n] = a;
	buf[p].val[buf[p].n] = v;
	buf[p].rel[buf[p].n] = r;
	buf[p].n++
}

proctype producer(bit p)
{
	byte seq, c, t;

	{
	do
	:: seq == LAST(p) -> break
	:: else ->
claim:
		atomic {
			if
			:: c = 1
			:: c = 2
			fi;
#if defined(NO_CAS) || defined(NO_SPACE_CHECK)
			t = tail
#endif
		}
#ifdef NO_CAS
		atomic { t + c <= applied + CELLS -> tail = t + c;
#elif defined(NO_SPACE_CHECK)
		atomic {
			if
			:: tail != t -> goto claim
			:: else -> tail = t + c
			fi;
#else
		/*
		 * Load, check and CAS are one step: the CAS succeeds only on the tail that was loaded, and an
		 * older applied position only makes the claim wait.
		 */
		atomic { tail + c <= applied + CELLS ->
			t = tail;
			tail = t + c;
#endif
			buf[p].n + c < BUF;
			cells[ID(p, seq)] = c;
			push(PAYLOAD(t), ID(p, seq), false);
			if
			:: c == 2 ->
				push(PAYLOAD(t + 1), ID(p, seq), false);
#ifdef NO_OWN_ARRAY
				push(COMMIT(t + 1), MKCOMMIT(t + 1, 1), false)
#endif
			:: else
			fi
		}
		atomic {
#ifdef NO_COMMIT_RELEASE
			push(COMMIT(t), MKCOMMIT(t, c), false);
#else
			push(COMMIT(t), MKCOMMIT(t, c), true);
#endif
			committed[ID(p, seq)] = true;
			t = 0;
			c = 0;
			seq++
		}
#ifndef NO_RING_FENCE
		buf[p].n == 0;
#endif
		atomic {
			if
			:: parked -> doorbell = true
			:: !parked
			fi
		}
	od
	}
#ifndef NO_DEATH_WAIT
	unless {
		killed
	}
#endif
	;
	atomic { seq = 0; c = 0; t = 0; out[p] = true }
}

proctype killer()
{
	if
	:: atomic { !out[0] || !out[1] ->
		killed = true;
#ifndef NO_DEATH_WAIT
		if
		:: tail = tail + CELLS + 1
		:: skip
		fi
#endif
		}
	:: skip
	fi;
	killable = false
}

/* Makes the buffered store i of producer p visible, unless order forbids. */
inline flush(p, i)
{
	atomic { i < buf[p].n && (i == 0 || !buf[p].rel[i]) &&
	    (i < 1 || buf[p].at[0] != buf[p].at[i]) && (i < 2 || buf[p].at[1] != buf[p].at[i]) &&
	    (i < 3 || buf[p].at[2] != buf[p].at[i]) ->
		word[buf[p].at[i]] = buf[p].val[i];
		j = i;
		do
		:: j + 1 < buf[p].n ->
			buf[p].at[j] = buf[p].at[j + 1];
			buf[p].val[j] = buf[p].val[j + 1];
			buf[p].rel[j] = buf[p].rel[j + 1];
			j++
		:: else -> break
		od;
		buf[p].n--;
		buf[p].at[j] = 0;
		buf[p].val[j] = 0;
		buf[p].rel[j] = false;
		j = 0
	}
}

proctype memory()
{
	byte j;

end:	do
	:: flush(0, 0)
	:: flush(0, 1)
	:: flush(0, 2)
	:: flush(0, 3)
	:: flush(1, 0)
	:: flush(1, 1)
	:: flush(1, 2)
	:: flush(1, 3)
	:: atomic { parking -> parked = parking_to; parking = false; parking_to = false }
	od
}

/* Applies the record of w at position head, one cell a step. */
inline apply()
{
#ifdef NO_APPLIED_RELEASE
	if
	:: applied = head + WORD_CELLS(w)
	:: skip
	fi;
#endif
	if
	:: atomic { !early -> got[0] = word[PAYLOAD(head)] }
		if
		:: WORD_CELLS(w) == 2 -> got[1] = word[PAYLOAD(head + 1)]
		:: WORD_CELLS(w) == 1
		fi
	:: early
	fi;
	atomic {
		id = got[0];
		assert(id != 0);
		assert(WORD_CELLS(w) == cells[id] && (WORD_CELLS(w) == 1 || got[1] == id));
		assert(committed[id] && times[id] == 0 && newest[OWNER(id)] < id);
		times[id]++;
		newest[OWNER(id)] = id;
		cells[id] = 0;
		head = head + WORD_CELLS(w);
		applied = head;
		got[0] = 0; got[1] = 0; id = 0; w = 0; early = false
	}
}

inline look()
{
#ifdef NO_COMMIT_ACQUIRE
	if
	:: atomic { got[0] = word[PAYLOAD(head)]; got[1] = word[PAYLOAD(head + 1)]; early = true }
	:: skip
	fi;
#endif
	atomic {
		w = word[COMMIT(head)];
		if
		:: COMMITTED(w, head)
		:: else -> w = 0; early = false; got[0] = 0; got[1] = 0
		fi
	}
}

inline park(yes)
{
	atomic { parking_to = yes; parking = true }
}

active proctype writer()
{
	byte head, w, id, got[2], end_pos;
	bool early;

	atomic { run producer(0); run producer(1); run killer(); run memory() }
	do
	:: look();
		if
		:: w != 0
		:: w == 0 && NOTICED -> break
		:: atomic { w == 0 -> park(true) }
#ifndef NO_PARK_FENCE
			!parking;
#endif
#ifndef NO_PARK_RECHECK
			look();
#endif
			if
			:: atomic { w == 0 && doorbell -> doorbell = false; park(false) }
			:: atomic { w == 0 && NOTICED -> park(false) }
			:: w == 0 && !killed && !killable && QUIET && applied == tail -> goto check
			:: atomic { w != 0 -> park(false) }
			fi
		fi;
		if
		:: w != 0 -> apply()
		:: w == 0
		fi
	od;

	/* The client is dead. */
	atomic {
		end_pos = tail;
#ifndef NO_CLAMP
		if
		:: end_pos > head + CELLS -> end_pos = head + CELLS
		:: else
		fi;
#endif
		assert(end_pos <= head + CELLS)
	}
	do
	:: head < end_pos ->
		look();
		if
		:: w != 0 && head + WORD_CELLS(w) <= end_pos -> apply()
		:: else ->
#ifdef NO_SKIP
			break
#else
			atomic { w = 0; early = false; head++; applied = head }
#endif
		fi
	:: else -> break
	od;
check:
	QUIET;
	atomic {
		id = 1;
		do
		:: id < NIDS -> assert(times[id] == (committed[id] -> 1 : 0)); id++
		:: else -> break
		od
	}
}
