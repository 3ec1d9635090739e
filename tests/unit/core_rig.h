/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A core without a loop, a disk or a socket: the test is its clock, its log thread and
 * its store thread, and decides when each of them is done.
 */
#ifndef CORE_RIG_H
#define CORE_RIG_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "kvd/core.h"
#include "kvd/crc32c.h"
#include "kvd/validate.h"

#define SECOND 1000000000ull

struct rig {
	uint64_t id;
	struct mvcc_backend *backend;
	struct mvcc *store;
	struct core *core;
	uint64_t now;
	/* the log, as the disk has it */
	struct raft_entry log[40000];
	size_t n_log;
	struct raft_hard_state hard_state;
	bool stuck;			/* the log's disk does not answer */
	bool hold_hashes;		/* nor the store's, for slices of hashes */
	struct hash_job *hash_held;	/* the slice that is out */
	size_t hash_bytes;		/* of a slice */
	bool hold_reclaims;
	struct reclaim_job *reclaim_held;
	size_t reclaim_slices;		/* that a run takes, at least */
	size_t reclaimed;		/* slices so far */
	uint64_t scrub_period;
	size_t scrub_slices, scrubbed;	/* that one takes; so far */
	bool damaged;			/* the last slice of a scrub finds that */
	size_t finished;
	const struct status *last_error;
	int64_t last_revision;
	struct op_result last;
	struct hash_answer last_hash;
};

static char rig_url[] = "http://127.0.0.1:2379";
static char *rig_urls[] = { rig_url };
static const char *rig_peers[] = { "http://127.0.0.1:2380" };

static inline void open_core(struct rig *rig)
{
	struct mvcc_args args = { .cache_bytes = 1 };
	struct core_config config = {
		.member_id = rig->id, .cluster_id = 9, .seed = rig->id, .election_ticks = 10,
		.heartbeat_ticks = 1, .tick = SECOND / 10, .snapshot_count = 100,
		.quota = 1 << 20, .name = "one", .client_urls = rig_urls, .n_client_urls = 1,
		.scrub_period = rig->scrub_period,
	};
	const char *cause;
	uint64_t index;
	char why[256];

	assert_int_equal(mvcc_open(rig->backend, &args, &rig->store, why, sizeof(why)), 0);
	index = core_applied_in(rig->store).index;
	config.hard_state = rig->hard_state;
	config.entries = rig->log + index;
	config.n_entries = rig->n_log - index;
	assert_int_equal(core_open(&config, rig->store, &rig->core, &cause), 0);
}

static inline void close_core(struct rig *rig)
{
	core_close(rig->core);
	mvcc_free(rig->store);
	rig->core = NULL;
}

static inline void append(struct rig *rig, struct core_append *a)
{
	for (size_t i = 0; i < a->n_entries; i++) {
		assert_true(rig->n_log < ARRAY_SIZE(rig->log));
		assert_true(a->entries[i].index <= rig->n_log + 1);
		while (rig->n_log >= a->entries[i].index)
			blob_put(rig->log[--rig->n_log].payload);
		rig->log[rig->n_log] = a->entries[i];
		if (rig->log[rig->n_log].payload)
			blob_get(rig->log[rig->n_log].payload);
		rig->n_log++;
	}
	if (a->has_hard_state)
		rig->hard_state = a->hard_state;
	assert_int_equal(core_appended(rig->core, a), 0);
}

static inline void add_to_crc(void *arg, struct slice bytes)
{
	uint32_t *crc = arg;

	*crc = crc32c(*crc, bytes);
}

/* Hashes the slice that is out, unless it is held. */
static inline bool hash_slice(struct rig *rig)
{
	struct hash_job *job = rig->hash_held;
	int r;

	if (!job || rig->hold_hashes)
		return false;
	r = mvcc_backend_hash(rig->backend, &job->hash, rig->hash_bytes, add_to_crc, &job->crc);
	assert_true(r >= 0);
	job->more = r;
	rig->hash_held = NULL;
	core_hashed(rig->core, job);
	return true;
}

/* Gives back a slice, unless it is held. */
static inline bool reclaim_slice(struct rig *rig)
{
	struct reclaim_job *job = rig->reclaim_held;
	int r;

	if (!job || rig->hold_reclaims)
		return false;
	r = mvcc_backend_reclaim(rig->backend, 1);
	assert_true(r >= 0);
	assert_int_equal(mvcc_backend_size(rig->backend, &job->size), 0);
	job->more = r || ++rig->reclaimed % (rig->reclaim_slices + 1);
	rig->reclaim_held = NULL;
	core_reclaimed(rig->core, job);
	return true;
}

static inline void scrub_slice(struct rig *rig, struct scrub_job *job)
{
	assert_int_equal(mvcc_backend_scrub(rig->backend, &job->scrub, 1 << 20), 0);
	job->more = ++rig->scrubbed % rig->scrub_slices;
	job->damaged = !job->more && rig->damaged;
	core_scrubbed(rig->core, job);
}

static inline bool store_batch(struct rig *rig)
{
	struct core_batch *batch = core_take_batch(rig->core, rig->now, false);

	if (!batch)
		return false;
	assert_int_equal(mvcc_backend_write(rig->backend, batch->batch), 0);
	core_stored(rig->core, batch);
	return true;
}

/* Turns until nothing moves any more. */
static inline void settle(struct rig *rig)
{
	struct core_append *a;
	struct fetch_job *job;
	struct reclaim_job *reclaim;
	struct scrub_job *scrub;
	struct hash_job *hash;
	bool moved = true;

	for (int i = 0; moved; i++) {
		assert_true(i < 10000);
		assert_int_equal(core_turn(rig->core, rig->now), 0);
		moved = core_busy(rig->core);
		while (!rig->stuck && (a = core_take_append(rig->core))) {
			append(rig, a);
			moved = true;
		}
		while ((job = core_take_fetch(rig->core))) {
			assert_int_equal(mvcc_backend_fetch(rig->backend, job->fetch), 0);
			core_fetched(rig->core, job);
			moved = true;
		}
		while ((hash = core_take_hash(rig->core))) {
			rig->hash_held = hash;
			moved |= hash_slice(rig);
		}
		moved |= store_batch(rig);
		if ((scrub = core_take_scrub(rig->core)))
			scrub_slice(rig, scrub);
		while ((reclaim = core_take_reclaim(rig->core))) {
			rig->reclaim_held = reclaim;
			moved |= reclaim_slice(rig);
		}
	}
	mvcc_check(rig->store);
}

/* Lets time pass, in ticks. */
static inline void pass(struct rig *rig, uint64_t time)
{
	for (uint64_t end = rig->now + time; rig->now < end;) {
		rig->now += SECOND / 10;
		assert_int_equal(core_tick(rig->core, rig->now), 0);
		settle(rig);
	}
}

/* The member @id of a group of @n, 7 and on, before its first turn. */
static inline struct rig *rig_new(uint64_t id, size_t n)
{
	struct rig *rig = calloc(1, sizeof(*rig));

	rig->id = id;
	rig->now = SECOND;
	rig->hash_bytes = 1 << 20;
	assert_int_equal(mvcc_mem_open(&rig->backend), 0);
	for (uint64_t i = 1; i <= n; i++)
		rig->log[rig->n_log++] = (struct raft_entry){
			.term = 1, .index = i, .type = RAFT_ENTRY_CONF_CHANGE,
			.payload = cluster_encode_add(i, 6 + i, rig_peers, 1, "one"),
		};
	rig->hard_state = (struct raft_hard_state){ .term = 1, .commit = n };
	open_core(rig);
	return rig;
}

static inline void rig_free(struct rig *rig)
{
	close_core(rig);
	mvcc_backend_close(rig->backend);
	for (size_t i = 0; i < rig->n_log; i++)
		blob_put(rig->log[i].payload);
	op_result_release(&rig->last);
	free(rig);
}

static inline int setup(void **state)
{
	struct rig *rig = rig_new(7, 1);

	settle(rig);
	*state = rig;
	return 0;
}

static inline int teardown(void **state)
{
	rig_free(*state);
	return 0;
}

/* --- requests ------------------------------------------------------------- */

static inline void finished(struct request *request)
{
	struct rig *rig = request->owner;

	rig->finished++;
	rig->last_error = request->error;
	rig->last_revision = request->result.revision;
	rig->last_hash = request->hash;
	op_result_release(&rig->last);
	rig->last = request->result;
	mvcc_result_init(&request->result.kvs);
	request->result = (struct op_result){ .kvs = request->result.kvs };
	request_free(request);
}

static inline struct request *make(struct rig *rig, enum request_op op,
				   const ProtobufCMessage *message)
{
	struct request *r = request_new(op);
	struct blob *body = pb_pack_blob(message);
	ProtobufCMessage *copy;

	assert_int_equal(pb_unpack(message->descriptor, blob_slice(body), &r->arena, &copy), 0);
	r->message = copy;
	r->owner = rig;
	r->done = finished;
	if (!request_is_read(op)) {
		r->id = core_request_id(rig->core);
		assert_int_equal(request_encode(r, blob_slice(body)), 0);
	}
	blob_put(body);
	return r;
}

static inline ProtobufCBinaryData bytes(const char *s)
{
	return (ProtobufCBinaryData){ strlen(s), (uint8_t *)s };
}

static inline struct request *make_put(struct rig *rig, const char *key, const char *value,
				       int64_t lease, bool prev_kv)
{
	Etcdserverpb__PutRequest put = ETCDSERVERPB__PUT_REQUEST__INIT;

	put.key = bytes(key);
	put.value = bytes(value);
	put.lease = lease;
	put.prev_kv = prev_kv;
	return make(rig, REQUEST_PUT, &put.base);
}

static inline void do_put(struct rig *rig, const char *key, const char *value, int64_t lease)
{
	core_submit(rig->core, make_put(rig, key, value, lease, false));
	settle(rig);
}

static inline struct request *make_range(struct rig *rig, const char *key)
{
	Etcdserverpb__RangeRequest range = ETCDSERVERPB__RANGE_REQUEST__INIT;

	range.key = bytes(key);
	return make(rig, REQUEST_RANGE, &range.base);
}

static inline void assert_value(struct rig *rig, const char *key, const char *want)
{
	struct mvcc_kv kv;

	core_submit(rig->core, make_range(rig, key));
	settle(rig);
	assert_null(rig->last_error);
	assert_int_equal(rig->last.kvs.n, want ? 1 : 0);
	if (!want)
		return;
	assert_int_equal(mvcc_kv_decode(blob_slice(rig->last.kvs.kvs[0]), &kv), 0);
	assert_true(slice_eq(kv.value, slice_str(want)));
}

static inline void grant(struct rig *rig, int64_t id, int64_t ttl)
{
	Etcdserverpb__LeaseGrantRequest g = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;

	g.id = id;
	g.ttl = ttl;
	core_submit(rig->core, make(rig, REQUEST_LEASE_GRANT, &g.base));
	settle(rig);
}

static inline void compact(struct rig *rig, int64_t revision, bool physical)
{
	Etcdserverpb__CompactionRequest c = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
	struct request *r;

	c.revision = revision;
	c.physical = physical;
	r = make(rig, REQUEST_COMPACT, &c.base);
	r->physical = physical;
	core_submit(rig->core, r);
	settle(rig);
}

#endif
