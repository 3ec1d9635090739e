/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scripts in the form that etcd-io/raft's tests have, so that its published ones run
 * here as well as our own: a line with a command and arguments (key=value,
 * key=(value,value) or a bare word), lines of input, "----", and the expected output up
 * to an empty line. Lines that begin with # are comments.
 */
#ifndef TESTS_RAFT_SCRIPT_H
#define TESTS_RAFT_SCRIPT_H

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "include/bug.h"

#define SCRIPT_ARGS 16
#define SCRIPT_TEXT 65536

struct script_arg {
	char key[32];
	char values[16][32];
	size_t n_values;
};

struct script_case {
	const char *path;
	size_t line;
	char command[64];
	struct script_arg args[SCRIPT_ARGS];
	size_t n_args;
	char input[1024];
	char expected[SCRIPT_TEXT];
	char output[SCRIPT_TEXT];
	size_t n_output;
};

static inline const struct script_arg *script_arg(const struct script_case *c, const char *key)
{
	for (size_t i = 0; i < c->n_args; i++)
		if (!strcmp(c->args[i].key, key))
			return &c->args[i];
	return NULL;
}

static inline uint64_t script_number(const struct script_case *c, const char *key, uint64_t none)
{
	const struct script_arg *a = script_arg(c, key);

	return a && a->n_values ? strtoull(a->values[0], NULL, 10) : none;
}

static inline __printf(2, 3) void script_print(struct script_case *c, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(c->output + c->n_output, SCRIPT_TEXT - c->n_output, format, args);
	va_end(args);
	assert_true(n >= 0 && (size_t)n < SCRIPT_TEXT - c->n_output);
	c->n_output += (size_t)n;
}

static inline void script_value(struct script_arg *a, const char *from, size_t len)
{
	assert_true(a->n_values < ARRAY_SIZE(a->values) && len < sizeof(a->values[0]));
	memcpy(a->values[a->n_values], from, len);
	a->values[a->n_values++][len] = 0;
}

/* One argument at @s; returns what follows it. */
static inline const char *script_parse_arg(struct script_case *c, const char *s)
{
	struct script_arg *a = &c->args[c->n_args++];
	size_t len = strcspn(s, "= ");

	assert_true(c->n_args <= SCRIPT_ARGS && len < sizeof(a->key));
	memset(a, 0, sizeof(*a));
	memcpy(a->key, s, len);
	s += len;
	if (*s != '=')
		return s;
	s++;
	if (*s != '(') {
		len = strcspn(s, " ");
		script_value(a, s, len);
		return s + len;
	}
	for (s++; *s && *s != ')'; s += strspn(s, ", ")) {
		len = strcspn(s, ",) ");
		script_value(a, s, len);
		s += len;
	}
	return *s ? s + 1 : s;
}

static inline void script_parse_command(struct script_case *c, const char *s)
{
	size_t len = strcspn(s, " ");

	assert_true(len < sizeof(c->command));
	memcpy(c->command, s, len);
	c->command[len] = 0;
	for (s += len; *(s += strspn(s, " ")); )
		s = script_parse_arg(c, s);
}

static inline void script_append(char *text, size_t size, const char *line)
{
	size_t len = strlen(text);
	int n = snprintf(text + len, size - len, "%s\n", line);

	assert_true(n >= 0 && (size_t)n < size - len);
}

/* A line without its end; false at the end of the file. */
static inline bool script_line(FILE *f, struct script_case *c, char *line, size_t size)
{
	if (!fgets(line, (int)size, f))
		return false;
	line[strcspn(line, "\n")] = 0;
	c->line++;
	return true;
}

static inline bool script_next(FILE *f, struct script_case *c)
{
	char line[1024];

	c->command[0] = c->input[0] = c->expected[0] = c->output[0] = 0;
	c->n_args = c->n_output = 0;
	do {
		if (!script_line(f, c, line, sizeof(line)))
			return false;
	} while (!line[0] || line[0] == '#');
	script_parse_command(c, line);
	while (script_line(f, c, line, sizeof(line)) && strcmp(line, "----"))
		script_append(c->input, sizeof(c->input), line);
	while (script_line(f, c, line, sizeof(line)) && line[0])
		script_append(c->expected, sizeof(c->expected), line);
	return true;
}

typedef void script_run_fn(struct script_case *c);

/* Runs all cases of one file; @run fails the test where it is not satisfied. */
static inline void script_run_file(const char *path, script_run_fn *run)
{
	static struct script_case c;
	FILE *f = fopen(path, "r");

	if (!f)
		fail_msg("cannot open %s", path);
	c.path = path;
	c.line = 0;
	while (script_next(f, &c))
		run(&c);
	fclose(f);
}

static inline int script_is_file(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* Runs the scripts of a directory in the order of their names; returns how many. With
 * RAFT_SCRIPTS in the environment, those of its directory of the same name. */
static inline size_t script_run_all(const char *name, void (*begin)(void), script_run_fn *run,
				    void (*end)(void))
{
	const char *root = getenv("RAFT_SCRIPTS");
	struct dirent **list;
	char dir[512], path[1024];
	int n;

	snprintf(dir, sizeof(dir), "%s/%s", root ? root : "tests/data/raft", name);
	n = scandir(dir, &list, script_is_file, alphasort);
	if (n < 0)
		fail_msg("cannot read %s", dir);
	for (int i = 0; i < n; i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);
		begin();
		script_run_file(path, run);
		end();
		free(list[i]);
	}
	free(list);
	return (size_t)n;
}

#endif
