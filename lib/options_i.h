/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the option parser share. */
#ifndef LIB_OPTIONS_I_H
#define LIB_OPTIONS_I_H

#include "lib/options.h"

#include "include/bug.h"

/* A string that lives as long as the options. */
struct option_text {
	struct option_text *next;
	char text[];
};

/* Strings in a row, terminated by NULL. */
struct option_list {
	char **items;
	size_t n;
};

struct options {
	const struct option_def *defs;
	size_t n_defs;
	const char *env_prefix;
	const char *config_file_option;
	char *config;			/* the caller's structure */
	bool *given;			/* by the position in defs */
	struct option_text *texts;
	struct option_list operands, unknown_env;
	char *why;			/* valid while options_parse() runs */
	size_t why_size;
};

/* Writes the sentence that explains a failure and returns @err. */
__printf(3, 4) int options_fail(struct options *o, int err, const char *fmt, ...);

/* A copy that lives as long as the options, or NULL. */
const char *options_keep(struct options *o, const char *text);

/* NULL: no such option. */
const struct option_def *options_find(const struct option_def *defs, const char *name, size_t len);

/* Stores @text as the value of @def. @source is how the place where it was given is
 * called in an error: "--name", "ETCD_NAME" or "file:3: name". */
int option_set(struct options *o, const struct option_def *def, const char *source,
	       const char *text);
/* Stores the default, which is a fact of the program. */
int option_set_default(struct options *o, const struct option_def *def);

/* ETCD_MAX_TXN_OPS, for help and errors. */
#define OPTION_ENV_NAME_MAX 96
void option_env_name(const char *prefix, const char *name, char out[OPTION_ENV_NAME_MAX]);

/* Stores what the YAML file at @path says. */
int options_read_file(struct options *o, const char *path);

#endif
