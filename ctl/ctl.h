/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kvctl: what its files share.
 *
 * ctl_main() finds the command, parses its options and calls its run function, whose
 * result is the exit status. Commands speak in one voice with etcdctl 3.7.1: the same
 * words on the same stream, the same status.
 *
 * A command asks with ctl_call(), which runs the loop until the answer is there and
 * hands it to a function while it is valid; that shows it with ctl_show(), which goes
 * to the printer chosen with --write-out.
 */
#ifndef CTL_CTL_H
#define CTL_CTL_H

#include <stdio.h>

#include "lib/client.h"
#include "lib/options.h"
#include "lib/pb.h"

/* The exit statuses of etcdctl (etcd pkg/cobrautl). */
enum ctl_exit {
	CTL_OK = 0,
	CTL_ERROR = 1,
	CTL_BAD_CONNECTION = 2,
	CTL_INVALID_INPUT = 3,		/* of what txn and watch read */
	CTL_BAD_FEATURE = 4,		/* a known option with a value that is not supported */
	CTL_INTERRUPTED = 5,
	CTL_IO = 6,
	CTL_BAD_ARGS = 128,
};

/* What the options set: those of every command, then those of some. */
struct ctl_options {
	const char *endpoints, *write_out;
	int64_t dial_timeout, command_timeout;		/* ns */
	bool hex, help;

	bool prefix, from_key, prev_kv, keys_only, count_only, print_value_only, range;
	bool ignore_value, ignore_lease, interactive, progress_notify, physical;
	bool keys, once, cluster, man;
	int64_t limit, rev, min_create_rev, max_create_rev, min_mod_rev, max_mod_rev;
	const char *consistency, *order, *sort_by, *lease;
};

struct ctl;
struct printer;

struct ctl_command {
	const char *name;		/* "put", "lease grant" */
	const char *operands;		/* "<key> [range_end]" */
	const char *brief;		/* one line, no full stop */
	const char *help;		/* paragraphs divided by "\n\n"; NULL: brief says it all */
	const struct option_def *options;	/* beside the common ones; NULL: none */
	int (*run)(struct ctl *ctl);
};

/* Words, of the command line or of a line of input; those may hold any byte. */
struct ctl_args {
	struct slice *at;
	size_t n;
	uint8_t *bytes;			/* what they point into, where it is theirs */
};

/* A command line, parsed. */
struct ctl_line {
	struct ctl_options opt;
	struct options *parsed;		/* owns the strings of opt */
	struct ctl_args args;		/* the operands */
};

struct ctl {
	FILE *in, *out, *err;
	char **environ_;
	uv_loop_t *loop;
	struct client *client;		/* NULL until it is needed */
	const struct ctl_command *command;
	struct ctl_line line;
	char **exec;			/* what stands after "--", for watch; NULL: none */
	const struct printer *printer;
	bool value_only;		/* --print-value-only, once it was checked */
};

/* Everything but the process: @ctl comes with its streams, loop and environment. */
int ctl_main(struct ctl *ctl, int argc, char **argv);

/* flags.c */
#define CTL_OPTIONS_MAX 64
extern const struct option_def ctl_common_options[], ctl_get_options[], ctl_put_options[],
	ctl_del_options[], ctl_txn_options[], ctl_watch_options[], ctl_compaction_options[],
	ctl_timetolive_options[], ctl_keep_alive_options[], ctl_member_list_options[],
	ctl_endpoint_options[], ctl_hashkv_options[], ctl_help_options[];
struct ctl_parse_args {
	const struct ctl_command *command;
	bool common;			/* the options of every command are allowed too */
	char *const *environ_;		/* NULL: none */
	const struct ctl_args *words;	/* without the command's name */
};
/* -EINVAL and a sentence in @why; else ctl_line_release() is due. */
int ctl_parse(const struct ctl_parse_args *args, struct ctl_line *out, char *why, size_t why_size);
void ctl_line_release(struct ctl_line *line);
/* The option of every command that @word ("--hex", "-w", "--hex=true") is; NULL: none.
 * *@takes_next: its value is the next word. */
const struct option_def *ctl_common_option(const char *word, bool *takes_next);

/* command.c */
extern const struct ctl_command ctl_commands[];		/* terminated by name NULL */
/* The commands whose name is @group and a second word. */
bool ctl_is_group(const char *group);

/* help.c */
void ctl_help(const struct ctl *ctl, const struct ctl_command *command, FILE *out);
void ctl_help_all(const struct ctl *ctl, FILE *out);
void ctl_help_group(const struct ctl *ctl, const char *group, FILE *out);
void ctl_man(FILE *out);

/* args.c */
void ctl_args_release(struct ctl_args *args);	/* what ctl_split() made */
/* Divides a line into words as etcdctl does: '...', "..." with Go's escapes, or a run
 * without blanks. -EINVAL: a quoted word is no Go string. */
int ctl_split(struct slice line, struct ctl_args *out);
/* As Go's strconv.ParseInt; the error text has its words. */
int ctl_parse_int(struct slice text, int base, int64_t *out, char *why, size_t why_size);
/* Takes one Go string ("..." or `...`) off @s into @out (malloc'ed, any byte). */
int ctl_unquote(struct slice *s, struct slice *out);
/* [key, key + 1): all that begin with it; *end is malloc'ed. */
int ctl_prefix_end(struct slice key, struct slice *end);
struct slice ctl_arg(const struct ctl_args *args, size_t i);
ProtobufCBinaryData ctl_bytes(struct slice s);

/* text.c: as Go writes them */
size_t text_rune(struct slice s, uint32_t *rune);	/* UTF-8; 0: it is none */
void text_quote(FILE *out, struct slice s);		/* %q */
void text_duration(FILE *out, int64_t ns);		/* time.Duration */
void text_size(FILE *out, uint64_t bytes);		/* humanize.Bytes: 2.1 GB */

/* call.c */
int ctl_fail(struct ctl *ctl, enum ctl_exit status, const char *fmt, ...) __printf(3, 4);
/* Writes out what was printed; an exit status where that fails. */
int ctl_flush(struct ctl *ctl);
/* Makes a client; an exit status where that fails. */
int ctl_client(struct ctl *ctl, char *const *endpoints, size_t n, struct client **out);
/* Makes ctl->client, for --endpoints, where there is none yet. */
int ctl_connect(struct ctl *ctl);
unsigned ctl_timeout_ms(const struct ctl *ctl);
/* The endpoints of --endpoints; free() each and the array. Negative errno. */
ssize_t ctl_endpoints(const struct ctl *ctl, char ***out);
void ctl_endpoints_free(char **endpoints, size_t n);
/* The text etcdctl has for an error: "etcdserver: ..." alone, others with their code. */
void ctl_error_text(const struct client_result *result, char *out, size_t size);

typedef int ctl_answer_fn(struct ctl *ctl, const void *response, void *arg);
struct ctl_call {
	const struct client_method *method;
	const ProtobufCMessage *request;
	ctl_answer_fn *answer;		/* its result is the exit status */
	void *arg;
	enum ctl_exit failed;		/* the exit status of an error; 0: CTL_ERROR */
	const char *before, *after;	/* put around the text of an error; NULL: nothing */
};
int ctl_call(struct ctl *ctl, const struct ctl_call *call);

/*
 * kv.c: requests that txn makes too, from a parsed line. 0, or an exit status when the
 * error has been told. What the request points into is the line's, and @owned, which
 * the caller gives back with free(owned->data) in any case.
 */
int ctl_make_get(struct ctl *ctl, const struct ctl_line *line, struct slice *owned,
		 Etcdserverpb__RangeRequest *out);
int ctl_make_put(struct ctl *ctl, const struct ctl_line *line, struct slice *owned,
		 Etcdserverpb__PutRequest *out);
int ctl_make_del(struct ctl *ctl, const struct ctl_line *line, struct slice *owned,
		 Etcdserverpb__DeleteRangeRequest *out);
/* The range that a key, an end and --prefix or --from-key mean, as clientv3 has it. */
struct ctl_range {
	struct slice key, end;
};
int ctl_make_range(const struct ctl_line *line, struct slice *owned, struct ctl_range *out);

/* txn.c */
int ctl_parse_compare(struct ctl *ctl, struct slice line, Etcdserverpb__Compare *out);
void ctl_compare_release(Etcdserverpb__Compare *compare);

/* The run functions. */
int ctl_run_get(struct ctl *ctl);
int ctl_run_put(struct ctl *ctl);
int ctl_run_del(struct ctl *ctl);
int ctl_run_compaction(struct ctl *ctl);
int ctl_run_txn(struct ctl *ctl);
int ctl_run_watch(struct ctl *ctl);
int ctl_run_lease_grant(struct ctl *ctl);
int ctl_run_lease_revoke(struct ctl *ctl);
int ctl_run_lease_timetolive(struct ctl *ctl);
int ctl_run_lease_list(struct ctl *ctl);
int ctl_run_lease_keep_alive(struct ctl *ctl);
int ctl_run_member_list(struct ctl *ctl);
int ctl_run_endpoint_status(struct ctl *ctl);
int ctl_run_endpoint_health(struct ctl *ctl);
int ctl_run_endpoint_hashkv(struct ctl *ctl);
int ctl_run_defrag(struct ctl *ctl);
int ctl_run_alarm_list(struct ctl *ctl);
int ctl_run_alarm_disarm(struct ctl *ctl);
int ctl_run_version(struct ctl *ctl);
int ctl_run_help(struct ctl *ctl);

#endif
