// SPDX-License-Identifier: Apache-2.0
/* alarm list and disarm. */
#include "ctl/ctl.h"
#include "ctl/print.h"

#include <stdlib.h>

static int show_alarms(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_ALARMS, response);
}

int ctl_run_alarm_list(struct ctl *ctl)
{
	Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_maintenance_alarm, .request = &request.base,
		.answer = show_alarms,
	};

	if (ctl->line.args.n)
		return ctl_fail(ctl, CTL_BAD_ARGS, "alarm list command accepts no arguments");
	return ctl_call(ctl, &call);
}

struct alarms {
	Etcdserverpb__AlarmMember *at;
	size_t n;
};

static int add_alarms(struct ctl *ctl, const void *response, void *arg)
{
	const Etcdserverpb__AlarmResponse *r = response;
	struct alarms *alarms = arg;
	Etcdserverpb__AlarmMember *at;

	at = realloc(alarms->at, (alarms->n + r->n_alarms + 1) * sizeof(*at));
	if (!at)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	alarms->at = at;
	for (size_t i = 0; i < r->n_alarms; i++) {
		at[alarms->n] = (Etcdserverpb__AlarmMember)ETCDSERVERPB__ALARM_MEMBER__INIT;
		at[alarms->n].memberid = r->alarms[i]->memberid;
		at[alarms->n++].alarm = r->alarms[i]->alarm;
	}
	return 0;
}

static int disarm_each(struct ctl *ctl, const struct alarms *raised, struct alarms *disarmed)
{
	Etcdserverpb__AlarmRequest request = ETCDSERVERPB__ALARM_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_maintenance_alarm, .request = &request.base,
		.answer = add_alarms, .arg = disarmed,
	};
	int status = 0;

	request.action = ETCDSERVERPB__ALARM_REQUEST__ALARM_ACTION__DEACTIVATE;
	for (size_t i = 0; !status && i < raised->n; i++) {
		request.memberid = raised->at[i].memberid;
		request.alarm = raised->at[i].alarm;
		status = ctl_call(ctl, &call);
	}
	return status;
}

static int show_disarmed(struct ctl *ctl, const struct alarms *alarms)
{
	Etcdserverpb__AlarmResponse response = ETCDSERVERPB__ALARM_RESPONSE__INIT;
	int status;

	response.alarms = calloc(alarms->n + 1, sizeof(*response.alarms));
	if (!response.alarms)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	for (size_t i = 0; i < alarms->n; i++)
		response.alarms[response.n_alarms++] = &alarms->at[i];
	status = ctl_show(ctl, SHOW_ALARMS, &response);
	free(response.alarms);
	return status;
}

/* A request for each alarm there is; what is shown is put together from the answers, and
 * so has no header. */
int ctl_run_alarm_disarm(struct ctl *ctl)
{
	Etcdserverpb__AlarmRequest list = ETCDSERVERPB__ALARM_REQUEST__INIT;
	struct alarms raised = { 0 }, disarmed = { 0 };
	const struct ctl_call call = {
		.method = &client_maintenance_alarm, .request = &list.base,
		.answer = add_alarms, .arg = &raised,
	};
	int status;

	if (ctl->line.args.n)
		return ctl_fail(ctl, CTL_BAD_ARGS, "alarm disarm command accepts no arguments");
	status = ctl_call(ctl, &call);
	if (!status)
		status = disarm_each(ctl, &raised, &disarmed);
	if (!status)
		status = show_disarmed(ctl, &disarmed);
	free(raised.at);
	free(disarmed.at);
	return status;
}
