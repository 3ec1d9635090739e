// SPDX-License-Identifier: Apache-2.0
/* Mount the keys of a cluster: connect, read, mount, serve, unmount. */
#include <errno.h>
#include <stdio.h>
#include <sys/prctl.h>

#include "etcfs/etcfs_i.h"
#include "etcfs/standalone.h"
#include "lib/log.h"

#define ENDPOINTS_MAX 64
#define WHY_MAX 512

static int fail(const char *why)
{
	fprintf(stderr, "etcfs: %s\n", why);
	return 1;
}

/* --- the prefix and the client -------------------------------------------------------- */

static char *concat(const char *a, const char *b)
{
	size_t n = strlen(a) + strlen(b) + 1;
	char *s = malloc(n);

	if (s)
		snprintf(s, n, "%s%s", a, b);
	return s;
}

static int set_prefix(struct fs *fs)
{
	const char *prefix = fs->config->prefix;
	size_t len = strlen(prefix);

	fs->prefix = concat(prefix, len && prefix[len - 1] != '/' ? "/" : "");
	fs->lead_file = fs->prefix ? concat(fs->prefix, META_FILE) : NULL;
	fs->lead_dir = fs->prefix ? concat(fs->prefix, META_DIR) : NULL;
	return fs->lead_file && fs->lead_dir ? 0 : -ENOMEM;
}

static int connect_to(struct fs *fs, const char *endpoints, char *why, size_t why_size)
{
	const char *list[ENDPOINTS_MAX];
	struct client_config config = {
		.loop = fs->loop, .endpoints = list,
		.dial_timeout_ms = (unsigned)MILLISECONDS(fs->config->dial_timeout),
		.timeout_ms = (unsigned)MILLISECONDS(fs->config->timeout),
	};
	char *copy = strdup(endpoints), *rest = copy, *one;
	int err;

	if (!copy) {
		snprintf(why, why_size, "no memory");
		return -ENOMEM;
	}
	while ((one = strsep(&rest, ",")))
		if (*one && config.n_endpoints < ENDPOINTS_MAX)
			list[config.n_endpoints++] = one;
	err = client_new(&config, &fs->client, why, why_size);
	free(copy);
	return err;
}

/* --- loading ----------------------------------------------------------------------------- */

struct start {
	int err;
	char why[WHY_MAX];
};

static void on_loaded(struct fs *fs, int err, const char *why)
{
	struct start *start = uv_loop_get_data(fs->loop);

	start->err = err;
	snprintf(start->why, sizeof(start->why), "%s cannot be read: %s",
		 client_endpoint(fs->client), *why ? why : log_strerror(err));
	uv_stop(fs->loop);
}

static int load(struct fs *fs, char *why, size_t why_size)
{
	struct start start = { .err = -EINPROGRESS };
	int err;

	uv_loop_set_data(fs->loop, &start);
	err = sync_start(fs, on_loaded);
	while (!err && start.err == -EINPROGRESS)
		uv_run(fs->loop, UV_RUN_DEFAULT);
	if (!err)
		err = start.err;
	if (err)
		snprintf(why, why_size, "%s", start.why);
	return err;
}

/* --- the whole ----------------------------------------------------------------------------- */

static void on_closed(void *arg)
{
}

static void release(struct fs *fs)
{
	mount_release(fs);
	askers_stop(fs);
	if (fs->client)
		client_close(fs->client, on_closed, NULL);
	/* until the last handle is closed */
	while (uv_run(fs->loop, UV_RUN_DEFAULT))
		;
	tree_release(&fs->tree);
	free(fs->prefix);
	free(fs->lead_file);
	free(fs->lead_dir);
}

static int serve(struct fs *fs, const char *endpoints, char *why, size_t why_size)
{
	const struct config *config = fs->config;
	const struct attr_defaults defaults = {
		.uid = config->uid, .gid = config->gid, .umask = config->umask,
		.meta = config->meta,
	};
	int err;

	askers_start(fs);
	list_init(&fs->ops);
	list_init(&fs->handles);
	list_init(&fs->dir_handles);
	fs->mount.mountinfo_fd = -1;
	err = set_prefix(fs);
	if (!err)
		err = tree_init(&fs->tree, &defaults);
	if (err) {
		snprintf(why, why_size, "no memory");
		return err;
	}
	err = connect_to(fs, endpoints, why, why_size);
	if (err)
		goto release;
	err = echo_start(fs);
	if (!err)
		err = load(fs, why, why_size);
	if (!err)
		err = mount_start(fs, config->mountpoint, why, why_size);
	if (!err)
		uv_run(fs->loop, UV_RUN_DEFAULT);
	fs->sync.lost = true;		/* what is left now stays unwritten */
	handles_release(fs);
	dirs_release(fs);
	echo_stop(fs);
	sync_stop(fs);
release:
	release(fs);
	return err;
}

static int run(const struct config *config)
{
	struct fs fs = { .config = config };
	struct standalone *standalone = NULL;
	char why[WHY_MAX] = "";
	uv_loop_t loop;
	int err = mount_check(why, sizeof(why));

	if (!err && *config->standalone)
		err = standalone_start(config, &standalone, why, sizeof(why));
	if (err)
		return fail(why);
	if (uv_loop_init(&loop)) {
		standalone_stop(standalone);
		return fail("no event loop");
	}
	fs.loop = &loop;
	err = serve(&fs, standalone ? standalone_endpoint(standalone) : config->endpoints, why,
		    sizeof(why));
	uv_loop_close(&loop);
	standalone_stop(standalone);
	return err ? fail(why) : fs.exit_code;
}

int main(int argc, char **argv)
{
	struct options *options = NULL;
	struct config config;
	enum log_level level;
	char why[WHY_MAX] = "";
	int err = config_parse(argc, argv, &config, &options, why, sizeof(why)), code = 0;

	if (!err && !config.help && !config.version && !config.man &&
	    log_level_parse(config.log_level, &level)) {
		snprintf(why, sizeof(why), "--log-level=%s: not a level", config.log_level);
		err = -EINVAL;
	}
	if (err) {
		fprintf(stderr, "etcfs: %s\nTry 'etcfs --help'.\n", why);
		options_free(options);
		return 2;
	}
	if (config.help) {
		config_print_help();
	} else if (config.version) {
		config_print_version();
	} else if (config.man) {
		config_print_man();
	} else {
		log_set_level(level);
		/* the kernel writes a core only when every thread has stopped, and a helper
		 * that waits for us does not: a crash would hang the mount */
		prctl(PR_SET_DUMPABLE, 0);
		signal(SIGPIPE, SIG_IGN);
		code = run(&config);
	}
	options_free(options);
	return code;
}
