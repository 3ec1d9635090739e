/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of etcfs. */
#ifndef ETCFS_OPTIONS_H
#define ETCFS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/options.h"

/* A value that every etcd takes, with its key and the rest of the request. */
#define FILE_SIZE_MAX 1468006		/* 1.4 MiB */

struct config {
	const char *endpoints, *prefix;
	const char *uid_text, *gid_text, *umask_text, *meta_text;
	bool allow_other;
	int64_t max_file_size;
	int64_t timeout, dial_timeout;	/* nanoseconds */
	const char *standalone, *kvd, *log_level;
	bool help, version, man;

	/* from the texts */
	uid_t uid;
	gid_t gid;
	mode_t umask;
	bool meta;
	const char *mountpoint;
	char data_dir[4096];		/* standalone, where it was not given */
};

/* 0, or a negative errno and why. The strings live as long as @options. */
int config_parse(int argc, char **argv, struct config *config, struct options **options,
		 char *why, size_t why_size);
void config_print_help(void);
void config_print_version(void);
/* docs/etcfs.8 */
void config_print_man(void);

#endif
