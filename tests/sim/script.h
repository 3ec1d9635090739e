/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripts in the form that etcd-io/raft's tests have, so that its published ones run
 * here as well as our own: a line with a command and arguments (key=value,
 * key=(value,value) or a bare word), lines of input, "----", and the expected output up
 * to an empty line. Lines that begin with # are comments.
 *
 * The first command of a file says which of its kinds it is: quorums, changes of a
 * configuration, or whole groups. A runner carries out one case, prints into
 * case.output, and says with script_fail() what is wrong; the rest of the file is left
 * out then. A script that makes no sense ends the program.
 */
#ifndef TESTS_SIM_SCRIPT_H
#define TESTS_SIM_SCRIPT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "include/bug.h"

#define SCRIPT_ARGS 16
#define SCRIPT_TEXT 65536

enum script_mode {
	SCRIPT_EXACT,		/* all of the output but log lines */
	SCRIPT_SEMANTIC,	/* what another member or the caller can tell apart */
	SCRIPT_REWRITE,		/* the output becomes what is expected */
};

struct script_arg {
	char key[32];
	char values[16][32];
	size_t n_values;
};

struct script_case {
	enum script_mode mode;
	const char *path;
	size_t line;
	char command[64];
	struct script_arg args[SCRIPT_ARGS];
	size_t n_args;
	char input[1024];
	char expected[SCRIPT_TEXT];
	char output[SCRIPT_TEXT];
	size_t n_output;
	bool failed;
};

struct script_runner {
	const char *const *commands;		/* NULL at the end */
	void (*begin)(void);			/* before the first case of a file */
	void (*run)(struct script_case *c);
	bool (*is_same)(struct script_case *c);	/* SCRIPT_SEMANTIC; may script_fail() */
	void (*end)(void);
};

extern const struct script_runner script_quorum, script_conf, script_group;

const struct script_arg *script_arg(const struct script_case *c, const char *key);
uint64_t script_number(const struct script_case *c, const char *key, uint64_t none);
__printf(2, 3) void script_print(struct script_case *c, const char *format, ...);
/* The case is not what was expected. */
__printf(2, 3) void script_fail(struct script_case *c, const char *format, ...);

/* What a script that makes sense never lets happen. */
#define SCRIPT_NEED(cond)						\
	do {								\
		if (!(cond)) {						\
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond); \
			exit(2);					\
		}							\
	} while (0)

#endif
