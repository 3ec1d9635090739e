/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What kvd is told on its command line, in ETCD_* variables or in a file: etcd's
 * flags, by name. A flag that kvd does not have yet is known, and refused by name
 * unless it is given the value that says what kvd does anyway.
 *
 *	r = kvd_options_parse(argc, argv, environ, &config, why, sizeof(why));
 *	if (r < 0)
 *		... print why, exit with 2
 *	if (config.help || config.version)
 *		... kvd_print_help(stdout) or kvd_print_version(stdout); exit with 0
 *	if (there is no log under config.data_dir)
 *		kvd_options_check_first_start(&config, why, sizeof(why));
 *	kvd_options_release(&config);
 */
#ifndef KVD_OPTIONS_H
#define KVD_OPTIONS_H

#include <stdio.h>

#include "kvd/urls.h"
#include "lib/log.h"
#include "lib/options.h"

enum kvd_compaction_mode { KVD_COMPACT_PERIODIC, KVD_COMPACT_REVISION };

/* The flags as text, where kvd_config has them in a better form. */
struct kvd_flags {
	const char *config_file;
	const char *data_dir;
	const char *listen_client_urls, *advertise_client_urls;
	const char *listen_peer_urls, *initial_advertise_peer_urls;
	const char *initial_cluster, *initial_cluster_state;
	const char *auto_compaction_mode, *auto_compaction_retention;
	const char *log_level;
};

struct kvd_config {
	bool help, version, man;	/* asked for; nothing else was checked */

	const char *name;
	char *data_dir;
	const char *wal_dir;		/* "": in data_dir */
	const char *log_outputs;
	enum log_level log_level;

	struct kvd_urls listen_client_urls, advertise_client_urls;
	struct kvd_urls listen_peer_urls, advertise_peer_urls;
	struct kvd_first_members initial_cluster;
	const char *initial_cluster_token;
	bool existing_cluster;		/* --initial-cluster-state=existing */

	int64_t heartbeat_ms, election_ms;
	int64_t snapshot_count;
	bool unsafe_no_fsync;

	int64_t quota_bytes;		/* negative: no quota; never 0 */
	int64_t cache_bytes;
	int64_t max_request_bytes;
	int64_t max_txn_ops;
	int64_t max_concurrent_streams;
	int64_t watch_progress_notify_ns, corrupt_check_ns;
	enum kvd_compaction_mode compaction_mode;
	int64_t compaction_retention;	/* ns or revisions; 0: no automatic compaction */

	struct kvd_flags flags;
	struct options *options;	/* owns the strings */
};

/* The table, for those who list the flags. */
extern const struct option_def kvd_option_defs[];

/* On failure there is nothing to release. */
int kvd_options_parse(int argc, char **argv, const char *const *environ_,
		      struct kvd_config *config, char *why, size_t why_size);
void kvd_options_release(struct kvd_config *config);

/* What must hold where the member starts without a log of its own: the initial
 * cluster has this member, at the peer URLs that it advertises. As in etcd the flag
 * means nothing later. */
int kvd_options_check_first_start(const struct kvd_config *config, char *why, size_t why_size);

/* ETCD_* variables that mean nothing, for a warning; terminated by NULL. */
char *const *kvd_options_unknown_env(const struct kvd_config *config);

/* The level of the API that is served. */
#define API_VERSION "3.7.1"

void kvd_print_help(FILE *out);
void kvd_print_man(FILE *out);
void kvd_print_version(FILE *out);

#endif
