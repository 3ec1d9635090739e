// SPDX-License-Identifier: Apache-2.0

/*
 * Messages to and from the other members. A leader's entries go out while its own append
 * is on the way to the disk; a vote, and a follower's word that it has something, only
 * when it has.
 */

#include <stdlib.h>

#include "kvd/core_i.h"

/* Moves @n messages out of an array of the update; *@out stays NULL where there are none. */
static int take(struct raft_message **array, size_t *n, size_t *cap, struct core_messages **out)
{
	struct core_messages *messages;

	if (!*n)
		return 0;
	messages = calloc(1, sizeof(*messages));
	if (!messages)
		return -ENOMEM;
	messages->messages = *array;
	messages->n = *n;
	*array = NULL;
	*n = *cap = 0;
	*out = messages;
	return 0;
}

int core_queue_messages(struct core *core, struct core_messages **after)
{
	struct raft_update *up = &core->update;
	struct core_messages *now = NULL;
	int err = take(&up->messages, &up->n_messages, &up->cap_messages, &now);

	if (err)
		return err;
	if (now)
		list_add_tail(&core->messages, &now->node);
	return take(&up->after_store, &up->n_after_store, &up->cap_after_store, after);
}

struct core_messages *core_take_messages(struct core *core)
{
	struct core_messages *messages;

	if (list_empty(&core->messages))
		return NULL;
	messages = list_first(&core->messages, struct core_messages, node);
	list_del(&messages->node);
	return messages;
}

void core_messages_free(struct core_messages *messages)
{
	if (!messages)
		return;
	raft_messages_free(messages->messages, messages->n);
	free(messages);
}

int core_receive(struct core *core, const struct raft_message *message)
{
	int r = core_step(core, &(struct raft_event){ .type = RAFT_RECEIVE,
						      .message = message });

	return MIN(r, 0);
}

int core_unreachable(struct core *core, uint64_t member_id)
{
	int r = core_step(core, &(struct raft_event){ .type = RAFT_UNREACHABLE,
						      .id = member_id });

	return MIN(r, 0);
}
