// SPDX-License-Identifier: Apache-2.0

#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kvd/server.h"

#define EXIT_USAGE 2

static int open_logs(const struct kvd_config *config)
{
	const char *bad = "";
	int err;

	log_set_level(config->log_level);
	err = log_open(config->log_outputs, &bad);
	if (err)
		fprintf(stderr, "kvd: cannot write the log to %s: %s; give another --log-outputs\n",
			bad, log_strerror(err));
	return err;
}

/* Every client is a file, and so are 64 MiB of history: what the soft limit is for, programs
 * that use select(), is not done here. */
static void raise_file_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	if (setrlimit(RLIMIT_NOFILE, &limit))
		log_warn("cannot raise the number of open files to its hard limit",
			 LOG_U64("limit", limit.rlim_max), LOG_ERR(-errno));
}

static int run(const struct kvd_config *config)
{
	char *const *unknown = kvd_options_unknown_env(config);
	int code;

	if (open_logs(config))
		return 1;
	for (size_t i = 0; unknown && unknown[i]; i++)
		log_warn("unrecognized environment variable",
			 LOG_STR("environment-variable", unknown[i]));
	raise_file_limit();
	log_info("starting kvd", LOG_STR("version", KVD_VERSION), LOG_STR("name", config->name),
		 LOG_STR("data-dir", config->data_dir));
	code = server_run(config);
	log_close();
	return code;
}

int main(int argc, char **argv)
{
	struct kvd_config config;
	char why[512];
	int code = 0;

	umask(077);
	signal(SIGPIPE, SIG_IGN);
	if (kvd_options_parse(argc, argv, (const char *const *)environ, &config, why,
			      sizeof(why))) {
		fprintf(stderr, "kvd: %s\n", why);
		return EXIT_USAGE;
	}
	if (config.help)
		kvd_print_help(stdout);
	else if (config.version)
		kvd_print_version(stdout);
	else if (config.man)
		kvd_print_man(stdout);
	else
		code = run(&config);
	kvd_options_release(&config);
	return code;
}
