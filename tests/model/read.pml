/*
 * read.pml - a get beside the writer: put, overwrite, move, free, reuse, wrap, reset
 *
 * One writer makes any NOPS operations, one after the other, beginning with key K stored once; then one
 * reader gets K. Block 0 and block 1 hold one item each (key word, two value words), slots carry a generation
 * of one bit, block words a wide one. K has three buckets with one slot each: levels 0 (home), 1 and 2; the
 * displaced-items word has a bit per level, exact like the counters it stands for. L is another key with the same tag.
 *
 * Memory. There is one writer, and a reader stores nothing that the writer loads, so C11's release/acquire/relaxed
 * comes down to this: the writer's stores make a list; store k carries hr[k], the length of the list that whoever
 * acquires k is bound to have seen (k itself for a release store, what stood before the last release fence
 * otherwise). A load may return any store to its word, however old or new, that is not older than what this reader has seen of
 * this word (`seen`) and not older than the newest one below what it is bound to have seen (`bound`).
 * An acquire load raises `bound` to hr[k]; a relaxed one only raises `pending`, which an acquire fence turns into
 * `bound`. This allows every early load, late store and reordering the standard allows a reader that makes no
 * stores, so it covers every processor. For the same reason the reader can run after the writer: old values
 * stay readable, and `horizon`, the newest store it read, says how far the writer must have got by then. Readers
 * do not meet, so one is enough. What happened before the get began is `began`, chosen freely.
 *
 * Property. The outcome of the get (a value of K, or a miss) was K's state at some time between began and horizon.
 * Hence: never torn, foreign or unpublished; nothing of before a reset that was complete at the beginning; a K
 * that was there throughout is found.
 *
 * What the code has but no case here needs, so that the model goes without: release and acquire on the epoch (that a
 * reset was complete before a get began orders it already), a second load of the epoch when a slot looks dead (a
 * reset, and a put after it, begun during the get leave a moment in which K was not there), and an order on the second load
 * of the block word on that path (the slot's acquire comes before it).
 *
 * switch                 what it takes away                                what breaks
 * NO_EPOCH_CHECK         block's epoch compared with the namespace's       value of before a reset
 * NO_GEN_CHECK           slot's generation compared with the block's       value that is not published yet
 * NO_SLOT_ACQUIRE        acquire on the slot                               slot seen empty, where it went to not: item missed
 * NO_SLOT_RELEASE        release on the stores of slots                    the same
 * NO_WORD_ACQUIRE        acquire on the first load of the block word       block seen freed, slot's new value not: item missed
 * NO_FREE_RELEASE        release on the freeing store of the block word    the same
 * NO_OPEN_RELEASE        release on the opening store of the block word    the same, where only the opening one is seen
 * NO_SLOT_RELOAD         the slot loaded again after the block word        slot a whole wrap old: half an item believed
 * NO_RELOAD_ACQUIRE      acquire on that second load                       same bits, but stored again since: old bytes read
 * NO_DEAD_RELOAD         the slot loaded again when it looks dead          item copied to another block missed
 * NO_DEAD_ACQUIRE        acquire on that second load                       same bits, but stored again since: see NO_DEAD_WORD
 * NO_DEAD_WORD           the block word loaded again after that            slot a whole wrap old, taken again by K with the same
 *                                                                          bits: it is not dead, item missed
 * NO_ACQUIRE_FENCE       fence between item bytes and second block word    torn or foreign value
 * NO_WORD_RELOAD         the block word loaded again                       torn or foreign value
 * NO_CHECKED_OTHER       that check for the outcome "other key"            item copied to another block missed
 * NO_RELEASE_FENCE       fence between block word and reuse                torn or foreign value
 * NO_DISP_RELOAD         displaced-items word loaded after each bucket     item moved forward during the scan missed
 * NO_DISP_ACQUIRE        acquire on the displaced-items word               lowered word seen, the slot before it not: item missed
 * NO_DISP_RELEASE        release on the stores of that word                the same
 * NO_RAISE_FIRST         word raised before the new slot is stored         item missed
 * NO_LOWER_LATE          word lowered after the new slot is stored         the same as NO_DISP_ACQUIRE
 * NO_NEW_FIRST           new slot stored before the old one is replaced    item missed
 * NO_FORWARD_ONLY        moves only in the order of the search             item missed
 * NO_MOVE_BEFORE_FREE    slot changed before the old block is freed        item missed
 * NO_SWEEP_FIRST         no slot left that a wrapped generation revives    value that is not published yet
 */

#ifndef NOPS
#define NOPS 4
#endif
#define MAXST (NLOC + 7 * NOPS)	/* no operation makes more than 7 stores */

/* Words; the first NLOC stores of the list are their first values. */
#define EPOCH 0
#define DISP 1
#define SLOT(lv) (2 + (lv))
#define WORD(b) (5 + (b))
#define ITEM(b, i) (7 + 3 * (b) + (i))
#define NLOC 13

#define K 1
#define L 2

/* slot: 0, or 1 + block:1 | generation:1. block word: generation | epoch:2, epoch 0 while free. */
#define MKSLOT(b, gen) (1 + 2 * (b) + ((gen) & 1))
#define SLOT_BLOCK(s) (((s) - 1) >> 1)
#define SLOT_GEN(s) (((s) - 1) & 1)
#define MKWORD(gen, ep) ((gen) * 4 + (ep))
#define WORD_GEN(w) ((w) >> 2)
#define WORD_EPOCH(w) ((w) & 3)

#ifdef TRACE			/* pan -r then prints what a trail stores and loads */
#define SAY(f, x, y, z) printf(f, x, y, z)
#else
#define SAY(f, x, y, z) skip
#endif

#define RLX 0
#define ORD 1
#ifdef NO_SLOT_ACQUIRE
#define SLOT_ACQ RLX
#else
#define SLOT_ACQ ORD
#endif
#ifdef NO_SLOT_RELEASE
#define SLOT_REL RLX
#else
#define SLOT_REL ORD
#endif
#ifdef NO_WORD_ACQUIRE
#define WORD_ACQ RLX
#else
#define WORD_ACQ ORD
#endif
#ifdef NO_FREE_RELEASE
#define FREE_REL RLX
#else
#define FREE_REL ORD
#endif
#ifdef NO_OPEN_RELEASE
#define OPEN_REL RLX
#else
#define OPEN_REL ORD
#endif
#ifdef NO_RELOAD_ACQUIRE
#define RELOAD_ACQ RLX
#else
#define RELOAD_ACQ ORD
#endif
#ifdef NO_DEAD_ACQUIRE
#define DEAD_ACQ RLX
#else
#define DEAD_ACQ ORD
#endif
#ifdef NO_DISP_ACQUIRE
#define DISP_ACQ RLX
#else
#define DISP_ACQ ORD
#endif
#ifdef NO_DISP_RELEASE
#define DISP_REL RLX
#else
#define DISP_REL ORD
#endif

/* The list of stores. */
byte n;
byte hv[MAXST];			/* value */
byte hr[MAXST];			/* what its acquirer is bound to have seen */
byte nx[MAXST];			/* next store to the same word, 0: none */
byte st[MAXST];			/* K's value after this store, 0: absent */
bool written;

/* The writer's own: cleared before the reader starts. */
byte mem[NLOC], last[NLOC];
byte fenced;			/* what the last release fence covers */
byte kval, klev;		/* K's value and level */
byte vals;			/* values given out */
byte gen[2];			/* block's generation */
bool used[2];			/* block holds an item */

inline store(l, v, rel)
{
	hv[n] = v;
	hr[n] = (rel -> n : fenced);
	nx[last[l]] = n;
	last[l] = n;
	st[n] = kval;
	mem[l] = v;
	SAY("store %d: word %d = %d\n", n, l, v);
	n++
}

inline release_fence()
{
	fenced = n - 1
}

#define DEAD(s) (s != 0 && (SLOT_GEN(s) != (WORD_GEN(mem[WORD(SLOT_BLOCK(s))]) & 1) || \
	WORD_EPOCH(mem[WORD(SLOT_BLOCK(s))]) != mem[EPOCH]))
#define REUSABLE(lv) (mem[SLOT(lv)] == 0 || DEAD(mem[SLOT(lv)]))
/* A slot that the next generation of block b would bring back to life. */
#ifdef NO_SWEEP_FIRST
#define REVIVES(b) false
#else
#define WOULD(b, lv) (mem[SLOT(lv)] == MKSLOT(b, gen[b] + 1))
#define REVIVES(b) (WOULD(b, 0) || WOULD(b, 1) || WOULD(b, 2))
#endif

/* Opens free block b and copies an item into it. */
inline fill(b, key)
{
	store(WORD(b), MKWORD(gen[b], mem[EPOCH]), OPEN_REL);
#ifndef NO_RELEASE_FENCE
	release_fence();
#endif
	store(ITEM(b, 0), key, RLX);
	store(ITEM(b, 1), vals, RLX);
	store(ITEM(b, 2), vals, RLX);
	used[b] = true
}

inline free_block(b)
{
	gen[b]++;
	store(WORD(b), MKWORD(gen[b], 0), FREE_REL);
	used[b] = false
}

inline raise(lv)
{
	if
	:: lv > 0 -> store(DISP, mem[DISP] | (1 << lv), DISP_REL)
	:: else
	fi
}

inline lower(lv)
{
	if
	:: lv > 0 -> store(DISP, mem[DISP] & (7 - (1 << lv)), DISP_REL)
	:: else
	fi
}

/* K's slot moves from level klev to level lv; sl takes its place. */
inline move(lv, sl)
{
#ifndef NO_RAISE_FIRST
	raise(lv);
#endif
#ifdef NO_LOWER_LATE
	if
	:: sl == 0 -> lower(klev)
	:: else
	fi;
#endif
#ifdef NO_NEW_FIRST
	tmp = mem[SLOT(klev)];
	store(SLOT(klev), sl, SLOT_REL);
	store(SLOT(lv), tmp, SLOT_REL);
#else
	store(SLOT(lv), mem[SLOT(klev)], SLOT_REL);
	store(SLOT(klev), sl, SLOT_REL);
#endif
#ifdef NO_RAISE_FIRST
	raise(lv);
#endif
#ifndef NO_LOWER_LATE
	if
	:: sl == 0 -> lower(klev)
	:: else
	fi;
#endif
	klev = lv
}

#ifdef NO_FORWARD_ONLY
#define MAY_MOVE(lv) (lv != klev && REUSABLE(lv))
#else
#define MAY_MOVE(lv) (lv > klev && REUSABLE(lv))
#endif

active proctype writer()
{
	byte ops, b, lv, tmp, i;

	d_step {
		/* K with value 1 in block 0, at home; block 1 free. */
		n = NLOC;
		mem[EPOCH] = 1;
		mem[SLOT(0)] = MKSLOT(0, 0);
		mem[WORD(0)] = MKWORD(0, 1);
		mem[ITEM(0, 0)] = K;
		mem[ITEM(0, 1)] = 1;
		mem[ITEM(0, 2)] = 1;
		kval = 1;
		vals = 1;
		used[0] = true;
		i = 0;
		do
		:: i < NLOC ->
			hv[i] = mem[i];
			hr[i] = NLOC - 1;
			last[i] = i;
			st[i] = kval;
			i++
		:: else -> break
		od;
		fenced = NLOC - 1
	}

	do
	:: atomic { ops < NOPS ->
		ops++;
		if
		:: b = 0
		:: b = 1
		fi;
		lv = 0;
		do
		:: lv < 2 -> lv++
		:: break
		od;
		if
		:: d_step { !used[b] && kval != 0 && lv == 0 ->	/* overwrite K in place */
			vals++;
			fill(b, K);
			kval = vals;
			store(SLOT(klev), MKSLOT(b, gen[b]), SLOT_REL) }
		:: d_step { !used[b] && kval == 0 && REUSABLE(lv) ->	/* put K */
			vals++;
			fill(b, K);
			if
			:: mem[SLOT(lv)] == 0 -> raise(lv)
			:: else
			fi;
			kval = vals;
			klev = lv;
			store(SLOT(lv), MKSLOT(b, gen[b]), SLOT_REL) }
		:: d_step { !used[b] && REUSABLE(lv) ->			/* put L */
			vals++;
			fill(b, L);
			if
			:: mem[SLOT(lv)] == 0 -> raise(lv)
			:: else
			fi;
			store(SLOT(lv), MKSLOT(b, gen[b]), SLOT_REL) }
		:: d_step { !used[b] && kval != 0 && MAY_MOVE(lv) ->	/* put L where K was */
			vals++;
			fill(b, L);
			move(lv, MKSLOT(b, gen[b])) }
		:: d_step { b == 0 && kval != 0 && MAY_MOVE(lv) -> move(lv, 0) }
		:: d_step { !used[b] && kval != 0 && lv == 0 && !REVIVES((1 - b)) ->	/* copy K forward, free its block */
			tmp = vals;
			vals = kval;
			fill(b, K);
			vals = tmp;
#ifdef NO_MOVE_BEFORE_FREE
			free_block((1 - b));
			store(SLOT(klev), MKSLOT(b, gen[b]), SLOT_REL) }
#else
			store(SLOT(klev), MKSLOT(b, gen[b]), SLOT_REL);
			free_block((1 - b)) }
#endif
		:: d_step { lv == 0 && !REVIVES(b) && gen[b] < 4 ->	/* free, and with it evict */
			if
			:: kval != 0 && SLOT_BLOCK(mem[SLOT(klev)]) == b -> kval = 0
			:: else
			fi;
			free_block(b) }
		:: d_step { b == 0 && lv == 0 && mem[EPOCH] < 3 ->	/* reset */
			kval = 0;
			store(EPOCH, mem[EPOCH] + 1, RLX) }
		:: d_step { b == 0 && DEAD(mem[SLOT(lv)]) ->		/* sweep */
			store(SLOT(lv), 0, SLOT_REL);
			lower(lv) }
		:: else
		fi }
	:: d_step { ops == NOPS ->
		ops = 0; b = 0; lv = 0; tmp = 0;
		kval = 0; klev = 0; vals = 0; used[0] = false; used[1] = false; gen[0] = 0; gen[1] = 0; fenced = 0;
		i = 0;
		do
		:: i < NLOC -> mem[i] = 0; last[i] = 0; i++
		:: else -> break
		od;
		i = 0;
		written = true }
		break
	od
}

#define MAX(x, y) ((x) > (y) -> (x) : (y))

/* Loads word l into v: any store to it that order permits. */
inline load(v, l, acq)
{
	d_step {
		k = seen[l];
		do
		:: nx[k] != 0 && nx[k] <= bound -> k = nx[k]
		:: else -> break
		od
	}
	do
	:: nx[k] != 0 -> k = nx[k]
	:: break
	od;
	seen[l] = k;
	d_step {
		v = hv[k];
		pending = MAX(pending, hr[k]);
		horizon = MAX(horizon, k);
		if
		:: acq -> bound = MAX(bound, hr[k])
		:: else
		fi;
		SAY("load word %d: store %d, value %d\n", l, k, v);
		k = 0
	}
}

inline clear()
{
	s = 0; w = 0; b = 0; again = 0; key = 0; v1 = 0; v2 = 0
}

active proctype reader()
{
	byte k, began, bound, pending, horizon, seen[NLOC];
	byte e, lv, s, w, b, again, key, v1, v2, d;

	atomic { written ->
		began = NLOC - 1;
		do
		:: began < n - 1 -> began++
		:: break
		od;
		d_step {
			bound = began; pending = began; horizon = began;
			do
			:: k < NLOC -> seen[k] = k; k++
			:: else -> break
			od;
			k = 0
		}
	}
	/* The reader is alone now: a step is a bucket, and nothing is lost by that. */
start:
	atomic {
		SAY("start: began %d bound %d of %d\n", began, bound, n);
		e = 0; lv = 0; d = 0; clear();
		load(e, EPOCH, RLX);
#ifdef NO_DISP_RELOAD
		load(d, DISP, DISP_ACQ)
#endif
	}
scan:
	atomic {
		load(s, SLOT(lv), SLOT_ACQ);
		if
		:: s == 0 -> goto next
		:: else
		fi;
		b = SLOT_BLOCK(s);
		load(w, WORD(b), WORD_ACQ);
		if
#ifdef NO_EPOCH_CHECK
		:: (WORD_GEN(w) & 1) != SLOT_GEN(s) ->
#elif defined(NO_GEN_CHECK)
		:: WORD_EPOCH(w) != e ->
#else
		:: (WORD_GEN(w) & 1) != SLOT_GEN(s) || WORD_EPOCH(w) != e ->
#endif
#ifndef NO_DEAD_RELOAD
			load(again, SLOT(lv), DEAD_ACQ);
			if
			:: again != s -> goto start
			:: else
			fi;
#endif
#ifndef NO_DEAD_WORD
			load(again, WORD(b), RLX);
			if
			:: again != w -> goto start
			:: else
			fi;
#endif
			goto next
		:: else
		fi;
#ifndef NO_SLOT_RELOAD
		load(again, SLOT(lv), RELOAD_ACQ);
		if
		:: again != s -> goto start
		:: else
		fi;
#endif
		load(key, ITEM(b, 0), RLX);
#ifdef NO_CHECKED_OTHER
		if
		:: key != K -> goto next
		:: else
		fi;
#endif
		if
		:: key == K ->
			load(v1, ITEM(b, 1), RLX);
			load(v2, ITEM(b, 2), RLX)
		:: else
		fi;
#ifndef NO_ACQUIRE_FENCE
		bound = MAX(bound, pending);
#endif
#ifndef NO_WORD_RELOAD
		load(again, WORD(b), RLX);
		if
		:: again != w -> goto start
		:: else
		fi;
#endif
		if
		:: key == K -> goto done
		:: else
		fi;
next:
		lv++;
		if
		:: lv == 3 -> goto done
		:: else
		fi;
#ifndef NO_DISP_RELOAD
		load(d, DISP, DISP_ACQ);
#endif
		if
		:: (d >> lv) & 1
		:: else -> goto next
		fi
		clear()
	}
	goto scan;
done:
	atomic {
		assert(v1 == v2);
		do
		:: began <= horizon && st[began] != v1 -> began++
		:: else -> break
		od;
		assert(began <= horizon)
	}
}
