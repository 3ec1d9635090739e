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
 * -name works too (as Go's flag package has it); a bool may stand bare.
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
	OPTION_STRING,		/* const char *; lives as long as the options */
	OPTION_BOOL,		/* bool */
	OPTION_INT,		/* int64_t */
	OPTION_DURATION,	/* int64_t nanoseconds: 100ms, 1h30m, as Go writes them */
	OPTION_UNSUPPORTED,	/* known, refused by name as not supported yet */
	OPTION_IGNORED,		/* accepted and without effect; the help says so */
};

struct option_def {
	const char *name;
	enum option_type type;
	const char *def;	/* the default, as text; NULL or "": none */
	const char *arg;	/* what the help calls the value */
	const char *help;	/* one sentence, no full stop */
	size_t offset;		/* into the caller's structure */
	int64_t min, max;	/* of OPTION_INT and OPTION_DURATION; both 0: any */
};

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

int options_parse(const struct options_args *args, struct options **out, char *why, size_t why_size);
void options_free(struct options *options);
/* What is left of the command line, terminated by NULL. */
char *const *options_operands(const struct options *options);
/* True where the option was given, not defaulted. */
bool options_given(const struct options *options, const char *name);

void options_print_help(const struct option_def *defs, const char *env_prefix, FILE *out);
/* The same table as a man page section (mdoc-less roff). */
void options_print_man(const struct option_def *defs, const char *env_prefix, FILE *out);

#endif
