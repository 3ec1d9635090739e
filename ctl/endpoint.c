// SPDX-License-Identifier: Apache-2.0
/*
 * endpoint status, health and hashkv, and defrag. Each endpoint has a client of its own,
 * so that no other answers in its place; all are asked at once, but for defrag, which
 * stops those it asks.
 */
#include "ctl/ctl.h"
#include "ctl/print.h"

#include <errno.h>
#include <stdlib.h>

struct probe {
	struct ctl *ctl;
	struct client *client;
	uint64_t started;		/* uv_hrtime() */
	bool done;
	struct show_status status;
	struct show_health health;
	struct show_hash hash;
	char error[256];		/* of hashkv and defrag */
};

struct probes {
	char **endpoints;		/* one for each of at */
	struct probe *at;
	size_t n;
};

/* --- which endpoints ------------------------------------------------------------ */

static int take_client_urls(struct ctl *ctl, const void *answer, void *arg)
{
	const Etcdserverpb__MemberListResponse *response = answer;
	struct probes *probes = arg;
	size_t room = 0;

	for (size_t i = 0; i < response->n_members; i++)
		room += response->members[i]->n_clienturls;
	probes->endpoints = calloc(room + 1, sizeof(*probes->endpoints));
	if (!probes->endpoints)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	for (size_t i = 0; i < response->n_members; i++) {
		const Etcdserverpb__Member *member = response->members[i];

		for (size_t j = 0; j < member->n_clienturls; j++) {
			char *url = strdup(member->clienturls[j]);

			if (!url)
				return ctl_fail(ctl, CTL_ERROR, "out of memory");
			probes->endpoints[probes->n++] = url;
		}
	}
	return 0;
}

static int find_endpoints(struct ctl *ctl, struct probes *probes)
{
	Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_cluster_member_list, .request = &request.base,
		.answer = take_client_urls, .arg = probes,
		.before = "failed to fetch endpoints from etcd cluster member list: ",
	};
	ssize_t n;

	request.linearizable = true;
	if (ctl->line.opt.cluster)
		return ctl_call(ctl, &call);
	n = ctl_endpoints(ctl, &probes->endpoints);
	if (n < 0)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	probes->n = (size_t)n;
	return 0;
}

static int make_probes(struct ctl *ctl, struct probes *probes)
{
	int status = find_endpoints(ctl, probes);

	if (status)
		return status;
	probes->at = calloc(probes->n + 1, sizeof(*probes->at));
	if (!probes->at)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	for (size_t i = 0; i < probes->n; i++) {
		struct probe *probe = &probes->at[i];

		probe->ctl = ctl;
		probe->started = uv_hrtime();
		probe->status.endpoint = probe->health.endpoint = probe->hash.endpoint =
			probes->endpoints[i];
		status = ctl_client(ctl, &probes->endpoints[i], 1, &probe->client);
		if (status)
			return status;
	}
	return 0;
}

static void client_is_closed(void *arg)
{
	((struct probe *)arg)->client = NULL;
}

static void release_probes(struct ctl *ctl, struct probes *probes)
{
	for (size_t i = 0; probes->at && i < probes->n; i++) {
		struct probe *probe = &probes->at[i];

		if (probe->client)
			client_close(probe->client, client_is_closed, probe);
		while (probe->client)
			uv_run(ctl->loop, UV_RUN_ONCE);
		if (probe->status.response)
			protobuf_c_message_free_unpacked(
				(ProtobufCMessage *)probe->status.response, NULL);
		if (probe->hash.response)
			protobuf_c_message_free_unpacked(
				(ProtobufCMessage *)probe->hash.response, NULL);
	}
	free(probes->at);
	ctl_endpoints_free(probes->endpoints, probes->n);
}

/* Runs until all are done. */
static void wait_for_probes(struct ctl *ctl, const struct probes *probes)
{
	for (size_t i = 0; i < probes->n; i++)
		while (!probes->at[i].done)
			uv_run(ctl->loop, UV_RUN_ONCE);
}

static void probe_failed(struct probe *probe, const struct client_result *result)
{
	ctl_error_text(result, probe->health.error, sizeof(probe->health.error));
	probe->done = true;
}

/* --- status --------------------------------------------------------------------- */

/* A copy of @message that outlives the call. */
static void *copy_message(const ProtobufCMessage *message)
{
	struct blob *blob = pb_pack_blob(message);
	void *copy;

	if (!blob)
		return NULL;
	copy = protobuf_c_message_unpack(message->descriptor, NULL, blob->len, blob->data);
	blob_put(blob);
	return copy;
}

static void status_done(void *user, const struct client_result *result)
{
	struct probe *probe = user;

	if (result->code != GRPC_OK) {
		probe_failed(probe, result);
		return;
	}
	probe->status.response = copy_message(result->response);
	if (!probe->status.response)
		snprintf(probe->health.error, sizeof(probe->health.error), "out of memory");
	probe->done = true;
}

/* Shows those that answered, after it has told of those that did not. */
static int show_status(struct ctl *ctl, const struct probes *probes)
{
	struct show_statuses statuses = { .at = calloc(probes->n + 1, sizeof(*statuses.at)) };
	bool failed = false;
	int status;

	if (!statuses.at)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	for (size_t i = 0; i < probes->n; i++) {
		const struct probe *probe = &probes->at[i];

		if (probe->status.response) {
			statuses.at[statuses.n++] = probe->status;
			continue;
		}
		failed = true;
		fprintf(ctl->err, "Failed to get the status of endpoint %s (%s)\n",
			probe->status.endpoint, probe->health.error);
	}
	status = ctl_show(ctl, SHOW_STATUS, &statuses);
	free(statuses.at);
	return status ? status : failed ? CTL_ERROR : CTL_OK;
}

int ctl_run_endpoint_status(struct ctl *ctl)
{
	Etcdserverpb__StatusRequest request = ETCDSERVERPB__STATUS_REQUEST__INIT;
	struct probes probes = { 0 };
	int status = make_probes(ctl, &probes);

	for (size_t i = 0; !status && i < probes.n; i++)
		if (client_call(probes.at[i].client, &client_maintenance_status, &request.base,
				ctl_timeout_ms(ctl), status_done, &probes.at[i], NULL))
			status = ctl_fail(ctl, CTL_ERROR, "out of memory");
	if (!status) {
		wait_for_probes(ctl, &probes);
		status = show_status(ctl, &probes);
	}
	release_probes(ctl, &probes);
	return status;
}

/* --- health --------------------------------------------------------------------- */

static void put_alarms(struct show_health *health, const Etcdserverpb__AlarmResponse *response)
{
	size_t n = 0;

	if (!response->n_alarms)
		return;
	health->healthy = false;
	n += (size_t)snprintf(health->error, sizeof(health->error), "Active Alarm(s): ");
	for (size_t i = 0; i < response->n_alarms && n < sizeof(health->error); i++) {
		Etcdserverpb__AlarmType alarm = response->alarms[i]->alarm;

		n += (size_t)snprintf(health->error + n, sizeof(health->error) - n, "%s ",
				      alarm == ETCDSERVERPB__ALARM_TYPE__NOSPACE ? "NOSPACE" :
				      alarm == ETCDSERVERPB__ALARM_TYPE__CORRUPT ? "CORRUPT" :
				      "UNKNOWN");
	}
}

static void alarm_done(void *user, const struct client_result *result)
{
	struct probe *probe = user;

	if (result->code == GRPC_OK) {
		put_alarms(&probe->health, (const Etcdserverpb__AlarmResponse *)result->response);
	} else {
		probe->health.healthy = false;
		snprintf(probe->health.error, sizeof(probe->health.error),
			 "Unable to fetch the alarm list");
	}
	probe->done = true;
}

/* Permission denied is an answer too: it went through the quorum. */
static void get_done(void *user, const struct client_result *result)
{
	Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
	struct probe *probe = user;

	probe->health.took = (int64_t)(uv_hrtime() - probe->started);
	if (result->code != GRPC_OK && result->code != GRPC_PERMISSION_DENIED) {
		probe_failed(probe, result);
		return;
	}
	probe->health.healthy = true;
	if (client_call(probe->client, &client_maintenance_alarm, &request.base,
			ctl_timeout_ms(probe->ctl), alarm_done, probe, NULL)) {
		probe->health.healthy = false;
		snprintf(probe->health.error, sizeof(probe->health.error), "out of memory");
		probe->done = true;
	}
}

static int show_health(struct ctl *ctl, const struct probes *probes)
{
	struct show_healths healths = {
		.at = calloc(probes->n + 1, sizeof(*healths.at)), .n = probes->n,
	};
	bool failed = false;
	int status;

	if (!healths.at)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	for (size_t i = 0; i < probes->n; i++) {
		healths.at[i] = probes->at[i].health;
		failed |= *healths.at[i].error;
	}
	status = ctl_show(ctl, SHOW_HEALTH, &healths);
	free(healths.at);
	if (!status && failed)
		status = ctl_fail(ctl, CTL_ERROR, "unhealthy cluster");
	return status;
}

int ctl_run_endpoint_health(struct ctl *ctl)
{
	Etcdserverpb__RangeRequest request = ETCDSERVERPB__RANGE_REQUEST__INIT;
	struct probes probes = { 0 };
	int status = make_probes(ctl, &probes);

	request.key = ctl_bytes(SLICE_LIT("health"));
	for (size_t i = 0; !status && i < probes.n; i++)
		if (client_call(probes.at[i].client, &client_kv_range, &request.base,
				ctl_timeout_ms(ctl), get_done, &probes.at[i], NULL))
			status = ctl_fail(ctl, CTL_ERROR, "out of memory");
	if (!status) {
		wait_for_probes(ctl, &probes);
		status = show_health(ctl, &probes);
	}
	release_probes(ctl, &probes);
	return status;
}

/* --- hashkv --------------------------------------------------------------------- */

static void hash_done(void *user, const struct client_result *result)
{
	struct probe *probe = user;

	probe->done = true;
	if (result->code != GRPC_OK) {
		ctl_error_text(result, probe->error, sizeof(probe->error));
		return;
	}
	probe->hash.response = copy_message(result->response);
	if (!probe->hash.response)
		snprintf(probe->error, sizeof(probe->error), "out of memory");
}

/* Shows those that answered, after it has told of those that did not; then fails as the
 * last of these did. */
static int show_hashes(struct ctl *ctl, const struct probes *probes)
{
	struct show_hashes hashes = { .at = calloc(probes->n + 1, sizeof(*hashes.at)) };
	const char *error = NULL;
	int status;

	if (!hashes.at)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	for (size_t i = 0; i < probes->n; i++) {
		const struct probe *probe = &probes->at[i];

		if (probe->hash.response) {
			hashes.at[hashes.n++] = probe->hash;
			continue;
		}
		error = probe->error;
		fprintf(ctl->err, "Failed to get the hash of endpoint %s (%s)\n",
			probe->hash.endpoint, error);
	}
	status = ctl_show(ctl, SHOW_HASHES, &hashes);
	free(hashes.at);
	return status || !error ? status : ctl_fail(ctl, CTL_ERROR, "%s", error);
}

int ctl_run_endpoint_hashkv(struct ctl *ctl)
{
	Etcdserverpb__HashKVRequest request = ETCDSERVERPB__HASH_KVREQUEST__INIT;
	struct probes probes = { 0 };
	int status = make_probes(ctl, &probes);

	request.revision = ctl->line.opt.rev;
	for (size_t i = 0; !status && i < probes.n; i++)
		if (client_call(probes.at[i].client, &client_maintenance_hash_kv, &request.base,
				ctl_timeout_ms(ctl), hash_done, &probes.at[i], NULL))
			status = ctl_fail(ctl, CTL_ERROR, "out of memory");
	if (!status) {
		wait_for_probes(ctl, &probes);
		status = show_hashes(ctl, &probes);
	}
	release_probes(ctl, &probes);
	return status;
}

/* --- defrag --------------------------------------------------------------------- */

static void defrag_done(void *user, const struct client_result *result)
{
	struct probe *probe = user;

	probe->done = true;
	if (result->code != GRPC_OK)
		ctl_error_text(result, probe->error, sizeof(probe->error));
}

static int defrag(struct ctl *ctl, struct probe *probe)
{
	Etcdserverpb__DefragmentRequest request = ETCDSERVERPB__DEFRAGMENT_REQUEST__INIT;
	uint64_t began = uv_hrtime();
	FILE *out;

	if (client_call(probe->client, &client_maintenance_defragment, &request.base,
			ctl_timeout_ms(ctl), defrag_done, probe, NULL))
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	while (!probe->done)
		uv_run(ctl->loop, UV_RUN_ONCE);
	out = *probe->error ? ctl->err : ctl->out;
	fprintf(out, "%s etcd member[%s]. took ",
		*probe->error ? "Failed to defragment" : "Finished defragmenting",
		probe->hash.endpoint);
	text_duration(out, (int64_t)(uv_hrtime() - began));
	if (*probe->error)
		fprintf(out, ". (%s)", probe->error);
	fputc('\n', out);
	return ctl_flush(ctl);
}

/* One after the other. */
int ctl_run_defrag(struct ctl *ctl)
{
	struct probes probes = { 0 };
	int status = make_probes(ctl, &probes);
	bool failed = false;

	for (size_t i = 0; !status && i < probes.n; i++) {
		status = defrag(ctl, &probes.at[i]);
		failed |= *probes.at[i].error;
	}
	release_probes(ctl, &probes);
	return status ? status : failed ? CTL_ERROR : CTL_OK;
}
