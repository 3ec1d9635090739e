// SPDX-License-Identifier: Apache-2.0
/* Scripts about quorums and about changes of the configuration. */
#include "libraft/raft_i.h"
#include "tests/sim/script.h"

static void nothing(void)
{
}

/* --- quorum: committed cfg=(1,2) cfgj=(2,3) idx=(5,_,7), vote ... votes=(y,n,_) -------- */

struct member {
	uint64_t id, index;
	bool given;
	enum raft_vote vote;
};

static struct member members[16];
static size_t n_members;

static const struct member *member_find(uint64_t id)
{
	for (size_t i = 0; i < n_members; i++)
		if (members[i].id == id)
			return &members[i];
	SCRIPT_NEED(!"a member of the quorum");
	return NULL;
}

static uint64_t index_of(const void *arg, uint64_t id)
{
	return member_find(id)->index;
}

static enum raft_vote vote_of(const void *arg, uint64_t id)
{
	return member_find(id)->vote;
}

static struct quorum_ids ids_of(const struct script_case *c, const char *key, uint64_t *ids)
{
	const struct script_arg *a = script_arg(c, key);
	size_t n = 0;

	for (size_t i = 0; a && i < a->n_values; i++)
		if (strcmp(a->values[i], "zero"))
			ids[n++] = strtoull(a->values[i], NULL, 10);
	return (struct quorum_ids){ ids, n };
}

/* The values belong to the ids in the order in which these first appear. */
static void fill_members(const struct script_arg *values, struct quorum_ids a,
			 struct quorum_ids b)
{
	n_members = 0;
	for (size_t i = 0; i < a.n + b.n; i++) {
		struct member m = { .id = i < a.n ? a.ids[i] : b.ids[i - a.n] };
		const char *value;
		bool seen = false;

		for (size_t k = 0; k < n_members; k++)
			seen |= members[k].id == m.id;
		if (seen)
			continue;
		value = values->values[n_members];
		m.given = *value != '_';
		m.index = strtoull(value, NULL, 10);
		m.vote = *value == 'y' ? VOTE_GRANTED : *value == 'n' ? VOTE_REJECTED : VOTE_NONE;
		members[n_members++] = m;
	}
}

/* How many members have an index below that of @m. */
static size_t rank_of(const struct member *m)
{
	size_t n = 0;

	for (size_t i = 0; i < n_members; i++)
		n += members[i].index < m->index;
	return n;
}

static int compare_ids(const void *a, const void *b)
{
	const struct member *x = a, *y = b;

	return x->id < y->id ? -1 : x->id > y->id;
}

/* The members in the order of their ids, each with a bar as long as its rank. */
static void print_picture(struct script_case *c)
{
	static const char bar[] = "xxxxxxxxxxxxxxxx";

	if (!n_members) {
		script_print(c, "<empty majority quorum>");
		return;
	}
	qsort(members, n_members, sizeof(*members), compare_ids);
	script_print(c, "%*s    idx\n", (int)n_members, "");
	for (size_t i = 0; i < n_members; i++) {
		const struct member *m = &members[i];
		size_t rank = rank_of(m);

		if (m->given)
			script_print(c, "%.*s>%*s %5llu    (id=%llu)\n", (int)rank, bar,
				     (int)(n_members - rank), "", (unsigned long long)m->index,
				     (unsigned long long)m->id);
		else
			script_print(c, "?%*s %5d    (id=%llu)\n", (int)n_members, "", 0,
				     (unsigned long long)m->id);
	}
}

/* The last line is the result; those before draw the picture. */
static const char *last_line(char *text)
{
	size_t len = strlen(text);
	char *p;

	if (len && text[len - 1] == '\n')
		text[len - 1] = 0;
	p = strrchr(text, '\n');
	text = p ? p + 1 : text;
	/* An empty quorum has its picture, <...>, on the same line. */
	p = strrchr(text, '>');
	return p ? p + 1 : text;
}

static bool quorum_is_same(struct script_case *c)
{
	return !strcmp(last_line(c->output), last_line(c->expected));
}

static void run_quorum(struct script_case *c)
{
	static const char *const results[] = {
		[QUORUM_PENDING] = "VotePending", [QUORUM_LOST] = "VoteLost",
		[QUORUM_WON] = "VoteWon",
	};
	uint64_t ids_a[16], ids_b[16], index;
	struct quorum_ids a = ids_of(c, "cfg", ids_a), b = ids_of(c, "cfgj", ids_b);
	bool vote = !strcmp(c->command, "vote");
	const struct script_arg *values = script_arg(c, vote ? "votes" : "idx");
	struct script_arg none = { .n_values = 0 };

	fill_members(values ? values : &none, a, b);
	if (vote) {
		script_print(c, "%s\n", results[quorum_joint(quorum_vote(a, vote_of, NULL),
							   quorum_vote(b, vote_of, NULL))]);
	} else {
		print_picture(c);
		index = MIN(quorum_index(a, index_of, NULL), quorum_index(b, index_of, NULL));
		if (index == UINT64_MAX)
			script_print(c, "∞\n");
		else
			script_print(c, "%llu\n", (unsigned long long)index);
	}
}

static const char *const quorum_commands[] = { "committed", "vote", NULL };

const struct script_runner script_quorum = {
	quorum_commands, nothing, run_quorum, quorum_is_same, nothing,
};

/* --- confchange: simple, enter-joint [autoleave=true], leave-joint --------------------- */

static struct raft *raft;

static void conf_begin(void)
{
	struct raft_config config = {
		.id = 1000, .election_ticks = 2, .heartbeat_ticks = 1, .max_inflight = 1,
	};
	const char *why;

	SCRIPT_NEED(!raft_new(&config, &raft, &why));
}

static void conf_end(void)
{
	raft_check(raft);
	raft_free(raft);
}

static size_t parse_changes(const char *input, struct raft_conf_single *out)
{
	static const char letters[] = "vrul";
	size_t n = 0;

	for (; *(input += strspn(input, " \n")); input += strcspn(input, " \n")) {
		const char *letter = strchr(letters, *input);

		SCRIPT_NEED(letter);
		out[n].type = (enum raft_conf_change_type)(letter - letters);
		out[n++].node_id = strtoull(input + 1, NULL, 10);
	}
	return n;
}

static void print_ids(struct script_case *c, const char *before, const uint64_t *ids, size_t n)
{
	if (!n)
		return;
	script_print(c, "%s(", before);
	for (size_t i = 0; i < n; i++)
		script_print(c, "%s%llu", i ? " " : "", (unsigned long long)ids[i]);
	script_print(c, ")");
}

static void print_conf(struct script_case *c)
{
	const struct raft_conf_state *conf = &raft->conf;

	print_ids(c, "voters=", conf->voters, conf->n_voters);
	print_ids(c, "&&", conf->voters_outgoing, conf->n_voters_outgoing);
	print_ids(c, " learners=", conf->learners, conf->n_learners);
	print_ids(c, " learners_next=", conf->learners_next, conf->n_learners_next);
	script_print(c, "%s\n", conf->auto_leave ? " autoleave" : "");
	for (size_t i = 0; i < raft->n_progress; i++) {
		const struct raft_progress *pr = &raft->progress[i];

		SCRIPT_NEED(pr->state == PROGRESS_PROBE);
		script_print(c, "%llu: StateProbe match=%llu next=%llu%s\n",
			     (unsigned long long)pr->id, (unsigned long long)pr->match,
			     (unsigned long long)pr->next, pr->learner ? " learner" : "");
	}
}

/* Why a change is not allowed, in the words of etcd-io/raft. */
static const char *why_not(const char *command, const struct raft_conf_change *change)
{
	struct raft_conf_change joint = *change;
	struct raft_conf_state conf;
	bool is_joint = conf_is_joint(&raft->conf);

	if (!strcmp(command, "leave-joint"))
		return "can't leave a non-joint config";
	if (is_joint && !strcmp(command, "simple"))
		return "can't apply simple config change in joint config";
	if (is_joint)
		return "config is already joint";
	if (!raft->conf.n_voters && strcmp(command, "simple"))
		return "can't make a zero-voter config joint";
	joint.transition = RAFT_CONF_JOINT_EXPLICIT;
	if (conf_change_apply(&raft->conf, &joint, &conf))
		return "removed all voters";
	raft_conf_state_release(&conf);
	return "more than one voter changed without entering joint config";
}

static void run_conf(struct script_case *c)
{
	struct raft_conf_single singles[32];
	struct raft_conf_change change = { .changes = singles };
	const struct script_arg *leave = script_arg(c, "autoleave");
	struct raft_conf_state conf;
	int ret;

	change.n_changes = parse_changes(c->input, singles);
	if (!strcmp(c->command, "enter-joint"))
		change.transition = leave && !strcmp(leave->values[0], "true") ?
				    RAFT_CONF_JOINT_IMPLICIT : RAFT_CONF_JOINT_EXPLICIT;
	if (!strcmp(c->command, "simple"))
		ret = conf_change_simple(&raft->conf, &change, &conf);
	else
		ret = conf_change_apply(&raft->conf, &change, &conf);
	if (!ret)
		SCRIPT_NEED(!raft_conf_switch(raft, &conf));
	/* The script counts each command as an entry. */
	raft->log.base = ++raft->log.last;
	raft->log.stored = raft->log.commit = raft->log.handed = raft->log.applied = raft->log.last;
	if (ret) {
		SCRIPT_NEED(ret == -EINVAL);
		script_print(c, "%s\n", why_not(c->command, &change));
		return;
	}
	print_conf(c);
}

static bool conf_is_same(struct script_case *c)
{
	return !strcmp(c->output, c->expected);
}

static const char *const conf_commands[] = { "simple", "enter-joint", "leave-joint", NULL };

const struct script_runner script_conf = {
	conf_commands, conf_begin, run_conf, conf_is_same, conf_end,
};
