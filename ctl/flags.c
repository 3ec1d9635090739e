// SPDX-License-Identifier: Apache-2.0
/*
 * The options: the tables, from which --help and the manual are made too, and what
 * kvctl adds to lib/options: the short forms, words with any byte in them, and an
 * environment that etcdctl's users have set already.
 */
#include "ctl/ctl.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

#define HOUR_NS (3600 * INT64_C(1000000000))

#define STRING(n, d, a, h, m)	OPT_STRING(n, d, a, h, struct ctl_options, m)
#define BOOL(n, h, m)		OPT_BOOL(n, "false", h, struct ctl_options, m)
#define REVISION(n, h, m)	OPT_INT(n, "0", "REVISION", h, 0, 0, struct ctl_options, m)
#define TIME(n, d, h, m)	OPT_DURATION(n, d, h, 0, 1000 * HOUR_NS, struct ctl_options, m)

const struct option_def ctl_common_options[] = {
	STRING("endpoints", "127.0.0.1:2379", "URL,...",
	       "members to talk to, divided by commas: host:port, http://host:port or "
	       "unix://path; the next is tried when one does not answer", endpoints),
	STRING("write-out", "simple", "FORMAT",
	       "output format: simple, fields, json, protobuf or table; -w for short", write_out),
	BOOL("hex", "print bytes and identifiers in hexadecimal", hex),
	TIME("dial-timeout", "2s", "how long to wait for a connection", dial_timeout),
	TIME("command-timeout", "5s", "how long a command may take", command_timeout),
	OPT_ACTION("help", "tell about the command; -h for short", struct ctl_options, help),
	OPT_IGNORED("debug", "false", NULL, NULL),
	OPT_IGNORED("keepalive-time", "2s", "TIME", NULL),
	OPT_IGNORED("keepalive-timeout", "6s", "TIME", NULL),
	OPT_IGNORED("max-request-bytes", "0", "BYTES", NULL),
	OPT_IGNORED("max-recv-bytes", "0", "BYTES", NULL),
	OPT_UNSUPPORTED("insecure-transport", "true", NULL),
	OPT_UNSUPPORTED("insecure-skip-tls-verify", "false", NULL),
	OPT_UNSUPPORTED("insecure-discovery", "true", NULL),
	OPT_UNSUPPORTED("cert", "", "FILE"),
	OPT_UNSUPPORTED("key", "", "FILE"),
	OPT_UNSUPPORTED("cacert", "", "FILE"),
	OPT_UNSUPPORTED("auth-jwt-token", "", "TOKEN"),
	OPT_UNSUPPORTED("user", "", "NAME[:PASSWORD]"),
	OPT_UNSUPPORTED("password", "", "PASSWORD"),
	OPT_UNSUPPORTED("discovery-srv", "", "DOMAIN"),
	OPT_UNSUPPORTED("discovery-srv-name", "", "NAME"),
	{ 0 }
};

const struct option_def ctl_get_options[] = {
	BOOL("prefix", "get the keys that begin with the key", prefix),
	BOOL("from-key", "get the keys that are not less than the key, bytewise", from_key),
	OPT_INT("limit", "0", "N", "at most this many; 0 is all", 0, 0, struct ctl_options, limit),
	REVISION("rev", "as of this revision; 0 is the latest", rev),
	STRING("order", "", "ORDER", "order of the results: ASCEND or DESCEND", order),
	STRING("sort-by", "", "WHAT", "what to sort by: CREATE, KEY, MODIFY, VALUE or VERSION",
	       sort_by),
	BOOL("keys-only", "get only the keys", keys_only),
	BOOL("count-only", "get only the count; needs --write-out=fields", count_only),
	BOOL("print-value-only", "print only the values; needs --write-out=simple",
	     print_value_only),
	STRING("consistency", "l", "MODE",
	       "l: linearizable, through a quorum; s: serializable, from one member", consistency),
	REVISION("min-create-rev", "only keys created at this revision or later", min_create_rev),
	REVISION("max-create-rev", "only keys created at this revision or before", max_create_rev),
	REVISION("min-mod-rev", "only keys modified at this revision or later", min_mod_rev),
	REVISION("max-mod-rev", "only keys modified at this revision or before", max_mod_rev),
	{ 0 }
};

const struct option_def ctl_put_options[] = {
	STRING("lease", "0", "ID", "lease to attach the key to, in hexadecimal", lease),
	BOOL("prev-kv", "print the key and value there were before", prev_kv),
	BOOL("ignore-value", "keep the value the key has", ignore_value),
	BOOL("ignore-lease", "keep the lease the key has", ignore_lease),
	{ 0 }
};

const struct option_def ctl_del_options[] = {
	BOOL("prefix", "delete the keys that begin with the key", prefix),
	BOOL("from-key", "delete the keys that are not less than the key, bytewise", from_key),
	BOOL("prev-kv", "print the keys and values that were deleted", prev_kv),
	BOOL("range", "delete a range of keys without the two seconds to think it over", range),
	{ 0 }
};

const struct option_def ctl_txn_options[] = {
	BOOL("interactive", "say what is asked for; -i for short", interactive),
	{ 0 }
};

const struct option_def ctl_watch_options[] = {
	BOOL("prefix", "watch the keys that begin with the key", prefix),
	REVISION("rev", "from this revision on; 0 is from now on", rev),
	BOOL("prev-kv", "print the key and value there were before", prev_kv),
	BOOL("progress-notify", "print the revision now and then while nothing happens",
	     progress_notify),
	BOOL("interactive", "read watch and progress commands from standard input; -i for short",
	     interactive),
	{ 0 }
};

const struct option_def ctl_compaction_options[] = {
	BOOL("physical", "wait until the old revisions are gone from the disk", physical),
	{ 0 }
};

const struct option_def ctl_timetolive_options[] = {
	BOOL("keys", "print the keys attached to the lease", keys),
	{ 0 }
};

const struct option_def ctl_keep_alive_options[] = {
	BOOL("once", "renew it once and exit", once),
	{ 0 }
};

const struct option_def ctl_member_list_options[] = {
	STRING("consistency", "l", "MODE",
	       "l: linearizable, through a quorum; s: serializable, from one member", consistency),
	{ 0 }
};

const struct option_def ctl_endpoint_options[] = {
	BOOL("cluster", "ask every member of the cluster, as its member list names them", cluster),
	{ 0 }
};

const struct option_def ctl_hashkv_options[] = {
	BOOL("cluster", "ask every member of the cluster, as its member list names them", cluster),
	REVISION("rev", "hash what there is up to this revision; 0 is the latest", rev),
	{ 0 }
};

const struct option_def ctl_help_options[] = {
	OPT_ACTION("man", "print the manual page", struct ctl_options, man),
	{ 0 }
};

/* --- short options -------------------------------------------------------------- */

static const struct { char letter; bool takes_value; const char *name; } short_options[] = {
	{ 'w', true, "write-out" }, { 'h', false, "help" }, { 'i', false, "interactive" },
};

const struct option_def *ctl_common_option(const char *word, bool *takes_next)
{
	const char *name = word;
	size_t len;

	*takes_next = false;
	for (size_t i = 0; i < ARRAY_SIZE(short_options); i++) {
		if (word[0] != '-' || word[1] != short_options[i].letter)
			continue;
		name = short_options[i].name;
		*takes_next = short_options[i].takes_value && !word[2];
	}
	if (name == word)
		name += word[0] != '-' ? 0 : word[1] == '-' ? 2 : 1;
	len = strcspn(name, "=");
	for (const struct option_def *def = ctl_common_options; def->name; def++) {
		if (strlen(def->name) != len || memcmp(def->name, name, len))
			continue;
		if (name[len] != '=' && word[1] == '-')
			*takes_next = def->arg;
		return def;
	}
	return NULL;
}

/* "-wjson" as "--write-out=json", "-w" as "--write-out"; NULL: no short option. */
static char *expand_short(const char *word)
{
	char *long_form;

	for (size_t i = 0; i < ARRAY_SIZE(short_options); i++) {
		const char *value = word + 2;

		if (word[0] != '-' || word[1] != short_options[i].letter)
			continue;
		if (*value && !short_options[i].takes_value)
			continue;
		value += *value == '=';
		if (asprintf(&long_form, "--%s%s%s", short_options[i].name, word[2] ? "=" : "",
			     value) < 0)
			return NULL;
		return long_form;
	}
	return NULL;
}

/* --- words with any byte -------------------------------------------------------- */

/*
 * lib/options takes C strings. A zero byte is handed through it as C0 80, and C0 as
 * C0 C0, which no text in UTF-8 contains; the operands are decoded afterwards.
 */
static char *encode_word(struct slice word)
{
	char *text = malloc(2 * word.len + 1), *p = text;

	if (!text)
		return NULL;
	for (size_t i = 0; i < word.len; i++) {
		uint8_t byte = word.data[i];

		if (!byte || byte == 0xc0)
			*p++ = (char)0xc0;
		*p++ = (char)(byte ? byte : 0x80);
	}
	*p = '\0';
	return text;
}

static size_t decode_word(char *text)
{
	uint8_t *in = (uint8_t *)text, *out = in;

	for (; *in; in++) {
		if (*in == 0xc0) {
			in++;
			*out++ = *in == 0x80 ? 0 : 0xc0;
		} else {
			*out++ = *in;
		}
	}
	return (size_t)(out - (uint8_t *)text);
}

/* --- the environment ------------------------------------------------------------ */

/* "PREFIX_NAME" for an option. */
static void env_name(const char *prefix, const char *option, char out[64])
{
	BUG_ON(snprintf(out, 64, "%s%s", prefix, option) >= 64);
	for (char *p = out; *p; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

static const char *env_value(char *const *environ_, const char *prefix, const char *option)
{
	char name[64];
	size_t n;

	env_name(prefix, option, name);
	n = strlen(name);
	for (; *environ_; environ_++)
		if (!strncmp(*environ_, name, n) && (*environ_)[n] == '=' && (*environ_)[n + 1])
			return *environ_ + n + 1;
	return NULL;
}

/*
 * What lib/options is to see: for each option that every command has the value of
 * KVCTL_X, or where that is not set that of ETCDCTL_X, under the latter name.
 */
static int env_choose(char *const *environ_, char **out)
{
	char name[64];

	for (const struct option_def *def = ctl_common_options; def->name; def++) {
		const char *value = env_value(environ_, "KVCTL_", def->name);

		if (!value)
			value = env_value(environ_, "ETCDCTL_", def->name);
		if (!value || def->argv_only)
			continue;
		env_name("ETCDCTL_", def->name, name);
		if (asprintf(out, "%s=%s", name, value) < 0)
			return -ENOMEM;
		out++;
	}
	return 0;
}

/* --- all together --------------------------------------------------------------- */

struct parse {
	struct option_def defs[CTL_OPTIONS_MAX];
	char *env[CTL_OPTIONS_MAX];	/* owned, NULL at the end */
	char **argv;			/* owned, each and all; argv[0] is NULL */
	int argc;
};

static void parse_add_defs(struct parse *parse, const struct option_def *defs, size_t *n)
{
	for (; defs && defs->name; defs++) {
		BUG_ON(*n + 1 >= CTL_OPTIONS_MAX);
		parse->defs[(*n)++] = *defs;
	}
}

/* Options end at "--", and what follows is not expanded. */
static int parse_add_words(struct parse *parse, const struct ctl_args *words)
{
	bool only_operands = false;

	parse->argv = calloc(words->n + 2, sizeof(*parse->argv));
	if (!parse->argv)
		return -ENOMEM;
	parse->argc = 1;
	for (size_t i = 0; i < words->n; i++) {
		char *word = encode_word(words->at[i]), *expanded;

		if (!word)
			return -ENOMEM;
		only_operands |= !strcmp(word, "--");
		expanded = only_operands ? NULL : expand_short(word);
		if (expanded)
			free(word);
		parse->argv[parse->argc++] = expanded ?: word;
	}
	return 0;
}

static void parse_release(struct parse *parse)
{
	for (size_t i = 0; parse->env[i]; i++)
		free(parse->env[i]);
	for (int i = 1; i < parse->argc; i++)
		free(parse->argv[i]);
	free(parse->argv);
}

/* The operands, decoded where they stand in line->parsed. */
static int line_take_operands(struct ctl_line *line)
{
	char *const *operands = options_operands(line->parsed);
	size_t n = 0;

	while (operands[n])
		n++;
	line->args = (struct ctl_args){ .at = calloc(n + 1, sizeof(*line->args.at)), .n = n };
	if (!line->args.at)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		line->args.at[i] = slice_of(operands[i], decode_word(operands[i]));
	return 0;
}

int ctl_parse(const struct ctl_parse_args *args, struct ctl_line *out, char *why, size_t why_size)
{
	struct parse parse = { 0 };
	struct options_args options = {
		.defs = parse.defs, .config = &out->opt, .env_prefix = "ETCDCTL_",
		.environ_ = (const char *const *)parse.env, .operands = true,
	};
	size_t n = 0;
	int err;

	*out = (struct ctl_line){ 0 };
	snprintf(why, why_size, "out of memory");
	if (args->common)
		parse_add_defs(&parse, ctl_common_options, &n);
	parse_add_defs(&parse, args->command->options, &n);
	err = parse_add_words(&parse, args->words);
	if (!err && args->environ_)
		err = env_choose(args->environ_, parse.env);
	options.argc = parse.argc;
	options.argv = parse.argv;
	if (!err)
		err = options_parse(&options, &out->parsed, why, why_size);
	if (!err)
		err = line_take_operands(out);
	parse_release(&parse);
	if (err)
		ctl_line_release(out);
	return err;
}

void ctl_line_release(struct ctl_line *line)
{
	free(line->args.at);
	options_free(line->parsed);
	*line = (struct ctl_line){ 0 };
}
