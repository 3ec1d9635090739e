/* SPDX-License-Identifier: Apache-2.0 */
/* kvd/options: etcd's flags, as etcd means them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/bug.h"
#include "kvd/options.h"

#define ARGS_MAX 16

/* Every flag that the server of etcd 3.7.1 has. */
static const char *const etcd_flags[] = {
	"advertise-client-urls", "auth-token", "auth-token-ttl", "auto-compaction-mode",
	"auto-compaction-retention", "auto-tls", "backend-batch-interval",
	"backend-batch-limit", "backend-bbolt-freelist-type", "bcrypt-cost",
	"bootstrap-defrag-threshold-megabytes", "cert-file", "cipher-suites",
	"client-cert-allowed-hostname", "client-cert-auth", "client-cert-file",
	"client-crl-file", "client-key-file", "compact-hash-check-time",
	"compaction-batch-limit", "compaction-sleep-interval", "corrupt-check-time", "cors",
	"data-dir", "discovery", "discovery-cacert", "discovery-cert",
	"discovery-dial-timeout", "discovery-endpoints", "discovery-fallback",
	"discovery-insecure-skip-tls-verify", "discovery-insecure-transport",
	"discovery-keepalive-time", "discovery-keepalive-timeout", "discovery-key",
	"discovery-password", "discovery-proxy", "discovery-request-timeout", "discovery-srv",
	"discovery-srv-name", "discovery-token", "discovery-user",
	"distributed-tracing-address", "distributed-tracing-instance-id",
	"distributed-tracing-sampling-rate", "distributed-tracing-service-name",
	"downgrade-check-time", "election-timeout", "enable-distributed-tracing",
	"enable-grpc-gateway", "enable-log-rotation", "enable-pprof", "feature-gates",
	"force-new-cluster", "grpc-keepalive-interval", "grpc-keepalive-min-time",
	"grpc-keepalive-timeout", "heartbeat-interval", "host-whitelist",
	"initial-advertise-peer-urls", "initial-cluster", "initial-cluster-state",
	"initial-cluster-token", "initial-election-tick-advance", "key-file",
	"listen-client-http-urls", "listen-client-urls", "listen-metrics-urls",
	"listen-peer-urls", "log-format", "log-level", "log-outputs",
	"log-rotation-config-json", "logger", "max-concurrent-streams", "max-learners",
	"max-request-bytes", "max-snapshots", "max-txn-ops", "max-wals", "memory-mlock",
	"metrics", "name", "peer-auto-tls", "peer-cert-allowed-cn",
	"peer-cert-allowed-hostname", "peer-cert-file", "peer-client-cert-auth",
	"peer-client-cert-file", "peer-client-key-file", "peer-crl-file", "peer-key-file",
	"peer-skip-client-san-verification", "peer-trusted-ca-file", "pre-vote",
	"quota-backend-bytes", "raft-read-timeout", "raft-write-timeout",
	"self-signed-cert-validity", "snapshot-catchup-entries", "snapshot-count",
	"socket-reuse-address", "socket-reuse-port", "strict-reconfig-check",
	"tls-max-version", "tls-min-version", "trusted-ca-file", "unsafe-no-fsync",
	"v2-deprecation", "wal-dir", "warning-apply-duration",
	"warning-unary-request-duration", "watch-progress-notify-interval",
};

static int parse_line(const char *line, struct kvd_config *config, char why[512])
{
	static char copy[1024];
	char program[] = "kvd", *argv[ARGS_MAX + 1] = { program }, *rest = copy, *word;
	int argc = 1;

	snprintf(copy, sizeof(copy), "%s", line);
	while ((word = strsep(&rest, " "))) {
		if (!*word)
			continue;
		assert_true(argc < ARGS_MAX);
		argv[argc++] = word;
	}
	return kvd_options_parse(argc, argv, NULL, config, why, 512);
}

static const struct option_def *find(const char *name)
{
	for (const struct option_def *def = kvd_option_defs; def->name; def++)
		if (!strcmp(def->name, name))
			return def;
	return NULL;
}

/* Each flag is known, and its own default is never refused. */
static void test_every_flag_of_etcd_is_known(void **state)
{
	char line[256], why[512];
	struct kvd_config c;

	for (size_t i = 0; i < ARRAY_SIZE(etcd_flags); i++) {
		const struct option_def *def = find(etcd_flags[i]);

		if (!def)
			fail_msg("unknown: --%s", etcd_flags[i]);
		if (def->type != OPTION_UNSUPPORTED || strchr(def->def, ' '))
			continue;
		snprintf(line, sizeof(line), "--%s=%s", def->name, def->def);
		if (parse_line(line, &c, why) < 0)
			fail_msg("%s: %s", line, why);
		kvd_options_release(&c);
		snprintf(line, sizeof(line), "--%s=%s", def->name,
			 strcmp(def->def, "true") ? "true" : "false");
		assert_int_equal(parse_line(line, &c, why), -EOPNOTSUPP);
		snprintf(line, sizeof(line), "--%s is not supported yet: remove it", def->name);
		assert_memory_equal(why, line, strlen(line));
	}
}

static void test_no_flag_is_listed_twice(void **state)
{
	for (const struct option_def *def = kvd_option_defs; def->name; def++)
		assert_ptr_equal(find(def->name), def);
}

static void test_defaults(void **state)
{
	struct kvd_config c;
	char why[512];

	assert_int_equal(parse_line("", &c, why), 0);
	assert_string_equal(c.name, "default");
	assert_string_equal(c.data_dir, "default.etcd");
	assert_string_equal(c.wal_dir, "");
	assert_string_equal(c.log_outputs, "default");
	assert_int_equal(c.log_level, LOG_INFO);
	assert_int_equal(c.listen_client_urls.n, 1);
	assert_string_equal(c.listen_client_urls.texts[0], "http://localhost:2379");
	assert_string_equal(c.listen_client_urls.urls[0].host, "localhost");
	assert_int_equal(c.listen_client_urls.urls[0].port, 2379);
	assert_string_equal(c.advertise_peer_urls.texts[0], "http://localhost:2380");
	assert_int_equal(c.initial_cluster.n, 1);
	assert_string_equal(c.initial_cluster.members[0].name, "default");
	assert_string_equal(c.initial_cluster_token, "etcd-cluster");
	assert_false(c.existing_cluster);
	assert_int_equal(c.heartbeat_ms, 100);
	assert_int_equal(c.election_ms, 1000);
	assert_int_equal(c.snapshot_count, 10000);
	assert_int_equal(c.quota_bytes, INT64_C(2147483648));
	assert_int_equal(c.max_request_bytes, 1572864);
	assert_int_equal(c.max_txn_ops, 128);
	assert_int_equal(c.max_concurrent_streams, UINT32_MAX);
	assert_int_equal(c.watch_progress_notify_ns, INT64_C(600000000000));
	assert_int_equal(c.compaction_retention, 0);
	assert_int_equal(kvd_options_check_first_start(&c, why, sizeof(why)), 0);
	kvd_options_release(&c);
}

static void test_one_of_three(void **state)
{
	static const char line[] =
		"--name=two --data-dir=d --wal-dir=w --quota-backend-bytes=-1 --snapshot-count=0 "
		"--listen-client-urls=http://127.0.0.1:1,unix://s/two.sock "
		"--advertise-client-urls=http://two.example:1 "
		"--listen-peer-urls=http://[::1]:22380 "
		"--initial-advertise-peer-urls=http://b:2,http://a:2 "
		"--initial-cluster-state=existing "
		"--initial-cluster=two=http://a:2,one=http://o:2,two=http://b:2,x=http://x:2";
	struct kvd_config c;
	char why[512];

	assert_int_equal(parse_line(line, &c, why), 0);
	assert_string_equal(c.data_dir, "d");
	assert_int_equal(c.quota_bytes, -1);
	assert_int_equal(c.snapshot_count, 10000);
	assert_true(c.existing_cluster);
	assert_true(c.listen_client_urls.urls[1].local);
	assert_string_equal(c.listen_client_urls.urls[1].host, "s/two.sock");
	assert_string_equal(c.listen_peer_urls.urls[0].host, "::1");
	assert_int_equal(c.listen_peer_urls.urls[0].port, 22380);
	assert_int_equal(c.initial_cluster.n, 3);
	assert_string_equal(c.initial_cluster.members[0].name, "one");
	assert_string_equal(c.initial_cluster.members[1].name, "two");
	assert_string_equal(c.initial_cluster.members[1].peer_urls.texts[0], "http://a:2");
	assert_string_equal(c.initial_cluster.members[1].peer_urls.texts[1], "http://b:2");
	assert_int_equal(kvd_options_check_first_start(&c, why, sizeof(why)), 0);
	kvd_options_release(&c);
}

static void test_compaction(void **state)
{
	static const struct {
		const char *line;
		enum kvd_compaction_mode mode;
		int64_t retention;
	} cases[] = {
		{ "", KVD_COMPACT_PERIODIC, 0 },
		{ "--auto-compaction-retention=1", KVD_COMPACT_PERIODIC, 3600000000000 },
		{ "--auto-compaction-retention=1h", KVD_COMPACT_PERIODIC, 3600000000000 },
		{ "--auto-compaction-retention=5m", KVD_COMPACT_PERIODIC, 300000000000 },
		{ "--auto-compaction-mode=revision --auto-compaction-retention=1000",
		  KVD_COMPACT_REVISION, 1000 },
	};
	struct kvd_config c;
	char why[512];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(parse_line(cases[i].line, &c, why), 0);
		assert_int_equal(c.compaction_mode, cases[i].mode);
		assert_int_equal(c.compaction_retention, cases[i].retention);
		kvd_options_release(&c);
	}
}

static void test_refused(void **state)
{
	static const struct {
		const char *line, *why;
	} cases[] = {
		{ "--listen-client-urls=http://127.0.0.1:1",
		  "--advertise-client-urls is required when --listen-client-urls is set" },
		{ "--listen-peer-urls=https://127.0.0.1:1", "TLS is not supported yet" },
		{ "--listen-peer-urls=unixs://x", "TLS is not supported yet" },
		{ "--listen-peer-urls=ftp://127.0.0.1:1", "the scheme must be http or unix" },
		{ "--listen-peer-urls=127.0.0.1:1", "the scheme must be http or unix" },
		{ "--listen-peer-urls=", "--listen-peer-urls: empty URL" },
		{ "--listen-peer-urls=http://127.0.0.1:1,", "--listen-peer-urls: empty URL" },
		{ "--listen-peer-urls=http://127.0.0.1", "must have the form http://host:port" },
		{ "--listen-peer-urls=http://127.0.0.1:65536", "must have the form" },
		{ "--listen-peer-urls=http://127.0.0.1:1/x", "no path" },
		{ "--listen-peer-urls=http://::1:1", "an IPv6 address stands in brackets" },
		{ "--listen-peer-urls=http://example:1", "must be an IP address or localhost" },
		{ "--listen-peer-urls=http://:1", "has no host" },
		{ "--listen-peer-urls=unix://", "has no path" },
		{ "--initial-cluster=one", "'one' must have the form name=URL" },
		{ "--initial-cluster==http://a:1", "must have the form name=URL" },
		{ "--initial-cluster=a=http://a:1,b=http://a:1", "is given for two members" },
		{ "--initial-cluster-state=old", "must be new or existing" },
		{ "--name=a=b", "must be neither empty nor contain" },
		{ "--heartbeat-interval=300", "should be at least as 5 times as" },
		{ "--heartbeat-interval=0", "--heartbeat-interval=0: must be from 1" },
		{ "--election-timeout=50001", "--election-timeout=50001: must be from 1 to 50000" },
		{ "--auto-compaction-mode=size", "must be periodic or revision" },
		{ "--auto-compaction-mode=revision --auto-compaction-retention=5m",
		  "a number of revisions" },
		{ "--auto-compaction-retention=soon", "must be a time" },
		{ "--auto-compaction-retention=-5m", "must be a time" },
		{ "--log-level=loud", "--log-level=loud: must be debug, info" },
		{ "--enable-pprof", "--enable-pprof is not supported yet: remove it" },
		{ "--cert-file=x", "--cert-file is not supported yet: remove it" },
		{ "--logger=capnslog", "--logger is not supported yet: remove it" },
		{ "--no-such", "flag provided but not defined: -no-such" },
	};
	struct kvd_config c;
	char why[512];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		if (parse_line(cases[i].line, &c, why) >= 0)
			fail_msg("taken: %s", cases[i].line);
		if (!strstr(why, cases[i].why))
			fail_msg("%s: %s", cases[i].line, why);
	}
}

static void test_first_start(void **state)
{
	static const struct {
		const char *line, *why;
	} cases[] = {
		{ "--name=two --initial-cluster=one=http://localhost:2380",
		  "couldn't find local name \"two\"" },
		{ "--initial-cluster=default=http://localhost:2381",
		  "must give default the same URLs as --initial-advertise-peer-urls=" },
		{ "--initial-cluster=default=http://localhost:2380,default=http://localhost:2381",
		  "must give default the same URLs" },
	};
	struct kvd_config c;
	char why[512];

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(parse_line(cases[i].line, &c, why), 0);
		assert_int_equal(kvd_options_check_first_start(&c, why, sizeof(why)), -EINVAL);
		if (!strstr(why, cases[i].why))
			fail_msg("%s: %s", cases[i].line, why);
		kvd_options_release(&c);
	}
}

static void test_help_and_version(void **state)
{
	struct kvd_config c;
	char why[512], *text = NULL;
	size_t size = 0;
	FILE *out;

	/* nothing else is checked */
	assert_int_equal(parse_line("--version --log-level=loud", &c, why), 0);
	assert_true(c.version);
	kvd_options_release(&c);
	out = open_memstream(&text, &size);
	assert_non_null(out);
	kvd_print_version(out);
	kvd_print_help(out);
	kvd_print_man(out);
	assert_int_equal(fclose(out), 0);
	assert_memory_equal(text, "etcd Version: 3.7.1\nGit SHA: ", 29);
	assert_non_null(strstr(text, "\nkvd Version: " KVD_VERSION "\n"));
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_flag_of_etcd_is_known),
		cmocka_unit_test(test_no_flag_is_listed_twice),
		cmocka_unit_test(test_defaults),
		cmocka_unit_test(test_one_of_three),
		cmocka_unit_test(test_compaction),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_first_start),
		cmocka_unit_test(test_help_and_version),
	};

	return cmocka_run_group_tests_name("kvd options", tests, NULL, NULL);
}
