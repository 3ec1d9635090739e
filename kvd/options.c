/* SPDX-License-Identifier: Apache-2.0 */
#include "kvd/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "include/bug.h"

#define ENV_PREFIX "ETCD_"

#define DEFAULT_SNAPSHOT_COUNT 10000
#define DEFAULT_QUOTA_BYTES (INT64_C(2) << 30)
#define NS_PER_HOUR INT64_C(3600000000000)

/* Where the reason of a failure goes. */
struct why {
	char *text;
	size_t size;
};

static __printf(3, 4) int fail(struct why why, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(why.text, why.size, fmt, args);
	va_end(args);
	return err;
}

static int read_urls(struct kvd_config *c, struct why why)
{
	const struct {
		const char *flag, *text;
		enum kvd_url_use use;
		struct kvd_urls *out;
	} lists[] = {
		{ "listen-client-urls", c->flags.listen_client_urls, KVD_URL_LISTEN,
		  &c->listen_client_urls },
		{ "listen-peer-urls", c->flags.listen_peer_urls, KVD_URL_LISTEN,
		  &c->listen_peer_urls },
		{ "advertise-client-urls", c->flags.advertise_client_urls, KVD_URL_ADVERTISE,
		  &c->advertise_client_urls },
		{ "initial-advertise-peer-urls", c->flags.initial_advertise_peer_urls,
		  KVD_URL_ADVERTISE, &c->advertise_peer_urls },
	};

	for (size_t i = 0; i < ARRAY_SIZE(lists); i++) {
		const struct kvd_urls_args args = {
			.flag = lists[i].flag, .use = lists[i].use,
			.why = why.text, .why_size = why.size,
		};
		int r = kvd_urls_parse(lists[i].text, &args, lists[i].out);

		if (r < 0)
			return r;
	}
	return 0;
}

/* Without --initial-cluster the cluster is this member alone, at the peer URLs that
 * it advertises. */
static char *own_cluster(const struct kvd_config *c)
{
	char *text = NULL;
	size_t size = 0;
	FILE *out = open_memstream(&text, &size);

	if (!out)
		return NULL;
	for (size_t i = 0; i < c->advertise_peer_urls.n; i++)
		fprintf(out, "%s%s=%s", i ? "," : "", c->name, c->advertise_peer_urls.texts[i]);
	if (fclose(out)) {
		free(text);
		return NULL;
	}
	return text;
}

static int read_cluster(struct kvd_config *c, struct why why)
{
	const struct kvd_urls_args args = {
		.flag = "initial-cluster", .use = KVD_URL_ADVERTISE,
		.why = why.text, .why_size = why.size,
	};
	const char *state = c->flags.initial_cluster_state;
	char *own;
	int r;

	if (!*c->name || strpbrk(c->name, "=,"))
		return fail(why, -EINVAL,
			    "--name=%s: must be neither empty nor contain '=' or ','", c->name);
	if (strcmp(state, "new") && strcmp(state, "existing"))
		return fail(why, -EINVAL, "--initial-cluster-state=%s: must be new or existing",
			    state);
	c->existing_cluster = !strcmp(state, "existing");
	if (*c->flags.initial_cluster)
		return kvd_first_members_parse(c->flags.initial_cluster, &args,
					       &c->initial_cluster);
	own = own_cluster(c);
	if (!own)
		return fail(why, -ENOMEM, "out of memory");
	r = kvd_first_members_parse(own, &args, &c->initial_cluster);
	free(own);
	return r;
}

/* As etcd: the default of what is advertised is wrong as soon as kvd listens
 * somewhere else. A file is taken as it is. */
static int check_advertised(const struct kvd_config *c, struct why why)
{
	if (*c->flags.config_file || !options_given(c->options, "listen-client-urls") ||
	    options_given(c->options, "advertise-client-urls"))
		return 0;
	return fail(why, -EINVAL,
		    "--advertise-client-urls is required when --listen-client-urls is set "
		    "explicitly");
}

static int check_times(const struct kvd_config *c, struct why why)
{
	if (5 * c->heartbeat_ms > c->election_ms)
		return fail(why, -EINVAL,
			    "--election-timeout[%jdms] should be at least as 5 times as "
			    "--heartbeat-interval[%jdms]",
			    (intmax_t)c->election_ms, (intmax_t)c->heartbeat_ms);
	return 0;
}

/* True, and the value in @out, where @text is a bare whole number. */
static bool whole_number(const char *text, int64_t *out)
{
	int64_t v = 0;

	if (!*text)
		return false;
	for (; *text; text++)
		if (*text < '0' || *text > '9' || __builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, *text - '0', &v))
			return false;
	*out = v;
	return true;
}

static int read_compaction(struct kvd_config *c, struct why why)
{
	const char *mode = c->flags.auto_compaction_mode;
	const char *text = c->flags.auto_compaction_retention;
	int64_t v;

	if (!strcmp(mode, "revision")) {
		c->compaction_mode = KVD_COMPACT_REVISION;
		if (!whole_number(text, &c->compaction_retention))
			return fail(why, -EINVAL,
				    "--auto-compaction-retention=%s: with "
				    "--auto-compaction-mode=revision a number of revisions", text);
		return 0;
	}
	if (strcmp(mode, "periodic"))
		return fail(why, -EINVAL,
			    "--auto-compaction-mode=%s: must be periodic or revision", mode);
	c->compaction_mode = KVD_COMPACT_PERIODIC;
	if (whole_number(text, &v) && !__builtin_mul_overflow(v, NS_PER_HOUR, &v)) {
		c->compaction_retention = v;
		return 0;
	}
	if (option_parse_duration(text, &v) < 0 || v < 0)
		return fail(why, -EINVAL,
			    "--auto-compaction-retention=%s: must be a time, such as 5m or 12h, "
			    "or a number of hours", text);
	c->compaction_retention = v;
	return 0;
}

static int read_rest(struct kvd_config *c, struct why why)
{
	const char *level = c->flags.log_level;
	const char *dir = c->flags.data_dir;

	if (log_level_parse(level, &c->log_level) < 0)
		return fail(why, -EINVAL, "--log-level=%s: must be debug, info, warn, error, "
			    "panic or fatal", level);
	if ((*dir ? asprintf(&c->data_dir, "%s", dir) :
		    asprintf(&c->data_dir, "%s.etcd", c->name)) < 0) {
		c->data_dir = NULL;
		return fail(why, -ENOMEM, "out of memory");
	}
	if (!c->quota_bytes)
		c->quota_bytes = DEFAULT_QUOTA_BYTES;
	if (!c->snapshot_count)
		c->snapshot_count = DEFAULT_SNAPSHOT_COUNT;
	return 0;
}

static int read_all(struct kvd_config *c, struct why why)
{
	int r = read_urls(c, why);

	if (r == 0)
		r = read_cluster(c, why);
	if (r == 0)
		r = check_advertised(c, why);
	if (r == 0)
		r = check_times(c, why);
	if (r == 0)
		r = read_compaction(c, why);
	if (r == 0)
		r = read_rest(c, why);
	return r;
}

int kvd_options_parse(int argc, char **argv, const char *const *environ_,
		      struct kvd_config *config, char *why, size_t why_size)
{
	const struct options_args args = {
		.defs = kvd_option_defs,
		.config = config,
		.env_prefix = ENV_PREFIX,
		.argc = argc,
		.argv = argv,
		.environ_ = environ_,
		.config_file_option = "config-file",
	};
	int r;

	*config = (struct kvd_config){ 0 };
	r = options_parse(&args, &config->options, why, why_size);
	if (r < 0)
		return r;
	if (config->help || config->version || config->man)
		return 0;
	r = read_all(config, (struct why){ why, why_size });
	if (r < 0)
		kvd_options_release(config);
	return r;
}

void kvd_options_release(struct kvd_config *config)
{
	kvd_urls_release(&config->listen_client_urls);
	kvd_urls_release(&config->listen_peer_urls);
	kvd_urls_release(&config->advertise_client_urls);
	kvd_urls_release(&config->advertise_peer_urls);
	kvd_first_members_release(&config->initial_cluster);
	free(config->data_dir);
	options_free(config->options);
	*config = (struct kvd_config){ 0 };
}

int kvd_options_check_first_start(const struct kvd_config *config, char *why, size_t why_size)
{
	const struct kvd_first_member *self =
		kvd_first_member_find(&config->initial_cluster, config->name);
	const struct why w = { why, why_size };

	if (!self)
		return fail(w, -EINVAL,
			    "--name=%s: couldn't find local name \"%s\" in the initial cluster "
			    "configuration --initial-cluster=%s", config->name, config->name,
			    config->flags.initial_cluster);
	if (!kvd_urls_equal(&self->peer_urls, &config->advertise_peer_urls))
		return fail(w, -EINVAL,
			    "--initial-cluster=%s must give %s the same URLs as "
			    "--initial-advertise-peer-urls=%s", config->flags.initial_cluster,
			    config->name, config->flags.initial_advertise_peer_urls);
	return 0;
}

char *const *kvd_options_unknown_env(const struct kvd_config *config)
{
	return options_unknown_env(config->options);
}

void kvd_print_help(FILE *out)
{
	fputs("Usage: kvd [OPTION]...\n"
	      "Runs one member of a cluster that serves the etcd v3 API.\n\n", out);
	options_print_help(kvd_option_defs, ENV_PREFIX, out);
}

static const char man_head[] =
	".TH KVD 8\n"
	".SH NAME\n"
	"kvd \\- a member of a distributed, consistent key-value store\n"
	".SH SYNOPSIS\n"
	".B kvd\n"
	"[\\fIOPTION\\fR]...\n"
	".SH DESCRIPTION\n"
	"kvd runs one member that serves the etcd v3 API: gRPC, and over HTTP/1.1 on the\n"
	"same ports /health, /livez, /readyz, /version and /metrics. It stays in the\n"
	"foreground, writes one JSON object a line as its log, tells systemd when it is\n"
	"ready, and ends in order on SIGTERM and SIGINT.\n"
	".PP\n"
	"Options are etcd's, by name. Each can also be set in the environment, as ETCD_NAME,\n"
	"or in a YAML file. A flag of etcd's that kvd does not have yet is refused by name,\n"
	"unless it is given the value that says what kvd does anyway.\n";

static const char man_tail[] =
	".SH FILES\n"
	".TP\n"
	".I DATA-DIR/member/wal\n"
	"The log, in etcd's format. A put is acknowledged when it is here and synced.\n"
	".TP\n"
	".I DATA-DIR/member/kv\n"
	"The store: a Berkeley DB environment.\n"
	".SH EXIT STATUS\n"
	"0: ended by a signal, in order. 1: it could not start, or a disk failed; standard\n"
	"error and the log say what and why. 2: the options were wrong.\n"
	".SH SEE ALSO\n"
	".BR kvctl (1),\n"
	".BR etcfs (8)\n";

void kvd_print_man(FILE *out)
{
	fputs(man_head, out);
	options_print_man(kvd_option_defs, ENV_PREFIX, out);
	fputs(man_tail, out);
}
