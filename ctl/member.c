// SPDX-License-Identifier: Apache-2.0
/* member list. */
#include "ctl/ctl.h"
#include "ctl/print.h"

static int show_members(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_MEMBERS, response);
}

int ctl_run_member_list(struct ctl *ctl)
{
	Etcdserverpb__MemberListRequest request = ETCDSERVERPB__MEMBER_LIST_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_cluster_member_list, .request = &request.base,
		.answer = show_members,
	};
	const char *consistency = ctl->line.opt.consistency;

	if (strcmp(consistency, "l") && strcmp(consistency, "s"))
		return ctl_fail(ctl, CTL_BAD_FEATURE, "unknown consistency flag \"%s\"",
				consistency);
	request.linearizable = !strcmp(consistency, "l");
	return ctl_call(ctl, &call);
}
