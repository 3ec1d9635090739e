/* SPDX-License-Identifier: Apache-2.0 */
/* raftpb.ConfChange and ConfChangeV2, as the payload of an entry. */
#ifndef TESTS_SIM_CONF_WIRE_H
#define TESTS_SIM_CONF_WIRE_H

#include "include/wire.h"
#include "libraft/raft.h"

#define CONF_WIRE_MAX 16

static inline uint8_t *conf_wire_put(uint8_t *p, const struct raft_conf_single *c, uint32_t field)
{
	p = wire_put_u64_field(p, field, c->type);
	return wire_put_u64_field(p, field + 1, c->node_id);
}

/* A ConfChangeV2; NULL where memory is short. */
static inline struct blob *conf_wire_encode(const struct raft_conf_change *c)
{
	uint8_t bytes[CONF_WIRE_MAX * 32], single[32], *p = bytes;

	BUG_ON(c->n_changes > CONF_WIRE_MAX - 1);
	if (c->transition)
		p = wire_put_u64_field(p, 1, c->transition);
	for (size_t i = 0; i < c->n_changes; i++) {
		size_t n = (size_t)(conf_wire_put(single, &c->changes[i], 1) - single);

		p = wire_put_len_field(p, 2, n);
		memcpy(p, single, n);
		p += n;
	}
	return blob_copy(slice_of(bytes, (size_t)(p - bytes)));
}

/* Either, into CONF_WIRE_MAX singles and @out, which points to them. */
static inline void conf_wire_decode(const struct raft_entry *e, struct raft_conf_single *singles,
				    struct raft_conf_change *out)
{
	struct slice s = e->payload ? blob_slice(e->payload) : slice_of(NULL, 0);
	bool v1 = e->type == RAFT_ENTRY_CONF_CHANGE;
	struct wire_field f, g;

	*out = (struct raft_conf_change){ .changes = singles, .n_changes = v1 };
	singles[0] = (struct raft_conf_single){ 0 };
	while (wire_next(&s, &f) == 1) {
		struct raft_conf_single *c = &singles[out->n_changes];

		if (v1 && f.number == 2)
			singles[0].type = (enum raft_conf_change_type)f.value;
		else if (v1 && f.number == 3)
			singles[0].node_id = f.value;
		else if (f.number == 1)
			out->transition = (enum raft_conf_transition)f.value;
		if (v1 || f.number != 2 || out->n_changes == CONF_WIRE_MAX)
			continue;
		*c = (struct raft_conf_single){ 0 };
		while (wire_next(&f.bytes, &g) == 1) {
			if (g.number == 1)
				c->type = (enum raft_conf_change_type)g.value;
			else
				c->node_id = g.value;
		}
		out->n_changes++;
	}
	if (v1)
		out->transition = RAFT_CONF_AUTO;
}

#endif
