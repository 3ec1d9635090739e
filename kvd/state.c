// SPDX-License-Identifier: Apache-2.0

#include "include/endian_bytes.h"
#include "include/wire.h"
#include "kvd/crc32c.h"
#include "kvd/state.h"
#include "kvd/validate.h"
#include "lib/proto/lease.pb-c.h"

const struct status *state_status_of(int outcome)
{
	switch (outcome) {
	case MVCC_COMPACTED:
		return &status_compacted;
	case MVCC_FUTURE:
		return &status_future_revision;
	default:
		return NULL;
	}
}

/* --- opening -------------------------------------------------------------- */

static int put_message(struct mvcc *store, const char *bucket, struct slice key,
		       const ProtobufCMessage *message)
{
	struct blob *b = pb_pack_blob(message);
	int err = b ? mvcc_record_put(store, bucket, key, blob_slice(b)) : -ENOMEM;

	blob_put(b);
	return err;
}

static int load_lease(void *arg, struct slice key, struct slice value)
{
	struct state *state = arg;
	struct lease *lease;
	struct wire_field f;
	int64_t id = 0, ttl = 0;
	int err;

	while ((err = wire_next(&value, &f)) > 0) {
		if (f.number == 1)
			id = (int64_t)f.value;
		else if (f.number == 2)
			ttl = (int64_t)f.value;
	}
	if (err < 0)
		return -EBADMSG;
	err = lessor_grant(&state->lessor, id, ttl, 0, &lease);
	return err > 0 ? -EBADMSG : err;
}

static int load_leased_key(void *arg, struct slice key, int64_t id)
{
	struct state *state = arg;
	struct lease *lease = lessor_find(&state->lessor, id);

	return lease ? lessor_attach(&state->lessor, lease, key) : 0;
}

static int load_alarm(void *arg, struct slice key, struct slice value)
{
	struct state *state = arg;

	if (key.len != 9 || state->n_alarms == ALARMS_MAX)
		return -EBADMSG;
	state->alarms[state->n_alarms++] = (struct alarm){ get_be64(key.data), key.data[8] };
	return 0;
}

static int load_member(void *arg, struct slice key, struct slice value)
{
	struct state *state = arg;

	return cluster_load(&state->cluster, value);
}

int state_open(struct state *state, struct mvcc *store, int64_t min_lease_ttl)
{
	struct slice version = mvcc_record_get(store, BUCKET_META, SLICE_LIT("cluster_version"));
	int err;

	*state = (struct state){ .store = store };
	if (version.len && version.len < sizeof(state->cluster.version))
		memcpy(state->cluster.version, version.data, version.len);
	lessor_init(&state->lessor, min_lease_ttl);
	if ((err = mvcc_record_each(store, BUCKET_LEASE, load_lease, state)) ||
	    (err = mvcc_each_leased(store, load_leased_key, state)) ||
	    (err = mvcc_record_each(store, BUCKET_ALARM, load_alarm, state)) ||
	    (err = mvcc_record_each(store, BUCKET_MEMBERS, load_member, state)))
		state_release(state);
	return err;
}

void state_release(struct state *state)
{
	lessor_release(&state->lessor);
	cluster_release(&state->cluster);
	*state = (struct state){ 0 };
}

/* --- single operations ---------------------------------------------------- */

struct mvcc_read state_read_of(const Etcdserverpb__RangeRequest *r)
{
	return (struct mvcc_read){
		.range = { pb_bytes(r->key), pb_bytes(r->range_end) },
		.limit = r->limit,
		.revision = r->revision,
		.sort_order = (enum mvcc_sort_order)r->sort_order,
		.sort_target = (enum mvcc_sort_target)r->sort_target,
		.keys_only = r->keys_only,
		.count_only = r->count_only,
		.min_mod_revision = r->min_mod_revision,
		.max_mod_revision = r->max_mod_revision,
		.min_create_revision = r->min_create_revision,
		.max_create_revision = r->max_create_revision,
	};
}

int op_range(struct op_args *args, const Etcdserverpb__RangeRequest *r, struct op_result *out,
	     const struct status **error)
{
	struct mvcc_read read = state_read_of(r);
	int err = mvcc_range(args->state->store, &read, args->fetch, &out->kvs);

	if (err < 0 || err == MVCC_COLD)
		return err;
	*error = state_status_of(err);
	out->op = REQUEST_RANGE;
	out->revision = args->revision + args->changed;
	return 0;
}

int op_prev(struct op_args *args, struct slice key, struct blob **out)
{
	struct mvcc_read read = { .range = { .key = key } };
	struct mvcc_result kvs;
	int err;

	mvcc_result_init(&kvs);
	err = mvcc_range(args->state->store, &read, args->fetch, &kvs);
	if (!err)
		*out = kvs.n ? blob_get(kvs.kvs[0]) : NULL;
	mvcc_result_release(&kvs);
	return err;
}

int op_check_put(struct op_args *args, const Etcdserverpb__PutRequest *r,
		 const struct status **error)
{
	struct blob *prev = NULL;
	int err = 0;

	if (r->lease && !lessor_find(&args->state->lessor, r->lease)) {
		*error = &status_lease_not_found;
		return 0;
	}
	if (put_wants_prev(r))
		err = op_prev(args, pb_bytes(r->key), &prev);
	if (!err && !prev && (r->ignore_value || r->ignore_lease))
		*error = &status_key_not_found;
	blob_put(prev);
	return err;
}

static int attach(struct lessor *lessor, struct slice key, int64_t id)
{
	struct lease *lease = id ? lessor_find(lessor, id) : NULL;

	if (lease)
		return lessor_attach(lessor, lease, key);
	lessor_detach(lessor, key);
	return 0;
}

int op_put(struct op_args *args, const Etcdserverpb__PutRequest *r, struct op_result *out)
{
	struct mvcc_put put = { pb_bytes(r->key), pb_bytes(r->value), r->lease };
	struct blob *prev = NULL;
	struct mvcc_kv kv = { 0 };
	int err = 0;

	if (put_wants_prev(r) && (err = op_prev(args, put.key, &prev)))
		return err;
	if (prev)
		err = mvcc_kv_decode(blob_slice(prev), &kv);
	if (r->ignore_value)
		put.value = kv.value;
	if (r->ignore_lease)
		put.lease = kv.lease;
	if (!err)
		err = mvcc_put(args->state->store, &put);
	if (!err)
		err = attach(&args->state->lessor, put.key, put.lease);
	if (err || !r->prev_kv)
		blob_put(prev);
	else
		out->prev = prev;
	args->changed = true;
	args->state->figures.put_bytes += put.key.len + put.value.len;
	out->op = REQUEST_PUT;
	out->revision = args->revision + 1;
	return err;
}

static void detach_all(struct lessor *lessor, const struct mvcc_result *gone)
{
	struct mvcc_kv kv;

	for (size_t i = 0; lessor->keys.count && i < gone->n; i++)
		if (!mvcc_kv_decode(blob_slice(gone->kvs[i]), &kv))
			lessor_detach(lessor, kv.key);
}

int op_delete(struct op_args *args, const Etcdserverpb__DeleteRangeRequest *r,
	      struct op_result *out)
{
	struct mvcc_read read = { .range = { pb_bytes(r->key), pb_bytes(r->range_end) } };
	struct mvcc_result gone;
	int err = 0;

	if (r->prev_kv)
		err = mvcc_range(args->state->store, &read, args->fetch, &out->kvs);
	if (err)
		return err;
	mvcc_result_init(&gone);
	err = mvcc_delete_range(args->state->store, read.range, &gone);
	if (!err) {
		detach_all(&args->state->lessor, &gone);
		args->changed |= gone.n > 0;
		out->op = REQUEST_DELETE_RANGE;
		out->prev_kv = r->prev_kv;
		out->deleted = (int64_t)gone.n;
		out->revision = args->revision + args->changed;
	}
	mvcc_result_release(&gone);
	return err;
}

/* --- requests through the log --------------------------------------------- */

static int apply_put(struct state *state, struct request *request)
{
	const Etcdserverpb__PutRequest *r = (const void *)request->message;
	struct op_args args = { state, &request->fetch, mvcc_revision(state->store), false };
	bool room = state_has_room(state, put_cost(r));
	int err;

	/* checked inside, so that what the check read is still in memory for the put */
	mvcc_begin(state->store);
	err = op_check_put(&args, r, &request->error);
	if (!err && !request->error)
		err = op_put(&args, r, &request->result);
	mvcc_end(state->store);
	/* as etcd: it is applied all the same, so that members do not part ways */
	if (!err && !request->error && !room)
		request->error = &status_no_space;
	return err;
}

static int apply_delete(struct state *state, struct request *request)
{
	const Etcdserverpb__DeleteRangeRequest *r = (const void *)request->message;
	struct op_args args = { state, &request->fetch, mvcc_revision(state->store), false };
	int err;

	mvcc_begin(state->store);
	err = op_delete(&args, r, &request->result);
	mvcc_end(state->store);
	return err;
}

static int apply_txn(struct state *state, struct request *request)
{
	int64_t cost = txn_cost((const void *)request->message);
	bool room = state_has_room(state, cost);
	int err = state_txn(state, request);

	if (!err && !request->error && !room)
		request->error = &status_no_space;
	return err;
}

static int apply_compact(struct state *state, struct request *request)
{
	const Etcdserverpb__CompactionRequest *r = (const void *)request->message;
	int err = mvcc_compact(state->store, r->revision);

	if (err < 0)
		return err;
	request->error = state_status_of(err);
	request->result.revision = mvcc_revision(state->store);
	return 0;
}

static struct slice id_key(uint8_t buf[8], uint64_t id)
{
	put_be64(buf, id);
	return slice_of(buf, 8);
}

static const struct status *lease_status(int outcome)
{
	switch (outcome) {
	case LESSOR_EXISTS:
		return &status_lease_exists;
	case LESSOR_TTL_TOO_LARGE:
		return &status_lease_ttl_too_large;
	default:
		return &status_lease_not_found;
	}
}

static int apply_lease_grant(struct state *state, struct request *request, uint64_t now)
{
	const Etcdserverpb__LeaseGrantRequest *r = (const void *)request->message;
	Leasepb__Lease record = LEASEPB__LEASE__INIT;
	bool room = state_has_room(state, 64);
	struct lease *lease = NULL;
	uint8_t key[8];
	int err = lessor_grant(&state->lessor, r->id, r->ttl, now, &lease);

	if (err < 0)
		return err;
	if (err) {
		request->error = lease_status(err);
		return 0;
	}
	state->figures.leases_granted++;
	histogram_add(&state->figures.lease_ttls, HISTOGRAM_TTL, (uint64_t)lease->ttl);
	record.id = request->lease_id = lease->id;
	record.ttl = request->lease_ttl = lease->ttl;
	request->result.revision = mvcc_revision(state->store);
	if (!room)
		request->error = &status_no_space;
	return put_message(state->store, BUCKET_LEASE, id_key(key, (uint64_t)lease->id),
			   &record.base);
}

static int apply_lease_revoke(struct state *state, struct request *request)
{
	const Etcdserverpb__LeaseRevokeRequest *r = (const void *)request->message;
	struct lease *lease = lessor_find(&state->lessor, r->id);
	struct slice *keys;
	uint8_t id[8];
	int err = 0;

	if (!lease) {
		request->error = &status_lease_not_found;
		return 0;
	}
	keys = calloc(lease->n_keys + 1, sizeof(*keys));
	if (!keys)
		return -ENOMEM;
	lessor_keys(lease, keys);
	mvcc_begin(state->store);
	for (size_t i = 0; !err && i < lease->n_keys; i++)
		err = mvcc_delete_range(state->store, (struct mvcc_key_range){ .key = keys[i] },
					NULL);
	request->result.revision = mvcc_end(state->store);
	free(keys);
	if (!err)
		err = mvcc_record_delete(state->store, BUCKET_LEASE, id_key(id, (uint64_t)r->id));
	lessor_remove(&state->lessor, lease);
	state->figures.leases_revoked++;
	return err;
}

/* --- what is beside the keys ---------------------------------------------- */

static int hash_record(void *arg, struct slice key, struct slice value)
{
	uint32_t *crc = arg;

	*crc = crc32c(crc32c(*crc, key), value);
	return 0;
}

uint32_t state_hash(const struct state *state)
{
	static const char *const buckets[] = { BUCKET_ALARM, BUCKET_LEASE, BUCKET_MEMBERS };
	uint32_t crc = 0;

	for (size_t i = 0; i < ARRAY_SIZE(buckets); i++) {
		crc = crc32c(crc, slice_str(buckets[i]));
		mvcc_record_each(state->store, buckets[i], hash_record, &crc);
	}
	return crc32c(crc, slice_str(state->cluster.version));
}

/* --- alarms --------------------------------------------------------------- */

bool state_alarm_set(const struct state *state, int type)
{
	for (size_t i = 0; i < state->n_alarms; i++)
		if (state->alarms[i].type == type)
			return true;
	return false;
}

static struct alarm *find_alarm(struct state *state, uint64_t member, int type)
{
	for (size_t i = 0; i < state->n_alarms; i++)
		if (state->alarms[i].member == member && state->alarms[i].type == type)
			return &state->alarms[i];
	return NULL;
}

static int apply_alarm(struct state *state, struct request *request)
{
	const Etcdserverpb__AlarmRequest *r = (const void *)request->message;
	struct alarm *alarm = find_alarm(state, r->memberid, (int)r->alarm);
	uint8_t key[9];

	request->result.revision = mvcc_revision(state->store);
	put_be64(key, r->memberid);
	key[8] = (uint8_t)r->alarm;
	if (r->action == ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__ACTIVATE) {
		if (r->alarm != ETCDSERVERPB__ALARM_TYPE__NOSPACE &&
		    r->alarm != ETCDSERVERPB__ALARM_TYPE__CORRUPT)
			return 0;
		if (!alarm && state->n_alarms == ALARMS_MAX)
			return 0;
		request->alarm_member = r->memberid;
		if (alarm)
			return 0;
		state->alarms[state->n_alarms++] = (struct alarm){ r->memberid, (int)r->alarm };
		return mvcc_record_put(state->store, BUCKET_ALARM, slice_of(key, 9),
				       SLICE_LIT(""));
	}
	if (r->action == ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE && alarm) {
		request->alarm_member = r->memberid;
		*alarm = state->alarms[--state->n_alarms];
		return mvcc_record_delete(state->store, BUCKET_ALARM, slice_of(key, 9));
	}
	return 0;
}

bool state_has_room(const struct state *state, int64_t cost)
{
	struct mvcc_stats stats;

	if (!cost || state->quota < 0)
		return true;
	mvcc_stats(state->store, &stats);
	return state->db_size + stats.pending_bytes + cost < state->quota;
}

/* What an alarm forbids; the one place that asks. */
static const struct status *forbidden(const struct state *state, const struct request *request)
{
	enum request_op op = request->op;

	if (state_alarm_set(state, ETCDSERVERPB__ALARM_TYPE__CORRUPT) && op != REQUEST_ALARM &&
	    op != REQUEST_MEMBER_ATTR && op != REQUEST_CLUSTER_VERSION)
		return &status_corrupt;
	if (!state_alarm_set(state, ETCDSERVERPB__ALARM_TYPE__NOSPACE))
		return NULL;
	if (op == REQUEST_PUT || op == REQUEST_LEASE_GRANT ||
	    (op == REQUEST_TXN && txn_cost((const void *)request->message) > 0))
		return &status_no_space;
	return NULL;
}

static int apply_one(struct state *state, struct request *request, uint64_t now)
{
	switch (request->op) {
	case REQUEST_PUT:
		return apply_put(state, request);
	case REQUEST_DELETE_RANGE:
		return apply_delete(state, request);
	case REQUEST_TXN:
		return apply_txn(state, request);
	case REQUEST_COMPACT:
		return apply_compact(state, request);
	case REQUEST_LEASE_GRANT:
		return apply_lease_grant(state, request, now);
	case REQUEST_LEASE_REVOKE:
		return apply_lease_revoke(state, request);
	case REQUEST_ALARM:
		return apply_alarm(state, request);
	case REQUEST_MEMBER_ATTR:
		return cluster_apply_attributes(&state->cluster, state->store,
						(const void *)request->message);
	case REQUEST_CLUSTER_VERSION:
		return cluster_apply_version(&state->cluster, state->store,
					     (const void *)request->message);
	default:
		BUG();
	}
	return 0;
}

int state_apply(struct state *state, struct request *request, uint64_t now)
{
	int err;

	if (state->n_alarms && (request->error = forbidden(state, request)))
		return 0;
	err = apply_one(state, request, now);
	if (!err && (!request->error || request->error == &status_no_space))
		figures_count_result(&state->figures, &request->result);
	return err;
}

/* --- reads ---------------------------------------------------------------- */

/* A lease that has expired is being revoked: whether it is gone is known only when
 * the revoke is applied. -EAGAIN until then. */
static int read_lease_renew(struct state *state, struct request *request, uint64_t now)
{
	struct lease *lease = lessor_find(&state->lessor, request->lease_id);

	/* how long a lease lives only the leader knows */
	if (!state->lessor.primary)
		request->error = &status_no_leader;
	if (request->error)
		return 0;
	request->lease_ttl = 0;
	if (!lease)
		return 0;
	if (lease->revoking || lease->expiry <= now)
		return -EAGAIN;
	lessor_renew(&state->lessor, lease, now);
	state->figures.leases_renewed++;
	request->lease_ttl = lease->ttl;
	return 0;
}

static int read_lease_ttl(struct state *state, struct request *request, uint64_t now)
{
	const Etcdserverpb__LeaseTimeToLiveRequest *r = (const void *)request->message;
	struct lease *lease = lessor_find(&state->lessor, r->id);

	if (!state->lessor.primary)
		request->error = &status_no_leader;
	if (request->error)
		return 0;
	request->lease_ttl = -1;
	if (!lease)
		return 0;
	request->lease_ttl = lease_remaining(lease, now);
	request->lease_granted_ttl = lease->ttl;
	if (!r->keys || !lease->n_keys)
		return 0;
	request->lease_keys = pb_arena_alloc(&request->arena,
					     lease->n_keys * sizeof(*request->lease_keys));
	if (!request->lease_keys)
		return -ENOMEM;
	request->n_lease_keys = lease->n_keys;
	lessor_keys(lease, request->lease_keys);
	return 0;
}

static int read_range(struct state *state, struct request *request)
{
	struct op_args args = { state, &request->fetch, mvcc_revision(state->store), false };

	return op_range(&args, (const void *)request->message, &request->result,
			&request->error);
}

static int read_one(struct state *state, struct request *request, uint64_t now)
{
	switch (request->op) {
	case REQUEST_RANGE:
		return read_range(state, request);
	case REQUEST_TXN_READ:
		return state_txn(state, request);
	case REQUEST_LEASE_RENEW:
		return read_lease_renew(state, request, now);
	case REQUEST_LEASE_TTL:
		return read_lease_ttl(state, request, now);
	case REQUEST_BARRIER:
		return 0;
	default:
		BUG();
	}
	return 0;
}

struct slice state_read_key(const struct request *request)
{
	const Etcdserverpb__RangeRequest *range = (const void *)request->message;

	if (request->op != REQUEST_RANGE)
		return SLICE_LIT("");
	return slice_of(range->key.data, range->key.len);
}

/* No alarm forbids a read, as in etcd, where only what goes through the log asks. */
int state_read(struct state *state, struct request *request, uint64_t now)
{
	int err = read_one(state, request, now);

	if (!err && !request->error)
		figures_count_result(&state->figures, &request->result);
	return err;
}
