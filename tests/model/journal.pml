/*
 * journal.pml - the intent: each record applied once, whenever the worker dies
 *
 * A client commits RECORDS records; the worker applies them in order. It may die between any two stores, as often as it
 * likes, also in recovery; the keeper then starts the next one. For every record it writes a list of (word, value)
 * stores, then the list's length into `valid`, makes the stores in order, the last being the applied position, and
 * clears `valid`. A worker that starts and finds `valid` set makes all stores of the list again, from the first, and
 * goes on with the first record that is not applied. Beside it a reader looks for item X or Y, which are there all the
 * time, and a waiter looks at the result of each record that it finds applied.
 *
 * X and Y begin in their home bucket (two slots) and may go to level 1 and level 2 (a slot each); the displaced-items
 * word counts both levels. Kinds of record: nothing (dropped), a count, a put that moves an item forward, one that
 * moves both of them to different levels, one that moves a chain: level 1 to 2 and home to 1. A record at position p
 * adds 1 << p to the counter, so the counter tells which records were applied how often.
 *
 * Memory is sequentially consistent here: a signal falls between two instructions, and what the dead worker has
 * stored is visible before waitpid returns, so its death cuts program order (`valid` needs its release against the
 * compiler). What a reader may see beside a living writer is in read.pml.
 *
 * Properties. In the end the counter holds every record once, and the displaced-items word is exact. A slot at a
 * further level is always counted. The reader finds its item. A record seen as applied has its result.
 *
 * switch               what it takes away                                what breaks
 * NO_VALID_LAST        valid is stored after the list                    half a list is taken for a whole one
 * NO_VALID_CLEAR       valid is cleared before the next list             the next list, half written, is redone
 * NO_REDO              a valid intent is finished                        record applied twice
 * NO_REDO_ORDER        in the order of the list                          item missed, record seen applied too early
 * NO_ABSOLUTE          values in the list are absolute                   record counted twice
 * NO_APPLIED_LISTED    the applied position is in the list               record applied twice
 * NO_APPLIED_LAST      as its last store                                 record seen as applied without its result
 * NO_RAISE_FIRST       word raised before the new slot is stored         slot not counted, item missed
 * NO_NEW_FIRST         new slot stored before the old one is replaced    item missed
 * NO_LOWER_LAST        word lowered after the old slot is replaced       slot not counted
 * NO_RAISE_ALL_FIRST   a list with two moves raises for both at first    redo takes the word back below its slots: item missed
 * NO_SLOT_ONCE         a list stores a slot once                         redo empties a slot that was taken again: item missed
 * NO_WAITPID           the next worker starts when the last is dead      record applied twice
 */

#ifndef RECORDS
#define RECORDS 3
#endif

/* Words of the segment. */
#define HOME 0			/* and 1 */
#define SLOT1 2
#define SLOT2 3
#define DISP 4			/* level 1 | level 2 << 4 */
#define COUNTER 5
#define APPLIED 6
#define RESULT 7
byte mem[RESULT + RECORDS];

#define X 1
#define Y 2
#define OTHER 3

/* Worker-only words of the segment: the intent. */
#define MAXLIST 10
byte valid;
byte at[MAXLIST], val[MAXLIST];

/* The ring. */
mtype = { none, count, move, both, chain };
mtype rec[RECORDS];
byte committed;

#ifdef NO_WAITPID
#define WORKERS 2
#else
#define WORKERS 1
#endif
bool die;
byte finished;

#define LEVEL1(w) ((w) & 15)
#define LEVEL2(w) ((w) >> 4)
#define WORDOF(l1, l2) ((l1) + ((l2) << 4))

/* One store of the worker to a word that others read. */
inline poke(w, v)
{
	mem[w] = v;
	assert(mem[SLOT1] == 0 || LEVEL1(mem[DISP]) > 0);
	assert(mem[SLOT2] == 0 || LEVEL2(mem[DISP]) > 0)
}

/* One line of the list. */
inline note(w, v)
{
	atomic {
#ifdef NO_VALID_LAST
		valid = n + 1;
	}
	atomic {
#endif
		at[n] = w;
		val[n] = v;
		n++
	}
}

/* One move of a list, from slot `from` to `to`, the old slot taking sl; the displaced-items word is w1 on the way, w2 after it. */
inline note_move(from, to, sl, w1, w2)
{
#ifndef NO_RAISE_FIRST
	note(DISP, w1);
#endif
#if defined(NO_NEW_FIRST)
	item = mem[from];
	note(from, sl);
	note(to, item);
	item = 0;
#elif defined(NO_LOWER_LAST)
	note(to, mem[from]);
	note(DISP, w2);
	note(from, sl);
#else
	note(to, mem[from]);
	note(from, sl);
#endif
#ifdef NO_RAISE_FIRST
	note(DISP, w1);
#endif
#ifndef NO_LOWER_LAST
	if
	:: w1 != w2 -> note(DISP, w2)
	:: else
	fi
#endif
}

/* Writes down what the record at position pos does. */
inline note_record()
{
#ifndef NO_VALID_LAST
	n = 0;
#endif
#ifdef NO_APPLIED_LAST
	note(APPLIED, pos + 1);
#endif
	if
	:: rec[pos] == move && mem[HOME] != OTHER && mem[SLOT1] == 0 ->
		note_move(HOME, SLOT1, OTHER, mem[DISP] + WORDOF(1, 0), mem[DISP] + WORDOF(1, 0))
	:: rec[pos] == move && mem[SLOT1] != 0 && mem[SLOT2] == 0 ->
		note_move(SLOT1, SLOT2, 0, mem[DISP] + WORDOF(0, 1), WORDOF(0, 1))
	:: rec[pos] == both && mem[SLOT1] == 0 && mem[SLOT2] == 0 ->
#ifdef NO_RAISE_ALL_FIRST
		note_move(HOME, SLOT1, OTHER, WORDOF(1, 0), WORDOF(1, 0));
		note_move(HOME + 1, SLOT2, OTHER, WORDOF(1, 1), WORDOF(1, 1))
#else
		note(DISP, WORDOF(1, 1));
		note(SLOT1, mem[HOME]);
		note(HOME, OTHER);
		note(SLOT2, mem[HOME + 1]);
		note(HOME + 1, OTHER)
#endif
	:: rec[pos] == chain && mem[SLOT1] != 0 && mem[SLOT2] == 0 ->
		note(DISP, WORDOF(2, 1));
		note(SLOT2, mem[SLOT1]);
#ifdef NO_SLOT_ONCE
		note(SLOT1, 0);
#endif
		note(SLOT1, mem[HOME + 1]);
		note(HOME + 1, OTHER);
		note(DISP, WORDOF(1, 1))
	:: else
	fi;
	if
	:: rec[pos] != none ->
#ifdef NO_ABSOLUTE
		note(COUNTER, 1 << pos)
#else
		note(COUNTER, mem[COUNTER] + (1 << pos))
#endif
	:: else
	fi;
	note(RESULT + pos, 1);
#if !defined(NO_APPLIED_LAST) && !defined(NO_APPLIED_LISTED)
	note(APPLIED, pos + 1);
#endif
	atomic { valid = n; n = 0 }
}

/* Makes the stores of the list, i of them from the first. */
inline make()
{
	do
	:: atomic { n < valid ->
#ifdef NO_ABSOLUTE
		if
		:: at[n] == COUNTER -> poke(COUNTER, mem[COUNTER] + val[n])
		:: else -> poke(at[n], val[n])
		fi;
#else
		poke(at[n], val[n]);
#endif
		n++ }
	:: atomic { n >= valid -> n = 0 }
		break
	od
}

inline clear()
{
#ifndef NO_VALID_CLEAR
	valid = 0
#else
	skip
#endif
}

inline recover()
{
	if
	:: valid != 0 ->
#if defined(NO_REDO)
		skip;
#elif defined(NO_REDO_ORDER)
		n = valid;
		do
		:: atomic { n > 0 -> n--; poke(at[n], val[n]) }
		:: n == 0 -> break
		od;
#else
		make();
#endif
		valid = 0
	:: else
	fi
}

proctype worker()
{
	byte n, pos, item;

	do
	:: {
		recover();
		do
		:: atomic { mem[APPLIED] < committed -> pos = mem[APPLIED] }
			note_record();
			make();
			clear();
#ifdef NO_APPLIED_LISTED
			mem[APPLIED] = pos + 1;
#endif
			pos = 0
		:: mem[APPLIED] == RECORDS -> goto done
		od
	} unless {
		atomic { die -> die = false; n = 0; pos = 0; item = 0 }
	}
	od;
done:
	finished++
}

proctype killer()
{
	do
	:: !die -> die = true
	:: break
	od
}

proctype client()
{
	do
	:: committed < RECORDS -> committed++
	:: else -> break
	od
}

proctype waiter()
{
end:
	atomic { mem[APPLIED] > 0 -> assert(mem[RESULT + mem[APPLIED] - 1] != 0) }
}

proctype reader()
{
	byte want;

	if
	:: want = X
	:: want = Y
	fi;
	if
	:: mem[HOME] == want -> goto found
	:: else
	fi;
	if
	:: mem[HOME + 1] == want -> goto found
	:: else
	fi;
	if
	:: LEVEL1(mem[DISP]) != 0 ->
		if
		:: mem[SLOT1] == want -> goto found
		:: else
		fi
	:: else
	fi;
	if
	:: LEVEL2(mem[DISP]) != 0 ->
		if
		:: mem[SLOT2] == want -> goto found
		:: else
		fi
	:: else
	fi;
	assert(false);
found:
	want = 0
}

init {
	byte i, sum;

	atomic {
		mem[HOME] = X;
		mem[HOME + 1] = Y;
		do
		:: i < RECORDS ->
			if
			:: rec[i] = none
			:: rec[i] = count
			:: rec[i] = move
			:: rec[i] = both
			:: rec[i] = chain
			fi;
			sum = sum + (rec[i] == none -> 0 : 1 << i);
			i++
		:: else -> break
		od;
		i = 0;
		run worker();
#ifdef NO_WAITPID
		run worker();
#endif
		run killer();
		run client();
		run waiter();
		run reader()
	}
	atomic { finished == WORKERS ->
		assert(mem[COUNTER] == sum);
		assert(LEVEL1(mem[DISP]) == (mem[SLOT1] != 0) && LEVEL2(mem[DISP]) == (mem[SLOT2] != 0))
	}
}
