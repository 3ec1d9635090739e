// SPDX-License-Identifier: Apache-2.0
/* Groups of libraft. */
#include "tests/sim/sim.h"

const struct sim_program sim_program = {
	.name = "raft_sim",
	.most_nodes = 7,
	.part = SIM_RAFT,
	.links = links_run,
};
