// SPDX-License-Identifier: Apache-2.0
/*
 * The log in memory: a ring that holds everything after the last compaction, with
 * the marks that move along it.
 *
 * What is durable is known by the appends on their way to disk, oldest first. The
 * index and term of an acknowledgement do not suffice: an entry may be overwritten
 * and then written again with the same term while the first write is still under
 * way (the ABA race), and between the two the disk holds neither. So each append
 * remembers up to where it still stands, and an overwriting one lowers that mark in
 * all those before it.
 */
#include "libraft/raft_i.h"

#define LOG_CAP_MIN 64

static struct raft_entry *log_slot(const struct raft_log *log, uint64_t index)
{
	BUG_ON(index <= log->base || index > log->last);
	return &log->ring[index & (log->cap - 1)];
}

const struct raft_entry *log_entry(const struct raft_log *log, uint64_t index)
{
	const struct raft_entry *e = log_slot(log, index);

	BUG_ON(e->index != index);
	return e;
}

bool log_term(const struct raft_log *log, uint64_t index, uint64_t *term)
{
	if (index < log->base || index > log->last)
		return false;
	*term = index == log->base ? log->base_term : log_entry(log, index)->term;
	return true;
}

uint64_t log_last_term(const struct raft_log *log)
{
	uint64_t term;

	BUG_ON(!log_term(log, log->last, &term));
	return term;
}

bool log_matches(const struct raft_log *log, uint64_t index, uint64_t term)
{
	uint64_t ours;

	return log_term(log, index, &ours) && ours == term;
}

/*
 * Thesis 3.6.1: the log with the later last term is more up to date; of logs that end
 * with the same term, the longer one.
 */
bool log_up_to_date(const struct raft_log *log, uint64_t index, uint64_t term)
{
	uint64_t last_term = log_last_term(log);

	return term > last_term || (term == last_term && index >= log->last);
}

/*
 * The largest index at or below @index whose term is not above @term: where two logs
 * may still agree, when one of them is known to hold nothing above @term there.
 * Where that lies outside what the log holds, the answer is the border and
 * *@found_term is 0, "not known". Terms never fall along a log, so it is a binary
 * search.
 */
uint64_t log_find_conflict(const struct raft_log *log, uint64_t index, uint64_t term,
			   uint64_t *found_term)
{
	uint64_t lo = log->base, hi = index;	/* the answer is in [lo, hi] */

	*found_term = 0;
	if (index > log->last || index < log->base)
		return index;
	while (lo < hi) {
		uint64_t mid = hi - (hi - lo) / 2;

		if (log_entry(log, mid)->term <= term)
			lo = mid;
		else
			hi = mid - 1;
	}
	BUG_ON(!log_term(log, lo, found_term));
	BUG_ON(lo > index || lo < log->base);
	if (*found_term <= term)
		return lo;
	/* Everything the log still holds is above @term; before that nothing is known. */
	*found_term = 0;
	return lo ? lo - 1 : 0;
}

static int log_resize(struct raft_log *log, size_t cap)
{
	struct raft_entry *ring;

	BUG_ON(!cap || (cap & (cap - 1)));
	BUG_ON(log->last - log->base > cap);
	ring = malloc(cap * sizeof(*ring));
	if (!ring)
		return -ENOMEM;
	for (uint64_t i = log->base + 1; i <= log->last; i++)
		ring[i & (cap - 1)] = *log_entry(log, i);
	BUG_ON(log->ring && log->cap == cap);
	free(log->ring);
	log->ring = ring;
	log->cap = cap;
	return 0;
}

static int log_reserve(struct raft_log *log, size_t n)
{
	uint64_t need = log->last - log->base + n;
	size_t cap = log->cap ? log->cap : LOG_CAP_MIN;

	BUG_ON(log->last < log->base || log->last - log->base > log->cap);
	BUG_ON(need > SIZE_MAX / 4);
	if (need <= log->cap)
		return 0;
	while (cap < need)
		cap *= 2;
	return log_resize(log, cap);
}

static void log_drop(struct raft_log *log, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i <= to; i++)
		blob_put(log_slot(log, i)->payload);
}

/* Drops @from and everything after it; what was being written there counts no more. */
static void log_truncate(struct raft_log *log, uint64_t from)
{
	BUG_ON(from <= log->commit || from <= log->base);
	BUG_ON(from > log->last);
	log_drop(log, from, log->last);
	log->last = from - 1;
	BUG_ON(log->last < log->handed);
	log->stored = MIN(log->stored, log->last);
	for (size_t i = 0; i < log->n_appends; i++)
		log->appends[i].stable = MIN(log->appends[i].stable, log->last);
}

/* The record of what @up will have the disk write; the one it has, or a new one. */
static int log_record(struct raft_log *log, const struct raft_update *up)
{
	int ret;

	if (up->n_entries || up->snapshot) {
		BUG_ON(!log->n_appends);
		return 0;
	}
	ret = vec_reserve(&log->appends, &log->cap_appends, log->n_appends + 1,
			  sizeof(*log->appends));
	if (ret)
		return ret;
	BUG_ON(log->n_appends == log->cap_appends);
	log->appends[log->n_appends++] = (struct raft_append){ 0 };
	return 0;
}

int log_begin(struct raft_log *log, struct raft_update *up, uint64_t first, size_t n)
{
	int ret;

	BUG_ON(!n || first > log->last + 1);
	BUG_ON(first <= log->commit || first <= log->base);
	ret = log_record(log, up);
	if (ret)
		return ret;
	if (first <= log->last) {
		log_truncate(log, first);
		update_truncate(up, first);
	}
	ret = vec_reserve(&up->entries, &up->cap_entries, up->n_entries + n,
			  sizeof(*up->entries));
	return ret ? ret : log_reserve(log, n);
}

void log_push(struct raft_log *log, struct raft_update *up, const struct raft_entry *e)
{
	struct raft_append *append = &log->appends[log->n_appends - 1];

	BUG_ON(!log->n_appends || e->index != log->last + 1);
	BUG_ON(up->n_entries == up->cap_entries || log->last - log->base == log->cap);
	BUG_ON(!e->term || e->term < log_last_term(log));
	log->last++;
	*log_slot(log, e->index) = *e;
	up->entries[up->n_entries++] = *e;
	if (e->payload) {
		blob_get(e->payload);
		blob_get(e->payload);
	}
	*append = (struct raft_append){ e->index, e->term, e->index };
	up->must_sync = true;
}

/* Fills an empty log with what was found on disk. */
int log_load(struct raft_log *log, const struct raft_entry *entries, size_t n)
{
	int ret;

	BUG_ON(log->last != log->base || log->n_appends);
	if (!n)
		return 0;
	ret = log_reserve(log, n);
	if (ret)
		return ret;
	for (size_t i = 0; i < n; i++) {
		log->last++;
		BUG_ON(entries[i].index != log->last);
		*log_slot(log, log->last) = entries[i];
		if (entries[i].payload)
			blob_get(entries[i].payload);
	}
	log->stored = log->last;
	BUG_ON(log->last - log->base != n);
	return 0;
}

/* Replaces the log by a snapshot, which @up is to bring to disk. */
int log_restore(struct raft_log *log, struct raft_update *up, uint64_t index, uint64_t term)
{
	int ret = log_record(log, up);

	BUG_ON(index <= log->commit || !term);
	if (ret)
		return ret;
	log_drop(log, log->base + 1, log->last);
	for (size_t i = 0; i < log->n_appends; i++)
		log->appends[i].stable = 0;
	log->appends[log->n_appends - 1] = (struct raft_append){ index, term, index };
	update_truncate(up, 0);
	log->base = log->last = index;
	log->base_term = term;
	log->commit = log->handed = log->applied = index;
	log->handed_bytes = 0;
	log->stored = 0;
	log->snapshot = index;
	BUG_ON(up->n_entries);
	return 0;
}

/* An append is durable. Appends become so in their order; true: stored moved. */
bool log_stored(struct raft_log *log, uint64_t index, uint64_t term)
{
	uint64_t before = log->stored;
	size_t n = 0;

	while (n < log->n_appends &&
	       (log->appends[n].index != index || log->appends[n].term != term))
		n++;
	if (n++ == log->n_appends)
		return false;
	for (size_t i = 0; i < n; i++)
		log->stored = MAX(log->stored, log->appends[i].stable);
	log->n_appends -= n;
	memmove(log->appends, log->appends + n, log->n_appends * sizeof(*log->appends));
	BUG_ON(log->stored > log->last || log->stored < before);
	BUG_ON(log->snapshot && log->stored && log->stored < log->snapshot);
	if (log->stored >= log->snapshot)
		log->snapshot = 0;
	return log->stored > before;
}

void log_applied(struct raft_log *log, uint64_t index)
{
	BUG_ON(index > log->handed);
	while (log->applied < index) {
		size_t bytes = entry_bytes(log_entry(log, ++log->applied));

		BUG_ON(bytes > log->handed_bytes);
		log->handed_bytes -= bytes;
	}
	BUG_ON(log->applied == log->handed && log->handed_bytes);
}

/* Thesis 5.1: forgets entries up to @index, if they are applied, and durable here. How many
 * are kept for followers that lag is the caller's choice. */
void log_compact(struct raft_log *log, uint64_t index)
{
	uint64_t n;

	index = MIN(index, MIN(log->applied, log->stored));
	if (index <= log->base)
		return;
	BUG_ON(!log_term(log, index, &log->base_term));
	log_drop(log, log->base + 1, index);
	log->base = index;
	BUG_ON(log->base > log->applied || log->base > log->stored);
	n = log->last - log->base;
	/* Memory being short is no reason to fail here: the ring stays as it is. */
	if (log->cap > LOG_CAP_MIN && n < log->cap / 8)
		(void)log_resize(log, MAX((size_t)LOG_CAP_MIN, log->cap / 4));
}

void log_release(struct raft_log *log)
{
	log_drop(log, log->base + 1, log->last);
	free(log->ring);
	free(log->appends);
	*log = (struct raft_log){ 0 };
}

void log_check(const struct raft_log *log, uint64_t term)
{
	uint64_t bytes = 0, before = log->base_term;

	BUG_ON(log->base > log->applied || log->applied > log->handed);
	BUG_ON(log->handed > log->commit || log->commit > log->last);
	BUG_ON(log->last - log->base > log->cap);
	BUG_ON(log->stored > log->last);
	BUG_ON(!log->snapshot && log->handed > log->stored);
	BUG_ON(log->stored < log->last && !log->n_appends);
	for (uint64_t i = log->base + 1; i <= log->last; i++) {
		const struct raft_entry *e = log_entry(log, i);

		BUG_ON(e->term < before || e->term > term);
		before = e->term;
		if (i > log->applied && i <= log->handed)
			bytes += entry_bytes(e);
	}
	BUG_ON(bytes != log->handed_bytes);
	for (size_t i = 0; i < log->n_appends; i++)
		BUG_ON(log->appends[i].stable > log->appends[i].index);
}
