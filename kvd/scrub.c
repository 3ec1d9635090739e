// SPDX-License-Identifier: Apache-2.0

/*
 * The store read back from the disk now and then (--corrupt-check-time), a slice a tick,
 * so that damage is found while there is still another copy. What is damaged is never
 * served, scrubbed or not; a scrub that meets it raises the CORRUPT alarm, as etcd's check
 * does: nothing more is written then until an operator ends it.
 */

#include "kvd/core_i.h"

void core_scrub_tick(struct core *core)
{
	struct core_scrub *s = &core->scrub;

	if (!core->config.scrub_period || s->stopped)
		return;
	if (!s->next)
		s->next = core->now + core->config.scrub_period;
	if (!s->running && core->now >= s->next) {
		s->running = true;
		s->job = (struct scrub_job){ .more = true };
	}
	s->due = s->running && !s->out;
}

struct scrub_job *core_take_scrub(struct core *core)
{
	struct core_scrub *s = &core->scrub;

	if (!s->due || s->stopped)
		return NULL;
	s->due = false;
	s->out = true;
	return &s->job;
}

void core_scrubbed(struct core *core, struct scrub_job *job)
{
	struct core_scrub *s = &core->scrub;

	BUG_ON(!s->out || job != &s->job);
	s->out = false;
	if (job->damaged)
		core_raise_alarm(core, ETCDSERVERPB__ALARM_TYPE__CORRUPT);
	if (job->more && !job->damaged)
		return;
	s->running = false;
	s->next = core->now + core->config.scrub_period;
}
