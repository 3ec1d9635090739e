// SPDX-License-Identifier: Apache-2.0
/* lease grant, revoke, timetolive, list and keep-alive. */
#include "ctl/ctl.h"
#include "ctl/print.h"

#include <inttypes.h>

/* The one argument of most lease commands. */
static int parse_lease(struct ctl *ctl, int64_t *out)
{
	char why[256];

	if (ctl_parse_int(ctl_arg(&ctl->line.args, 0), 16, out, why, sizeof(why)))
		return ctl_fail(ctl, CTL_BAD_ARGS, "bad lease ID arg (%s), expecting ID in Hex",
				why);
	return 0;
}

static int show_grant(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_GRANT, response);
}

int ctl_run_lease_grant(struct ctl *ctl)
{
	Etcdserverpb__LeaseGrantRequest request = ETCDSERVERPB__LEASE_GRANT_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_lease_grant, .request = &request.base, .answer = show_grant,
		.before = "failed to grant lease (", .after = ")",
	};
	char why[256];

	if (ctl->line.args.n != 1)
		return ctl_fail(ctl, CTL_BAD_ARGS, "lease grant command needs TTL argument");
	if (ctl_parse_int(ctl_arg(&ctl->line.args, 0), 10, &request.ttl, why, sizeof(why)))
		return ctl_fail(ctl, CTL_BAD_ARGS, "bad TTL (%s)", why);
	return ctl_call(ctl, &call);
}

static int show_revoke(struct ctl *ctl, const void *response, void *arg)
{
	struct show_revoke revoke = { .lease = *(const int64_t *)arg, .response = response };

	return ctl_show(ctl, SHOW_REVOKE, &revoke);
}

int ctl_run_lease_revoke(struct ctl *ctl)
{
	Etcdserverpb__LeaseRevokeRequest request = ETCDSERVERPB__LEASE_REVOKE_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_lease_revoke, .request = &request.base, .answer = show_revoke,
		.arg = &request.id, .before = "failed to revoke lease (", .after = ")",
	};
	int status;

	if (ctl->line.args.n != 1)
		return ctl_fail(ctl, CTL_BAD_ARGS, "lease revoke command needs 1 argument");
	status = parse_lease(ctl, &request.id);
	return status ? status : ctl_call(ctl, &call);
}

static int show_time_to_live(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_TIME_TO_LIVE, response);
}

int ctl_run_lease_timetolive(struct ctl *ctl)
{
	Etcdserverpb__LeaseTimeToLiveRequest request =
		ETCDSERVERPB__LEASE_TIME_TO_LIVE_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_lease_time_to_live, .request = &request.base,
		.answer = show_time_to_live, .failed = CTL_BAD_CONNECTION,
	};
	int status;

	if (ctl->line.args.n != 1)
		return ctl_fail(ctl, CTL_BAD_ARGS,
				"lease timetolive command needs lease ID as argument");
	request.keys = ctl->line.opt.keys;
	status = parse_lease(ctl, &request.id);
	return status ? status : ctl_call(ctl, &call);
}

static int show_leases(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_LEASES, response);
}

int ctl_run_lease_list(struct ctl *ctl)
{
	Etcdserverpb__LeaseLeasesRequest request = ETCDSERVERPB__LEASE_LEASES_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_lease_leases, .request = &request.base, .answer = show_leases,
		.failed = CTL_BAD_CONNECTION,
	};

	return ctl_call(ctl, &call);
}

/* --- keep-alive ------------------------------------------------------------------- */

struct renewing {
	struct ctl *ctl;
	struct client_keepalive *keepalive;
	bool done, late;
	int status;
};

static void lease_gone(struct renewing *renewing, int64_t lease)
{
	struct ctl *ctl = renewing->ctl;

	renewing->done = true;
	if (ctl->line.opt.once)
		renewing->status = ctl_fail(ctl, CTL_BAD_CONNECTION,
					    "etcdserver: requested lease not found");
	else if (ctl->printer == &printer_simple)
		fprintf(ctl->out, "lease %016" PRIx64 " expired or revoked.\n", (uint64_t)lease);
}

static void lease_renewed(void *user, int64_t lease, int64_t ttl)
{
	Etcdserverpb__LeaseKeepAliveResponse response =
		ETCDSERVERPB__LEASE_KEEP_ALIVE_RESPONSE__INIT;
	struct renewing *renewing = user;
	struct ctl *ctl = renewing->ctl;

	if (ttl <= 0) {
		lease_gone(renewing, lease);
		return;
	}
	response.header = (Etcdserverpb__ResponseHeader *)client_keepalive_header(ctl->client);
	response.id = lease;
	response.ttl = ttl;
	renewing->status = ctl_show(ctl, SHOW_KEEP_ALIVE, &response);
	renewing->done = renewing->status || ctl->line.opt.once;
	if (renewing->done)
		client_keepalive_cancel(renewing->keepalive);
}

static void too_late(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/* Runs until it is done; with --once, no longer than a command may take. */
static int keep_renewing(struct renewing *renewing)
{
	struct ctl *ctl = renewing->ctl;
	uv_timer_t timer;

	uv_timer_init(ctl->loop, &timer);
	timer.data = &renewing->late;
	if (ctl->line.opt.once)
		uv_timer_start(&timer, too_late, ctl_timeout_ms(ctl), 0);
	while (!renewing->done && !renewing->late)
		uv_run(ctl->loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(ctl->loop, UV_RUN_NOWAIT);
	if (renewing->done)
		return renewing->status;
	client_keepalive_cancel(renewing->keepalive);
	if (*client_last_error(ctl->client))
		fprintf(ctl->err, "kvctl: %s\n", client_last_error(ctl->client));
	return ctl_fail(ctl, CTL_BAD_CONNECTION, "context deadline exceeded");
}

int ctl_run_lease_keep_alive(struct ctl *ctl)
{
	struct renewing renewing = { .ctl = ctl };
	int64_t lease;
	int status;

	if (ctl->line.args.n != 1)
		return ctl_fail(ctl, CTL_BAD_ARGS,
				"lease keep-alive command needs lease ID as argument");
	status = parse_lease(ctl, &lease);
	if (!status)
		status = ctl_connect(ctl);
	if (status)
		return status;
	if (client_keepalive_open(ctl->client, lease, lease_renewed, &renewing,
				  &renewing.keepalive))
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	return keep_renewing(&renewing);
}
