/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Options from one table: the command line, the environment, a YAML file, --help
 * and the OPTIONS section of the man page all come from it.
 *
 *	static const struct option_def defs[] = {
 *		OPT_STRING("name", "default", "NAME", "human-readable name of this member",
 *			   struct config, name),
 *		...
 *		{ 0 }
 *	};
 *
 * Precedence as in etcd: the command line over the environment over the defaults;
 * with a file, the file alone. Long options only, --name=value or --name value;
 * -name works too (as Go's flag package has it); a bool may stand bare. Options and
 * operands may stand in any order; "--" ends the options. Given twice, the last
 * value holds. An empty environment variable counts as not set.
 *
 * The file is one YAML mapping from option names to values: text, whole numbers,
 * true and false; a sequence is its elements divided by commas; a duration is text
 * (1h30m) or a whole number of nanoseconds. A key that is no option is refused.
 *
 * Every failure is a negative errno with one sentence in @why that names the
 * option, the value, and what is allowed.
 */
#ifndef LIB_OPTIONS_H
#define LIB_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum option_type {
	OPTION_STRING,		/* const char *, never NULL; lives as long as the options */
	OPTION_BOOL,		/* bool */
	OPTION_INT,		/* int64_t */
	OPTION_DURATION,	/* int64_t nanoseconds: 100ms, 1h30m, as Go writes them */
	OPTION_UNSUPPORTED,	/* known, refused by name as not supported yet; but the
				   default, where there is one, may be given */
	OPTION_IGNORED,		/* accepted and without effect; the help says so */
};

struct option_def {
	const char *name;
	enum option_type type;
	const char *def;	/* the default, as text; NULL or "": none */
	const char *arg;	/* what the help calls the value; NULL: it may stand bare */
	const char *help;	/* one sentence, no full stop */
	size_t offset;		/* into the caller's structure */
	int64_t min, max;	/* of OPTION_INT and OPTION_DURATION; both 0: any */
	bool argv_only;		/* not from the environment or a file: --help, --version */
};

/* The offset of a member of structure type @st; it must have the type that the option
 * is stored as, or this does not compile. */
#define OPT_OFFSET_(ctype, st, member) \
	_Generic(((st *)0)->member, ctype: offsetof(st, member))

#define OPT_STRING(n, d, a, h, st, member)					\
	{ .name = (n), .type = OPTION_STRING, .def = (d), .arg = (a), .help = (h),	\
	  .offset = OPT_OFFSET_(const char *, st, member) }
#define OPT_BOOL(n, d, h, st, member)						\
	{ .name = (n), .type = OPTION_BOOL, .def = (d), .help = (h),		\
	  .offset = OPT_OFFSET_(bool, st, member) }
/* --help and --version: bools of the command line alone. */
#define OPT_ACTION(n, h, st, member)						\
	{ .name = (n), .type = OPTION_BOOL, .help = (h), .argv_only = true,	\
	  .offset = OPT_OFFSET_(bool, st, member) }
#define OPT_INT(n, d, a, h, lo, hi, st, member)				\
	{ .name = (n), .type = OPTION_INT, .def = (d), .arg = (a), .help = (h),	\
	  .min = (lo), .max = (hi), .offset = OPT_OFFSET_(int64_t, st, member) }
#define OPT_DURATION(n, d, h, lo, hi, st, member)				\
	{ .name = (n), .type = OPTION_DURATION, .def = (d), .arg = "TIME", .help = (h),	\
	  .min = (lo), .max = (hi), .offset = OPT_OFFSET_(int64_t, st, member) }
#define OPT_UNSUPPORTED(n, d, a) \
	{ .name = (n), .type = OPTION_UNSUPPORTED, .def = (d), .arg = (a) }
#define OPT_IGNORED(n, d, a, h) \
	{ .name = (n), .type = OPTION_IGNORED, .def = (d), .arg = (a), .help = (h) }

struct options_args {
	const struct option_def *defs;	/* terminated by name NULL */
	void *config;			/* the structure to fill */
	const char *env_prefix;		/* "ETCD_"; NULL: none */
	int argc;
	char **argv;
	const char *const *environ_;	/* terminated by NULL */
	const char *config_file_option;	/* "config-file"; NULL: no file */
	bool operands;			/* arguments that are no options are allowed */
};

struct options;		/* owns the strings that it put into config */

int options_parse(const struct options_args *args, struct options **out,
		  char *why, size_t why_size);
void options_free(struct options *options);
/* What is left of the command line, terminated by NULL. */
char *const *options_operands(const struct options *options);
/* True where the option was given, not defaulted. */
bool options_given(const struct options *options, const char *name);
/* The names of environment variables that have the prefix but are no option, for a
 * warning; terminated by NULL. */
char *const *options_unknown_env(const struct options *options);

/* A duration as Go writes it ("1h30m", "-1.5s", "0"), in nanoseconds. -EINVAL. */
int option_parse_duration(const char *text, int64_t *out);

void options_print_help(const struct option_def *defs, const char *env_prefix, FILE *out);
/* The same table as a man page section (mdoc-less roff). */
void options_print_man(const struct option_def *defs, const char *env_prefix, FILE *out);

#endif
