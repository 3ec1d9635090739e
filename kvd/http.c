// SPDX-License-Identifier: Apache-2.0

/* What both ports answer over HTTP/1.1: health, version, metrics. */

#include <jansson.h>
#include <stdlib.h>

#include "kvd/server.h"

static bool is_path(const struct http_request *r, const char *path)
{
	return slice_eq(r->path, slice_str(path));
}

static void answer_json(struct http_response *out, int status, json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);

	json_decref(value);
	out->status = status;
	out->content_type = "application/json";
	chain_append(&out->body, slice_str(text ? text : "{}"));
	free(text);
}

static void answer_text(struct http_response *out, int status, const char *text)
{
	out->status = status;
	out->content_type = "text/plain; charset=utf-8";
	chain_append(&out->body, slice_str(text));
}

static bool asks(const struct http_request *r, const char *want)
{
	return r->query.len && memmem(r->query.data, r->query.len, want, strlen(want));
}

static bool excluded(const struct http_request *r, const char *alarm)
{
	char want[64];

	snprintf(want, sizeof(want), "exclude=%s", alarm);
	return asks(r, want);
}

static const char *not_serving(const struct server *s, bool serializable)
{
	struct core_status status;

	core_status(s->core, &status);
	if (!serializable && !status.raft.leader)
		return "RAFT NO LEADER";
	return s->ready && !s->stopping ? "" : "NOT READY";
}

/* Why this member is not healthy; "": it is. */
static const char *unhealthy(const struct server *s, const struct http_request *r)
{
	const struct state *state = core_state(s->core);

	if (state_alarm_set(state, ETCDSERVERPB__ALARM_TYPE__NOSPACE) && !excluded(r, "NOSPACE"))
		return "ALARM NOSPACE";
	if (state_alarm_set(state, ETCDSERVERPB__ALARM_TYPE__CORRUPT) && !excluded(r, "CORRUPT"))
		return "ALARM CORRUPT";
	return not_serving(s, asks(r, "serializable=true"));
}

/* Why it should get no requests: a member that is full still reads and deletes. */
static const char *unready(const struct server *s)
{
	if (state_alarm_set(core_state(s->core), ETCDSERVERPB__ALARM_TYPE__CORRUPT))
		return "ALARM CORRUPT";
	return not_serving(s, false);
}

static void health(const struct server *s, const struct http_request *r, struct http_response *out)
{
	const char *reason = unhealthy(s, r);

	answer_json(out, *reason ? 503 : 200,
		    json_pack("{s:s, s:s}", "health", *reason ? "false" : "true",
			      "reason", reason));
}

static void ready(const struct server *s, struct http_response *out)
{
	const char *reason = unready(s);
	char text[128];

	if (!*reason) {
		answer_text(out, 200, "ok\n");
		return;
	}
	snprintf(text, sizeof(text), "[-]readyz failed: %s\n", reason);
	answer_text(out, 503, text);
}

static void version(const struct server *s, struct http_response *out)
{
	const char *cluster = core_state(s->core)->cluster.version;

	answer_json(out, 200, json_pack("{s:s, s:s, s:s}", "etcdserver", "3.7.1", "etcdcluster",
					*cluster ? cluster : "not_decided", "storage", "3.7.0"));
}

void http_clients(void *user, const struct http_request *r, struct http_response *out)
{
	const struct server *s = user;

	if (is_path(r, "/health"))
		health(s, r, out);
	else if (is_path(r, "/version"))
		version(s, out);
	else if (is_path(r, "/livez"))
		answer_text(out, 200, "ok\n");
	else if (is_path(r, "/readyz"))
		ready(s, out);
	else if (is_path(r, "/metrics")) {
		out->status = 200;
		out->content_type = "text/plain; version=0.0.4; charset=utf-8";
		metrics_write(s, &out->body);
	}
}

void http_peers(void *user, const struct http_request *r, struct http_response *out)
{
	const struct server *s = user;

	if (is_path(r, "/version"))
		version(s, out);
}
