// SPDX-License-Identifier: Apache-2.0
/*
 * Scripts about whole groups, in the form of etcd-io/raft's interaction tests.
 *
 * Exact: all that is printed, but for log lines. Semantic: what others can see, the
 * messages of each link, as sent and as received, in their order; and what status,
 * raft-state and raft-log print; but not how the work is cut into updates. Some of the
 * published scripts pass only so, because libraft hands out what is committed once it
 * is stored (etcd-io/raft at once, unless its storage is asynchronous), elects a voter
 * that is alone in one step, and sends itself no messages.
 *
 * Our own scripts also use: read ID READ, restart ID [empty] (with what its disk holds),
 * report-snapshot-sent and -failed FROM TO, deliver-msgs skip=N (the first N stay), and
 * arguments of add-nodes: lease=TICKS, message-bytes, uncommitted-bytes, committed-bytes.
 */
#include "include/wire.h"
#include "tests/sim/script_group.h"

static bool was_silent;		/* the last case ran at log level none */

static bool type_is(const struct raft_message *m, const char *type)
{
	char text[2000];

	if (!type)
		return true;
	raft_message_to_text(m, text, sizeof(text));
	return !strncmp(strchr(text, ' ') + 1, type, strlen(type)) &&
	       strchr(text, ' ')[1 + strlen(type)] == ' ';
}

/* etcd-io/raft says so of an answer whose sender is no member (any more). */
static bool is_response(enum raft_message_type type)
{
	return type == RAFT_MSG_APP_RESP || type == RAFT_MSG_HEARTBEAT_RESP ||
	       type == RAFT_MSG_VOTE_RESP || type == RAFT_MSG_PRE_VOTE_RESP;
}

static void deliver_one(uint64_t id, const struct raft_message *m, bool drop)
{
	struct raft_event ev = { .type = RAFT_RECEIVE, .message = m };
	char text[2000];

	if (m->from == m->to) {
		ev = (struct raft_event){
			.type = (enum raft_event_type)(m->type - FROM_STORAGE(0)),
			.index = m->index, .term = m->term,
		};
		step(id, &ev);
		return;
	}
	see(true, drop ? "dropped: " : "", m);
	raft_message_to_text(m, text, sizeof(text));
	print_lines(drop ? "dropped: " : "", text);
	if (drop)
		return;
	if (is_response(m->type) && !progress_find(nodes[id].raft, m->from))
		print_lines("raft: ", "cannot step as peer not found");
	step(id, &ev);
}

static size_t deliver(uint64_t id, bool drop, const char *type)
{
	static struct raft_message mine[ARRAY_SIZE(bag)];
	uint64_t skip = script_number(now, "skip", 0);
	size_t n = 0, kept = 0;

	for (size_t i = 0; i < n_bag; i++) {
		if (bag[i].to == id && type_is(&bag[i], type) &&
		    !(drop && bag[i].from == id) && !(skip && skip--))
			mine[n++] = bag[i];
		else
			bag[kept++] = bag[i];
	}
	n_bag = kept;
	for (size_t i = 0; i < n; i++) {
		deliver_one(id, &mine[i], drop);
		message_free(&mine[i]);
	}
	return n;
}

/* The ids that are arguments by themselves; all where there are none. */
static size_t arg_ids(uint64_t *ids, bool all)
{
	size_t n = 0;

	for (size_t i = 0; i < now->n_args; i++)
		if (!now->args[i].n_values)
			ids[n++] = strtoull(now->args[i].key, NULL, 10);
	for (uint64_t id = 1; !n && all && id <= n_nodes; id++)
		ids[id - 1] = id;
	return n ? n : all ? n_nodes : 0;
}

static bool has_mail(uint64_t id)
{
	for (size_t i = 0; i < n_bag; i++)
		if (bag[i].to == id)
			return true;
	return false;
}

/* Everything that the members @ids have to do now; false: nothing. */
static bool stabilize_once(const uint64_t *ids, size_t n)
{
	bool busy = false;

	for (size_t i = 0; i < n; i++) {
		if (!raft_update_pending(&nodes[ids[i]].up))
			continue;
		print_head(ids[i], "handling Ready");
		process_ready(ids[i]);
		busy = true;
	}
	for (size_t i = 0; i < n; i++) {
		if (!has_mail(ids[i]))
			continue;
		print_head(ids[i], "receiving messages");
		deliver(ids[i], false, NULL);
		busy = true;
	}
	for (size_t i = 0; i < n; i++)
		for (; nodes[ids[i]].n_store; busy = true) {
			print_head(ids[i], "processing append thread");
			process_store(ids[i]);
		}
	for (size_t i = 0; i < n; i++)
		for (; nodes[ids[i]].n_apply; busy = true) {
			print_head(ids[i], "processing apply thread");
			process_apply(ids[i]);
		}
	return busy;
}

static void do_stabilize(void)
{
	uint64_t ids[SCRIPT_ARGS];
	size_t n = arg_ids(ids, true);

	while (stabilize_once(ids, n))
		;
}

static void do_process_store(void)
{
	uint64_t ids[SCRIPT_ARGS];
	size_t n = arg_ids(ids, true);

	for (size_t i = 0; i < n; i++)
		process_store(ids[i]);
}

static void do_process_apply(void)
{
	uint64_t ids[SCRIPT_ARGS];
	size_t n = arg_ids(ids, true);

	for (size_t i = 0; i < n; i++)
		process_apply(ids[i]);
}

static void do_process_ready(void)
{
	uint64_t ids[SCRIPT_ARGS];
	size_t n = arg_ids(ids, true);

	for (size_t i = 0; i < n; i++)
		process_ready(ids[i]);
}

static void do_deliver(void)
{
	const struct script_arg *drop = script_arg(now, "drop"), *type = script_arg(now, "type");
	uint64_t ids[SCRIPT_ARGS];
	size_t n = arg_ids(ids, false);

	for (size_t i = 0; i < n; i++)
		deliver(ids[i], false, type ? type->values[0] : NULL);
	for (size_t i = 0; drop && i < drop->n_values; i++)
		deliver(strtoull(drop->values[i], NULL, 10), true, type ? type->values[0] : NULL);
}

static size_t fill_ids(uint64_t *ids, const char *key)
{
	const struct script_arg *a = script_arg(now, key);

	for (size_t i = 0; a && i < a->n_values; i++)
		ids[i] = strtoull(a->values[i], NULL, 10);
	return a ? a->n_values : 0;
}

static bool arg_true(const char *key)
{
	const struct script_arg *a = script_arg(now, key);

	return a && !strcmp(a->values[0], "true");
}

static void do_add_nodes(void)
{
	uint64_t voters[16], learners[16], n = strtoull(now->args[0].key, NULL, 10);
	uint64_t index = script_number(now, "index", 0);
	uint64_t lease = script_number(now, "lease", 0);
	struct raft_config config = {
		.election_ticks = 3,
		.heartbeat_ticks = 1,
		.pre_vote = arg_true("prevote"),
		.check_quorum = arg_true("checkquorum") || lease,
		.lease_ticks = (uint32_t)lease,
		.max_message_bytes = script_number(now, "message-bytes", SIZE_MAX / 2),
		.max_inflight = script_number(now, "inflight", 1024),
		.max_uncommitted_bytes = script_number(now, "uncommitted-bytes", 0),
		.max_committed_bytes = script_number(now, "committed-bytes", 0),
	};
	struct raft_conf_state conf = {
		.voters = voters, .n_voters = fill_ids(voters, "voters"),
		.learners = learners, .n_learners = fill_ids(learners, "learners"),
	};

	while (n--) {
		struct node *node = &nodes[++n_nodes];

		SCRIPT_NEED(n_nodes < NODES);
		config.id = config.seed = n_nodes;
		*node = (struct node){
			.async = arg_true("async-storage-writes"),
			.config = config,
			.disk = { .base = index, .base_term = index != 0, .applied = index },
		};
		node->disk.hard_state.commit = index;
		SCRIPT_NEED(!conf_copy(&conf, &node->disk.conf));
		node_start(n_nodes);
		/* As etcd-io/raft does, who starts from a snapshot of term 1 at term 0. */
		node->raft->term = 0;
		node->raft->handed_soft_state.term = 0;
		node->raft->handed_hard_state = (struct raft_hard_state){ .commit = index };
	}
}

static void event(enum raft_event_type type, uint64_t id, uint64_t arg)
{
	struct raft_event ev = { .type = type, .id = arg, .index = arg };

	step(id, &ev);
}

static uint64_t arg_number(size_t i)
{
	SCRIPT_NEED(i < now->n_args);
	return strtoull(now->args[i].key, NULL, 10);
}

static void do_tick(void)
{
	size_t n = strcmp(now->command, "tick-election") ? 1 : 3;

	while (n--)
		event(RAFT_TICK, arg_number(0), 0);
}

static void do_propose(void)
{
	struct blob *b = blob_copy(slice_str(now->args[1].key));
	struct raft_entry e = { .payload = b };
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = &e, .n_entries = 1 };
	int ret;

	SCRIPT_NEED(b);
	ret = step(arg_number(0), &ev);
	blob_put(b);
	if (ret == RAFT_DROPPED)
		script_print(now, "raft proposal dropped\n");
	if (ret == RAFT_TOO_MUCH)
		script_print(now, "raft proposal dropped: too much is not committed\n");
	if (!quiet && now->mode == SCRIPT_SEMANTIC &&
	    (ret == RAFT_DROPPED) != (strstr(now->expected, "dropped") != NULL))
		script_fail(now, "%s", ret ? "dropped" : "not dropped");
}

static uint8_t *put_single(uint8_t *p, const char *word, uint32_t type_field)
{
	static const char letters[] = "vrul";

	p = wire_put_u64_field(p, type_field, (uint64_t)(strchr(letters, *word) - letters));
	return wire_put_u64_field(p, type_field + 1, strtoull(word + 1, NULL, 10));
}

static void do_propose_conf_change(void)
{
	static const char *const names[] = { "auto", "implicit", "explicit" };
	const struct script_arg *transition = script_arg(now, "transition");
	uint8_t bytes[256], single[32], *p = bytes, *q;
	struct raft_entry e = { .type = RAFT_ENTRY_CONF_CHANGE_V2 };
	struct raft_event ev = { .type = RAFT_PROPOSE, .entries = &e, .n_entries = 1 };
	const char *s = now->input;

	for (uint64_t i = 0; transition && i < ARRAY_SIZE(names); i++)
		if (!strcmp(transition->values[0], names[i]))
			p = wire_put_u64_field(p, 1, i);
	if (arg_true("v1")) {
		e.type = RAFT_ENTRY_CONF_CHANGE;
		p = put_single(p, s, 2);
	}
	for (; !arg_true("v1") && *(s += strspn(s, " \n")); s += strcspn(s, " \n")) {
		q = put_single(single, s, 1);
		p = wire_put_len_field(p, 2, (size_t)(q - single));
		memcpy(p, single, (size_t)(q - single));
		p += q - single;
	}
	e.payload = blob_copy(slice_of(bytes, (size_t)(p - bytes)));
	step(arg_number(0), &ev);
	blob_put(e.payload);
}

static void do_status(void)
{
	static const char *const names[] = { "StateProbe", "StateReplicate", "StateSnapshot" };
	const struct raft *raft = nodes[arg_number(0)].raft;

	for (size_t i = 0; i < raft->n_progress && raft->role == RAFT_LEADER; i++) {
		const struct raft_progress *pr = &raft->progress[i];

		script_print(now, "%llu: %s match=%llu next=%llu", (unsigned long long)pr->id,
			     names[pr->state], (unsigned long long)pr->match,
			     (unsigned long long)pr->next);
		script_print(now, "%s", pr->learner ? " learner" : "");
		script_print(now, "%s", progress_is_paused(pr) ? " paused" : "");
		if (pr->pending_snapshot)
			script_print(now, " pendingSnap=%llu",
				     (unsigned long long)pr->pending_snapshot);
		script_print(now, "%s", pr->recent_active ? "" : " inactive");
		if (pr->inflights.n)
			script_print(now, " inflight=%zu%s", pr->inflights.n,
				     inflights_full(&pr->inflights) ? "[full]" : "");
		script_print(now, "\n");
	}
}

static void do_raft_state(void)
{
	for (uint64_t id = 1; id <= n_nodes; id++) {
		const struct raft *raft = nodes[id].raft;

		script_print(now, "%llu: %s (%s) Term:%llu Lead:%llu\n", (unsigned long long)id,
			     raft_role_to_text(raft->role),
			     conf_is_voter(&raft->conf, id) ? "Voter" : "Non-Voter",
			     (unsigned long long)raft->term, (unsigned long long)raft->leader);
	}
}

static void do_raft_log(void)
{
	const struct raft_log *log = &nodes[arg_number(0)].raft->log;
	char text[1000];

	if (log->stored == log->base)
		script_print(now, "log is empty: first index=%llu, last index=%llu\n",
			     (unsigned long long)log->base + 1, (unsigned long long)log->base);
	for (uint64_t i = log->base + 1; i <= log->stored; i++) {
		raft_entry_to_text(log_entry(log, i), text, sizeof(text));
		script_print(now, "%s\n", text);
	}
}

static void do_compact(void)
{
	event(RAFT_COMPACT, arg_number(0), arg_number(1));
	disk_compact(arg_number(0));
	do_raft_log();
}

static void do_log_level(void)
{
	quiet = !strcmp(now->args[0].key, "none");
}

static void do_campaign(void)
{
	event(RAFT_CAMPAIGN, arg_number(0), 0);
}

static void do_forget_leader(void)
{
	event(RAFT_FORGET_LEADER, arg_number(0), 0);
}

static void do_unreachable(void)
{
	event(RAFT_UNREACHABLE, arg_number(0), arg_number(1));
}

static void do_snapshot_failed(void)
{
	event(RAFT_SNAPSHOT_FAILED, arg_number(0), arg_number(1));
}

static void do_snapshot_sent(void)
{
	event(RAFT_SNAPSHOT_SENT, arg_number(0), arg_number(1));
}

static void do_read(void)
{
	struct raft_event ev = { .type = RAFT_READ, .id = arg_number(1) };

	if (step(arg_number(0), &ev) == RAFT_DROPPED)
		script_print(now, "read dropped\n");
}

/* All that was under way is lost, also what it was to send once something is stored; with
 * "empty" its disk as well. */
static void do_restart(void)
{
	node_stop(arg_number(0));
	if (script_arg(now, "empty"))
		disk_release(&nodes[arg_number(0)].disk);
	node_start(arg_number(0));
}

static void do_transfer(void)
{
	event(RAFT_TRANSFER, script_number(now, "from", 0), script_number(now, "to", 0));
}

static void do_timeout(void)
{
	nodes[arg_number(0)].raft->election_timeout = (uint32_t)script_number(now, "timeout", 3);
}

static const char *const names[] = {
	"add-nodes", "campaign", "compact", "deliver-msgs", "forget-leader", "log-level",
	"process-append-thread", "process-apply-thread", "process-ready", "propose",
	"propose-conf-change", "raft-log", "raft-state", "read", "report-snapshot-failed",
	"report-snapshot-sent", "report-unreachable", "restart",
	"set-randomized-election-timeout", "stabilize", "status", "tick-election",
	"tick-heartbeat", "transfer-leadership", NULL
};

static void (*const functions[])(void) = {
	do_add_nodes, do_campaign, do_compact, do_deliver, do_forget_leader, do_log_level,
	do_process_store, do_process_apply, do_process_ready, do_propose, do_propose_conf_change,
	do_raft_log, do_raft_state, do_read, do_snapshot_failed, do_snapshot_sent,
	do_unreachable, do_restart, do_timeout, do_stabilize, do_status, do_tick,
	do_tick, do_transfer,
};

/* What the script asked to see, rather than what its command led to. */
static bool prints(const char *command)
{
	return !strcmp(command, "compact") || !strcmp(command, "status") ||
	       !strncmp(command, "raft-", 5);
}

static void run(struct script_case *c)
{
	const struct script_arg *level = script_arg(c, "log-level");
	bool was_quiet = quiet;
	size_t i = 0;

	now = c;
	seen_clear();
	indent = 0;
	quiet = quiet || (level && !strcmp(level->values[0], "none"));
	while (strcmp(names[i], c->command))
		i++;
	functions[i]();
	if (quiet)
		c->n_output = c->output[0] = 0;
	was_silent = quiet;
	if (strcmp(c->command, "log-level"))
		quiet = was_quiet;
}

static bool is_same(struct script_case *c)
{
	if (was_silent || !strcmp(c->command, "log-level"))
		return true;
	if (prints(c->command))
		return !strcmp(c->output, c->expected);
	compare_messages();
	return true;
}

static void begin(void)
{
	quiet = false;
}

static void end(void)
{
	for (size_t i = 0; i < n_bag; i++)
		message_free(&bag[i]);
	n_bag = 0;
	for (; n_nodes; n_nodes--) {
		node_stop(n_nodes);
		disk_release(&nodes[n_nodes].disk);
	}
}

const struct script_runner script_group = { names, begin, run, is_same, end };
