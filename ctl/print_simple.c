// SPDX-License-Identifier: Apache-2.0
/* --write-out=simple: what a person reads and a shell script takes apart. */
#include "ctl/print.h"

#include <inttypes.h>

static void put_bytes(const struct ctl *ctl, ProtobufCBinaryData bytes)
{
	if (ctl->line.opt.hex)
		for (size_t i = 0; i < bytes.len; i++)
			fprintf(ctl->out, "\\x%02x", bytes.data[i]);
	else if (bytes.len)
		fwrite(bytes.data, 1, bytes.len, ctl->out);
	fputc('\n', ctl->out);
}

static void put_kv(const struct ctl *ctl, const Mvccpb__KeyValue *kv)
{
	if (!ctl->value_only)
		put_bytes(ctl, kv->key);
	put_bytes(ctl, kv->value);
}

static void simple_put(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__PutResponse *response = answer;

	fputs("OK\n", ctl->out);
	if (response->prev_kv)
		put_kv(ctl, response->prev_kv);
}

static void simple_get(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__RangeResponse *response = answer;

	for (size_t i = 0; i < response->n_kvs; i++)
		put_kv(ctl, response->kvs[i]);
}

static void simple_del(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__DeleteRangeResponse *response = answer;

	fprintf(ctl->out, "%" PRId64 "\n", response->deleted);
	for (size_t i = 0; i < response->n_prev_kvs; i++)
		put_kv(ctl, response->prev_kvs[i]);
}

static void simple_txn(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__TxnResponse *response = answer;

	fputs(response->succeeded ? "SUCCESS\n" : "FAILURE\n", ctl->out);
	for (size_t i = 0; i < response->n_responses; i++) {
		const Etcdserverpb__ResponseOp *op = response->responses[i];

		fputc('\n', ctl->out);
		switch (op->response_case) {
		case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_RANGE:
			simple_get(ctl, op->response_range);
			break;
		case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_PUT:
			simple_put(ctl, op->response_put);
			break;
		case ETCDSERVERPB__RESPONSE_OP__RESPONSE_RESPONSE_DELETE_RANGE:
			simple_del(ctl, op->response_delete_range);
			break;
		default:
			fputs("unexpected response\n", ctl->out);
			break;
		}
	}
}

static void simple_watch(struct ctl *ctl, const void *answer)
{
	static const Mvccpb__KeyValue none = MVCCPB__KEY_VALUE__INIT;
	const Etcdserverpb__WatchResponse *response = answer;

	for (size_t i = 0; i < response->n_events; i++) {
		const Mvccpb__Event *event = response->events[i];

		fputs(event->type == MVCCPB__EVENT__EVENT_TYPE__DELETE ? "DELETE\n" : "PUT\n",
		      ctl->out);
		if (event->prev_kv)
			put_kv(ctl, event->prev_kv);
		put_kv(ctl, event->kv ?: &none);
	}
}

static void simple_grant(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseGrantResponse *response = answer;

	fprintf(ctl->out, "lease %016" PRIx64 " granted with TTL(%" PRId64 "s)\n",
		(uint64_t)response->id, response->ttl);
}

static void simple_revoke(struct ctl *ctl, const void *answer)
{
	const struct show_revoke *revoke = answer;

	fprintf(ctl->out, "lease %016" PRIx64 " revoked\n", (uint64_t)revoke->lease);
}

static void simple_keep_alive(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseKeepAliveResponse *response = answer;

	fprintf(ctl->out, "lease %016" PRIx64 " keepalived with TTL(%" PRId64 ")\n",
		(uint64_t)response->id, response->ttl);
}

static void simple_time_to_live(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseTimeToLiveResponse *response = answer;

	fprintf(ctl->out, "lease %016" PRIx64, (uint64_t)response->id);
	if (!response->grantedttl && response->ttl == -1) {
		fputs(" already expired\n", ctl->out);
		return;
	}
	fprintf(ctl->out, " granted with TTL(%" PRId64 "s), remaining(%" PRId64 "s)",
		response->grantedttl, response->ttl);
	if (ctl->line.opt.keys) {
		fputs(", attached keys([", ctl->out);
		for (size_t i = 0; i < response->n_keys; i++) {
			if (i)
				fputc(' ', ctl->out);
			if (response->keys[i].len)
				fwrite(response->keys[i].data, 1, response->keys[i].len,
				       ctl->out);
		}
		fputs("])", ctl->out);
	}
	fputc('\n', ctl->out);
}

static void simple_leases(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__LeaseLeasesResponse *response = answer;

	fprintf(ctl->out, "found %zu leases\n", response->n_leases);
	for (size_t i = 0; i < response->n_leases; i++)
		fprintf(ctl->out, "%016" PRIx64 "\n", (uint64_t)response->leases[i]->id);
}

static void put_rows(struct ctl *ctl, struct print_rows *rows)
{
	for (size_t i = 0; !rows->failed && i < rows->n; i++)
		for (size_t j = 0; j < rows->columns; j++)
			fprintf(ctl->out, "%s%s", rows->cells[i * rows->columns + j],
				j + 1 < rows->columns ? ", " : "\n");
	if (rows->failed)
		fputs("kvctl: out of memory\n", ctl->err);
	print_rows_release(rows);
}

static void simple_members(struct ctl *ctl, const void *answer)
{
	struct print_rows rows;

	print_rows_members(&rows, answer);
	put_rows(ctl, &rows);
}

static void simple_status(struct ctl *ctl, const void *answer)
{
	struct print_rows rows;

	print_rows_statuses(&rows, answer);
	put_rows(ctl, &rows);
}

static void simple_health(struct ctl *ctl, const void *answer)
{
	const struct show_healths *healths = answer;

	for (size_t i = 0; i < healths->n; i++) {
		const struct show_health *health = &healths->at[i];

		if (*health->error) {
			fprintf(ctl->err, "%s is unhealthy: failed to commit proposal: %s\n",
				health->endpoint, health->error);
			continue;
		}
		fprintf(ctl->out, "%s is healthy: successfully committed proposal: took = ",
			health->endpoint);
		text_duration(ctl->out, health->took);
		fputc('\n', ctl->out);
	}
}

static void simple_hashes(struct ctl *ctl, const void *answer)
{
	struct print_rows rows;

	print_rows_hashes(&rows, answer);
	put_rows(ctl, &rows);
}

/* The text form of a protobuf, without the fields that are zero. */
static void simple_alarms(struct ctl *ctl, const void *answer)
{
	const Etcdserverpb__AlarmResponse *response = answer;

	for (size_t i = 0; i < response->n_alarms; i++) {
		const Etcdserverpb__AlarmMember *member = response->alarms[i];

		if (member->memberid)
			fprintf(ctl->out, "memberID:%" PRIu64, member->memberid);
		if (member->alarm)
			fprintf(ctl->out, "%salarm:%s", member->memberid ? " " : "",
				print_alarm_name(member->alarm));
		fputc('\n', ctl->out);
	}
}

const struct printer printer_simple = {
	.name = "simple",
	.show = {
		[SHOW_PUT] = simple_put,
		[SHOW_GET] = simple_get,
		[SHOW_DEL] = simple_del,
		[SHOW_TXN] = simple_txn,
		[SHOW_WATCH] = simple_watch,
		[SHOW_GRANT] = simple_grant,
		[SHOW_REVOKE] = simple_revoke,
		[SHOW_KEEP_ALIVE] = simple_keep_alive,
		[SHOW_TIME_TO_LIVE] = simple_time_to_live,
		[SHOW_LEASES] = simple_leases,
		[SHOW_MEMBERS] = simple_members,
		[SHOW_STATUS] = simple_status,
		[SHOW_HEALTH] = simple_health,
		[SHOW_HASHES] = simple_hashes,
		[SHOW_ALARMS] = simple_alarms,
	},
};
