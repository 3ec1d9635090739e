// SPDX-License-Identifier: Apache-2.0
/*
 * The commands, and how the one that is meant is found on the command line.
 */
#include "ctl/ctl.h"
#include "ctl/print.h"

#include <errno.h>
#include <stdlib.h>

const struct ctl_command ctl_commands[] = {
	{ "get", "<key> [range_end]", "Gets the key or a range of keys", NULL,
	  ctl_get_options, ctl_run_get },
	{ "put", "<key> [value]", "Puts the given key into the store",
	  "The value is read from standard input where it is not given. A value that begins "
	  "with '-' is taken for an option unless '--' stands before it.",
	  ctl_put_options, ctl_run_put },
	{ "del", "<key> [range_end]",
	  "Removes the specified key or range of keys [key, range_end)", NULL,
	  ctl_del_options, ctl_run_del },
	{ "txn", "", "Processes all the requests in one transaction",
	  "Three groups of lines are read from standard input, each ended by an empty line: "
	  "the comparisons, the requests to make where all of them hold, and those to make "
	  "where one does not.\n\n"
	  "A comparison is TARGET(\"key\") OPERATOR \"value\". TARGET is one of ver, version; "
	  "c, create; m, mod; val, value; lease. OPERATOR is one of =, !=, <, >. The identifier "
	  "of a lease is in hexadecimal.\n\n"
	  "A request is a get, put or del command with its options. Words may stand in single "
	  "or double quotes; within the latter the escapes of C and Go hold.",
	  ctl_txn_options, ctl_run_txn },
	{ "watch", "[key or prefix] [range_end] [-- command [argument ...]]",
	  "Watches events stream on keys or prefixes",
	  "The key can also be given as ETCDCTL_WATCH_KEY, the end of the range as "
	  "ETCDCTL_WATCH_RANGE_END.\n\n"
	  "The command is run once for each event, with ETCD_WATCH_REVISION, "
	  "ETCD_WATCH_EVENT_TYPE, ETCD_WATCH_KEY and ETCD_WATCH_VALUE in its environment.\n\n"
	  "A connection that is lost is made again, to the next endpoint, and the watch goes on "
	  "where it was.",
	  ctl_watch_options, ctl_run_watch },
	{ "compaction", "<revision>", "Compacts the event history", NULL,
	  ctl_compaction_options, ctl_run_compaction },
	{ "lease grant", "<ttl>", "Creates leases", "The TTL is in seconds.", NULL,
	  ctl_run_lease_grant },
	{ "lease revoke", "<leaseID>", "Revokes leases", NULL, NULL, ctl_run_lease_revoke },
	{ "lease timetolive", "<leaseID>", "Get lease information", NULL,
	  ctl_timetolive_options, ctl_run_lease_timetolive },
	{ "lease list", "", "List all active leases", NULL, NULL, ctl_run_lease_list },
	{ "lease keep-alive", "<leaseID>", "Keeps leases alive (renew)",
	  "Renews the lease every third of its TTL, until it expires or is revoked.",
	  ctl_keep_alive_options, ctl_run_lease_keep_alive },
	{ "member list", "", "Lists all members in the cluster",
	  "With --write-out=simple each line has ID, status, name, peer addresses, client "
	  "addresses and whether it is a learner.",
	  ctl_member_list_options, ctl_run_member_list },
	{ "endpoint status", "", "Prints out the status of endpoints specified in --endpoints",
	  "With --write-out=simple each line has the cells of the table: endpoint, ID, version, "
	  "storage version, db size, in use, percentage not in use, quota, is leader, is "
	  "learner, raft term, raft index, raft applied index, errors, downgrade target version, "
	  "downgrade enabled.",
	  ctl_endpoint_options, ctl_run_endpoint_status },
	{ "endpoint health", "",
	  "Checks the healthiness of endpoints specified in --endpoints",
	  "An endpoint is healthy when it answers a linearizable read and no alarm is raised.",
	  ctl_endpoint_options, ctl_run_endpoint_health },
	{ "endpoint hashkv", "", "Prints the KV history hash for each endpoint in --endpoints",
	  "Members that hold the same have the same hash at the same revision, where they have "
	  "compacted to the same revision too.\n\n"
	  "With --write-out=simple each line has endpoint, hash and the revision it is of.",
	  ctl_hashkv_options, ctl_run_endpoint_hashkv },
	{ "defrag", "",
	  "Defragments the storage of the etcd members with given endpoints",
	  "It is for members that are etcd: it stops each while it lasts. A member that is kvd "
	  "uses the space of what was removed again, and does not know this request.",
	  ctl_endpoint_options, ctl_run_defrag },
	{ "alarm list", "", "Lists all alarms", NULL, NULL, ctl_run_alarm_list },
	{ "alarm disarm", "", "Disarms all alarms", NULL, NULL, ctl_run_alarm_disarm },
	{ "version", "", "Prints the version of kvctl", NULL, NULL, ctl_run_version },
	{ "help", "[command]", "Help about any command", NULL, ctl_help_options, ctl_run_help },
	{ 0 }
};

/* --- words ---------------------------------------------------------------------- */

/* The @i-th word of a command's name; NULL data: it has none. */
static struct slice name_word(const struct ctl_command *command, int i)
{
	const char *space = strchr(command->name, ' ');

	if (!space)
		return i ? slice_of(NULL, 0) : slice_str(command->name);
	return i ? slice_str(space + 1)
		 : slice_of(command->name, (size_t)(space - command->name));
}

bool ctl_is_group(const char *group)
{
	for (const struct ctl_command *c = ctl_commands; c->name; c++)
		if (strchr(c->name, ' ') && slice_eq(name_word(c, 0), slice_str(group)))
			return true;
	return false;
}

/*
 * The one whole word that @text, which may be shortened, means as the @i-th of a name
 * whose first word is @group (i = 1); NULL data: none, or it could be several.
 */
static struct slice match_word(const char *text, int i, struct slice group)
{
	struct slice found = slice_of(NULL, 0), typed = slice_str(text);
	bool several = false;

	for (const struct ctl_command *c = ctl_commands; c->name; c++) {
		struct slice word = name_word(c, i);

		if (!word.data || (i && !slice_eq(name_word(c, 0), group)))
			continue;
		if (slice_eq(word, typed))
			return word;
		if (!typed.len || !slice_has_prefix(word, typed))
			continue;
		several |= found.data && !slice_eq(found, word);
		found = word;
	}
	return several ? slice_of(NULL, 0) : found;
}

static const struct ctl_command *find_named(struct slice first, struct slice second)
{
	for (const struct ctl_command *c = ctl_commands; c->name; c++)
		if (slice_eq(name_word(c, 0), first) &&
		    (!name_word(c, 1).data || slice_eq(name_word(c, 1), second)))
			return c;
	return NULL;
}

/* --- the command line ----------------------------------------------------------- */

/* The index in @words of the next that is no option and no value of one, from @from on. */
static size_t next_operand(char **words, size_t n, size_t from)
{
	for (size_t i = from; i < n; i++) {
		bool takes_next = false;

		if (!strcmp(words[i], "--"))
			return n;
		if (words[i][0] != '-' || !words[i][1])
			return i;
		ctl_common_option(words[i], &takes_next);
		i += takes_next;
	}
	return n;
}

struct found {
	const struct ctl_command *command;	/* NULL: none */
	size_t at[2];				/* where its words stand; n: nowhere */
	char group[32];				/* only the group was found; else "" */
};

static void find_command(char **words, size_t n, struct found *out)
{
	struct slice first, second = slice_of(NULL, 0);

	*out = (struct found){ .at = { next_operand(words, n, 0), n } };
	if (out->at[0] == n)
		return;
	first = match_word(words[out->at[0]], 0, second);
	if (!first.data)
		return;
	snprintf(out->group, sizeof(out->group), "%.*s", (int)first.len, first.data);
	if (ctl_is_group(out->group)) {
		out->at[1] = next_operand(words, n, out->at[0] + 1);
		if (out->at[1] < n)
			second = match_word(words[out->at[1]], 1, first);
		if (!second.data)
			return;
	}
	out->group[0] = '\0';
	out->command = find_named(first, second);
}

static bool asks_for_help(char **words, size_t n)
{
	bool takes_next;

	for (size_t i = 0; i < n && strcmp(words[i], "--"); i++) {
		const struct option_def *option = words[i][0] == '-' ?
			ctl_common_option(words[i], &takes_next) : NULL;

		if (option && !strcmp(option->name, "help"))
			return true;
	}
	return false;
}

/* No command is named: help where it was asked for, else what is wrong. */
static int no_command(struct ctl *ctl, char **words, size_t n, const struct found *found)
{
	bool takes_next;

	if (*found->group) {
		ctl_help_group(ctl, found->group, ctl->out);
		return CTL_OK;
	}
	if (found->at[0] < n) {
		ctl_fail(ctl, CTL_ERROR, "unknown command \"%s\" for \"kvctl\"",
			 words[found->at[0]]);
		fputs("Run 'kvctl --help' for usage.\n", ctl->err);
		return CTL_ERROR;
	}
	for (size_t i = 0; i < n && !asks_for_help(words, n); i++) {
		if (words[i][0] != '-' || ctl_common_option(words[i], &takes_next))
			continue;
		ctl_fail(ctl, CTL_ERROR, "unknown flag: %s", words[i]);
		fputs("Run 'kvctl --help' for usage.\n", ctl->err);
		return CTL_ERROR;
	}
	ctl_help_all(ctl, ctl->out);
	return CTL_OK;
}

/*
 * What the options and operands of @found are, without the command's own words. For
 * watch what follows "--" is a command to run.
 */
static int command_words(struct ctl *ctl, char **words, size_t n, const struct found *found,
			 struct ctl_args *out)
{
	bool is_watch = found->command->run == ctl_run_watch;

	*out = (struct ctl_args){ .at = calloc(n + 1, sizeof(*out->at)) };
	if (!out->at)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++) {
		if (i == found->at[0] || i == found->at[1])
			continue;
		if (is_watch && !strcmp(words[i], "--")) {
			ctl->exec = words + i + 1;
			break;
		}
		out->at[out->n++] = slice_str(words[i]);
	}
	return 0;
}

static int run_command(struct ctl *ctl)
{
	if (ctl->line.opt.help) {
		ctl_help(ctl, ctl->command, ctl->out);
		return CTL_OK;
	}
	ctl->printer = printer_find(ctl->line.opt.write_out);
	if (!ctl->printer && ctl->command->run != ctl_run_version &&
	    ctl->command->run != ctl_run_help)
		return ctl_fail(ctl, CTL_BAD_FEATURE, "unsupported output format");
	return ctl->command->run(ctl);
}

static void client_is_closed(void *arg)
{
	*(bool *)arg = true;
}

static void disconnect(struct ctl *ctl)
{
	bool closed = false;

	if (!ctl->client)
		return;
	client_close(ctl->client, client_is_closed, &closed);
	while (!closed)
		uv_run(ctl->loop, UV_RUN_ONCE);
	ctl->client = NULL;
}

int ctl_main(struct ctl *ctl, int argc, char **argv)
{
	char **words = argv + 1, why[512];
	size_t n = (size_t)(argc > 1 ? argc - 1 : 0);
	struct ctl_parse_args parse = { .common = true, .environ_ = ctl->environ_ };
	struct ctl_args args;
	struct found found;
	int status;

	find_command(words, n, &found);
	if (!found.command)
		return no_command(ctl, words, n, &found);
	ctl->command = found.command;
	if (command_words(ctl, words, n, &found, &args))
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	parse.command = found.command;
	parse.words = &args;
	status = ctl_parse(&parse, &ctl->line, why, sizeof(why));
	ctl_args_release(&args);
	if (status) {
		ctl_fail(ctl, CTL_ERROR, "%s", why);
		fprintf(ctl->err, "Run 'kvctl %s --help' for usage.\n", found.command->name);
		return CTL_ERROR;
	}
	status = run_command(ctl);
	disconnect(ctl);
	ctl_line_release(&ctl->line);
	return status;
}
