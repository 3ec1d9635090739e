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

static void health(const struct server *s, const struct http_request *r, struct http_response *out)
{
	struct figures *f = &core_state(s->core)->figures;
	const char *reason = unhealthy(s, r);

	if (*reason)
		f->health_bad++;
	else
		f->health_good++;

	answer_json(out, *reason ? 503 : 200,
		    json_pack("{s:s, s:s}", "health", *reason ? "false" : "true",
			      "reason", reason));
}

/* --- probes: /livez and /readyz, as a whole or by the name of a check ------- */

static const char *check_corruption(const struct server *s)
{
	return state_alarm_set(core_state(s->core), ETCDSERVERPB__ALARM_TYPE__CORRUPT) ?
		"alarm activated: CORRUPT" : "";
}

static const char *check_serializable(const struct server *s)
{
	return not_serving(s, true);
}

static const char *check_linearizable(const struct server *s)
{
	return not_serving(s, false);
}

static const char *check_non_learner(const struct server *s)
{
	const struct member *self = cluster_find(&core_state(s->core)->cluster,
						 core_config(s->core)->member_id);

	return self && self->learner ? "not supported for learner" : "";
}

static const struct check {
	const char *name;
	const char *(*failure)(const struct server *s);	/* "": none */
	bool live;		/* /livez asks it too */
} checks[] = {
	{ "data_corruption", check_corruption, false },
	{ "serializable_read", check_serializable, true },
	{ "linearizable_read", check_linearizable, false },
	{ "non_learner", check_non_learner, false },
};

static bool check_wanted(const struct check *check, const struct http_request *r, bool live,
			 struct slice name)
{
	if (live && !check->live)
		return false;
	if (name.len)
		return slice_eq(name, slice_str(check->name));
	return !excluded(r, check->name);
}

/* What every check says, where one failed or all is asked for; then "ok". */
static void probe(const struct server *s, const struct http_request *r, bool live,
		  struct slice name, struct http_response *out)
{
	char lines[512] = "";
	bool failed = false;
	size_t asked = 0, len = 0;

	for (size_t i = 0; i < ARRAY_SIZE(checks); i++) {
		const char *failure;

		if (!check_wanted(&checks[i], r, live, name))
			continue;
		failure = checks[i].failure(s);
		failed |= *failure != 0;
		asked++;
		len += (size_t)snprintf(lines + len, sizeof(lines) - len,
					*failure ? "[-]%s failed: %s\n" : "[+]%s ok\n",
					checks[i].name, failure);
		BUG_ON(len >= sizeof(lines));
	}
	if (name.len && !asked)
		return;
	answer_text(out, failed ? 503 : 200, failed || asks(r, "verbose") ? lines : "");
	chain_append(&out->body, failed ? SLICE_LIT("\n") : SLICE_LIT("ok\n"));
}

/* Answers where the path is /livez or /readyz or one of their checks. */
static void probed(const struct server *s, const struct http_request *r,
		   struct http_response *out)
{
	static const struct slice roots[] = { SLICE_INIT("/livez"), SLICE_INIT("/readyz") };
	struct slice rest;

	for (size_t i = 0; i < ARRAY_SIZE(roots); i++) {
		if (!slice_has_prefix(r->path, roots[i]))
			continue;
		rest = slice_of(r->path.data + roots[i].len, r->path.len - roots[i].len);
		if (rest.len && (rest.data[0] != '/' || rest.len == 1))
			continue;
		if (rest.len)
			rest = slice_of(rest.data + 1, rest.len - 1);
		probe(s, r, i == 0, rest, out);
		return;
	}
}

/* --- the rest --------------------------------------------------------------- */

static void version(const struct server *s, struct http_response *out)
{
	const char *cluster = core_state(s->core)->cluster.version;

	answer_json(out, 200, json_pack("{s:s, s:s, s:s}", "etcdserver", API_VERSION, "etcdcluster",
					*cluster ? cluster : "not_decided", "storage", "3.7.0"));
}

/* Everything here is read only. */
static void refuse_method(const struct http_request *r, struct http_response *out)
{
	if (!out->status || !strcmp(r->method, "GET") || !strcmp(r->method, "HEAD"))
		return;
	chain_release(&out->body);
	chain_init(&out->body);
	answer_text(out, 405, "Method Not Allowed\n");
}

void http_clients(void *user, const struct http_request *r, struct http_response *out)
{
	const struct server *s = user;

	if (is_path(r, "/health")) {
		health(s, r, out);
	} else if (is_path(r, "/version")) {
		version(s, out);
	} else if (is_path(r, "/metrics")) {
		out->status = 200;
		out->content_type = "text/plain; version=0.0.4; charset=utf-8";
		metrics_write(s, &out->body);
	} else {
		probed(s, r, out);
	}
	refuse_method(r, out);
}

void http_peers(void *user, const struct http_request *r, struct http_response *out)
{
	if (is_path(r, "/version"))
		version(user, out);
	refuse_method(r, out);
}
