// SPDX-License-Identifier: Apache-2.0
#include "etcfs/options.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "include/bug.h"

#define ENV_PREFIX "ETCFS_"

static const struct option_def defs[] = {
	OPT_STRING("endpoints", "http://127.0.0.1:2379", "URL,...",
		   "where the cluster is reached: http://host:port, host:port or unix://path",
		   struct config, endpoints),
	OPT_STRING("prefix", "/", "KEY",
		   "the keys to show, without the prefix itself; a slash is added at its end; "
		   "empty for all keys", struct config, prefix),
	OPT_STRING("uid", "", "UID", "the owner of what has no owner of its own; "
		   "by default who runs etcfs", struct config, uid_text),
	OPT_STRING("gid", "", "GID", "the group likewise", struct config, gid_text),
	OPT_STRING("umask", "022", "MASK", "octal; the mode of what has none of its own is "
		   "0666, or 0777 for directories, without these bits",
		   struct config, umask_text),
	OPT_STRING("meta", "full", "full|none",
		   "full: mode, owner, times, links and special files are kept in keys below "
		   "PREFIX.etcfs/meta/; none: they cannot be set", struct config, meta_text),
	OPT_BOOL("allow-other", "false", "other users may use the mount, as far as the modes "
		 "let them", struct config, allow_other),
	OPT_INT("max-file-size", "1048576", "BYTES", "what is larger is refused with EFBIG",
		1, FILE_SIZE_MAX, struct config, max_file_size),
	OPT_DURATION("timeout", "5s", "how long a change waits for the cluster",
		     INT64_C(10000000), INT64_C(3600000000000), struct config, timeout),
	OPT_DURATION("dial-timeout", "2s", "how long to wait for a connection before "
		     "the next endpoint is tried", INT64_C(10000000), INT64_C(3600000000000),
		     struct config, dial_timeout),
	OPT_STRING("standalone", "", "DIR", "run a private member of its own with its data in "
		   "this directory, for as long as the mount lasts; without a MOUNTPOINT it is "
		   "mounted at DIR, and the data is in DIR.kvd", struct config, standalone),
	OPT_STRING("kvd", "", "PROGRAM", "the member to run with --standalone; by default the "
		   "kvd beside etcfs, or in PATH", struct config, kvd),
	OPT_STRING("log-level", "warn", "LEVEL", "debug, info, warn or error; log lines go to "
		   "standard error", struct config, log_level),
	OPT_ACTION("help", "print this help", struct config, help),
	OPT_ACTION("version", "print the version", struct config, version),
	OPT_ACTION("man", "print the man page", struct config, man),
	{ 0 }
};

static __printf(3, 4) int fail(char *why, size_t size, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(why, size, fmt, args);
	va_end(args);
	return -EINVAL;
}

static bool parse_number(const char *text, int base, unsigned long max, unsigned long *out)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*out = strtoul(text, &end, base);
	return !errno && !*end && *out <= max;
}

static int parse_texts(struct config *config, char *why, size_t size)
{
	unsigned long uid = geteuid(), gid = getegid(), mask;

	if (*config->uid_text && !parse_number(config->uid_text, 10, UINT32_MAX - 1, &uid))
		return fail(why, size, "--uid=%s: not a user id", config->uid_text);
	if (*config->gid_text && !parse_number(config->gid_text, 10, UINT32_MAX - 1, &gid))
		return fail(why, size, "--gid=%s: not a group id", config->gid_text);
	if (!parse_number(config->umask_text, 8, 0777, &mask))
		return fail(why, size, "--umask=%s: not an octal number up to 777",
			    config->umask_text);
	if (strcmp(config->meta_text, "full") && strcmp(config->meta_text, "none"))
		return fail(why, size, "--meta=%s: neither full nor none", config->meta_text);
	config->uid = (uid_t)uid;
	config->gid = (gid_t)gid;
	config->umask = (mode_t)mask;
	config->meta = !strcmp(config->meta_text, "full");
	return 0;
}

/* The mount point; --standalone alone names it, and the data is kept beside it. */
static int parse_mountpoint(struct config *config, char *const *operands, char *why,
			    size_t why_size)
{
	size_t len = strlen(config->standalone);
	int n;

	config->mountpoint = operands[0];
	if (operands[0] && !operands[1])
		return 0;
	if (operands[0] || !len)
		return fail(why, why_size, "one mount point: etcfs [OPTION]... MOUNTPOINT");
	config->mountpoint = config->standalone;
	while (len > 1 && config->standalone[len - 1] == '/')
		len--;
	n = snprintf(config->data_dir, sizeof(config->data_dir), "%.*s.kvd", (int)len,
		     config->standalone);
	if (n < 0 || (size_t)n >= sizeof(config->data_dir))
		return fail(why, why_size, "--standalone: the name of the directory is too long");
	config->standalone = config->data_dir;
	return 0;
}

int config_parse(int argc, char **argv, struct config *config, struct options **options,
		 char *why, size_t why_size)
{
	const struct options_args args = {
		.defs = defs, .config = config, .env_prefix = ENV_PREFIX,
		.argc = argc, .argv = argv, .environ_ = (const char *const *)environ,
		.operands = true,
	};
	int err;

	*config = (struct config){ 0 };
	err = options_parse(&args, options, why, why_size);
	if (err)
		return err;
	if (config->help || config->version || config->man)
		return 0;
	err = parse_mountpoint(config, options_operands(*options), why, why_size);
	if (!err)
		err = parse_texts(config, why, why_size);
	if (err) {
		options_free(*options);
		*options = NULL;
		return err;
	}
	return 0;
}

void config_print_help(void)
{
	fputs("Usage: etcfs [OPTION]... MOUNTPOINT\n"
	      "Mount the keys of an etcd or kvd cluster as files.\n"
	      "It stays in the foreground; SIGINT, SIGTERM or fusermount3 -u end it.\n\n", stdout);
	options_print_help(defs, ENV_PREFIX, stdout);
}

void config_print_version(void)
{
	puts("etcfs Version: " KVD_VERSION);
}

static const char man_head[] =
	".TH ETCFS 8 \"\" \"kvd " KVD_VERSION "\" \"System Administration\"\n"
	".SH NAME\n"
	"etcfs \\- mount the keys of a kvd or etcd cluster as files\n"
	".SH SYNOPSIS\n"
	".B etcfs\n"
	"[\\fIOPTION\\fR]... \\fIMOUNTPOINT\\fR\n"
	".br\n"
	".B etcfs \\-\\-standalone\n"
	"\\fIDIR\\fR [\\fIMOUNTPOINT\\fR]\n"
	".SH DESCRIPTION\n"
	"The keys below the prefix are the files of the mount; their slashes divide\n"
	"directories. All of them are read once and kept in memory, exact by a watch, so\n"
	"that reading costs no round trip and goes on while the cluster is out of reach.\n"
	"etcfs stays in the foreground and prints a line when the mount is there. SIGINT\n"
	"and SIGTERM write what is not written yet and unmount, also when files are open.\n"
	".SS Writing\n"
	"The value of a key is the contents of its file, byte for byte. What is written is\n"
	"seen by other programs on this host at once and goes to the cluster, in one put,\n"
	"when the file is closed or synchronised; \\fBclose\\fR(2) and \\fBfsync\\fR(2) give\n"
	"the error. A file that was truncated or replaced is put as it is. One that was\n"
	"changed otherwise is put only if nobody else has changed it since it was read:\n"
	"else the error is ESTALE. What was opened for appending is appended to whatever\n"
	"is there. Creating with O_EXCL, making directories and links, renaming and\n"
	"removing are one transaction each.\n"
	".PP\n"
	"A directory can be renamed while its keys fit in one transaction; beyond that\n"
	"the error is EXDEV, and \\fBmv\\fR(1) copies. Hard links are refused with EPERM.\n"
	"A file larger than \\fB\\-\\-max\\-file\\-size\\fR is refused with EFBIG.\n"
	".SS Changes made elsewhere\n"
	"A change made through another mount, or by any client of the cluster, is seen at\n"
	"once, and \\fBinotify\\fR(7) tells of it as if a local program had made it: the new\n"
	"contents can be read when the event arrives. A file that changed is modified in\n"
	"place. A program that reads a file from one end to the other gets one state of\n"
	"it; one that seeks gets the state of that moment.\n"
	".SS Names\n"
	"What cannot be a file name is written with a percent sign: an empty component is\n"
	"%_, a single dot %2E, two dots %2E%2E, a NUL byte %00, and a component .value is\n"
	"%2Evalue. A component that looks like one of these has its percent sign written\n"
	"%25. All other names and components are the same. Keys of more than 4096 bytes, or\n"
	"with a component of more than 255, are not shown.\n"
	".PP\n"
	"A key that is both a value and the beginning of other keys is a directory; its\n"
	"own value is the file .value in it. An empty directory is a key that ends in a\n"
	"slash, with an empty value; directories without such a key vanish with their last\n"
	"file.\n"
	".SS Metadata\n"
	"Mode, owner, times, symbolic links and special files are kept in keys below\n"
	"\\fIPREFIX\\fR.etcfs/meta/, which are not shown, and only where they differ from\n"
	"the default. \\fB\\-\\-meta=none\\fR does without them.\n"
	".PP\n"
	"The extended attributes user.etcd.key, user.etcd.revision,\n"
	"user.etcd.create_revision, user.etcd.version and user.etcd.lease say what the\n"
	"cluster knows of a file; user.etcd.stale is there while the cluster is out of\n"
	"reach.\n"
	".SS Without a quorum\n"
	"Reading goes on from memory. The first change waits for \\fB\\-\\-timeout\\fR and\n"
	"fails with ETIMEDOUT, or EIO where it may have happened; after it changes fail\n"
	"with EROFS at once until the cluster answers again. A change that has waited for a\n"
	"second can be interrupted by a signal.\n"
	".SS Locks\n"
	"Locks hold between the programs of this host.\n"
	".SH OPTIONS\n";

static const char man_tail[] =
	".SH EXIT STATUS\n"
	"0 after unmounting, 1 on a failure, 2 where the command line was wrong.\n"
	".SH SEE ALSO\n"
	".BR kvd (8),\n"
	".BR kvctl (1),\n"
	".BR fusermount3 (1),\n"
	".BR inotify (7)\n";

void config_print_man(void)
{
	fputs(man_head, stdout);
	options_print_man(defs, ENV_PREFIX, stdout);
	fputs(man_tail, stdout);
}
