/* SPDX-License-Identifier: Apache-2.0 */
#include "lib/options_i.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

int options_fail(struct options *o, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(o->why, o->why_size, fmt, args);
	va_end(args);
	return err;
}

const char *options_keep(struct options *o, const char *text)
{
	size_t n = strlen(text) + 1;
	struct option_text *t = malloc(sizeof(*t) + n);

	if (!t)
		return NULL;
	memcpy(t->text, text, n);
	t->next = o->texts;
	o->texts = t;
	return t->text;
}

static int list_append(struct options *o, struct option_list *list, const char *text)
{
	char **items = realloc(list->items, (list->n + 2) * sizeof(*items));

	if (!items)
		return options_fail(o, -ENOMEM, "out of memory");
	list->items = items;
	items[list->n] = strdup(text);
	if (!items[list->n])
		return options_fail(o, -ENOMEM, "out of memory");
	items[++list->n] = NULL;
	return 0;
}

static void list_free(struct option_list *list)
{
	for (size_t i = 0; i < list->n; i++)
		free(list->items[i]);
	free(list->items);
}

const struct option_def *options_find(const struct option_def *defs, const char *name, size_t len)
{
	for (const struct option_def *def = defs; def->name; def++)
		if (strlen(def->name) == len && !memcmp(def->name, name, len))
			return def;
	return NULL;
}

/* --- the command line ----------------------------------------------------------- */

#define NAME_MAX_ 64

/* How many letters must be changed, added or left out to make @a of @b: the distance
 * of Levenshtein, one row of his table at a time. */
static size_t edit_distance(const char *a, size_t a_len, const char *b)
{
	size_t row[NAME_MAX_ + 1], n = strlen(b), diagonal, above;

	if (a_len > NAME_MAX_ || n > NAME_MAX_)
		return NAME_MAX_;
	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 1; i <= a_len; i++) {
		diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= n; j++) {
			above = row[j];
			row[j] = MIN(MIN(above, row[j - 1]) + 1, diagonal + (a[i - 1] != b[j - 1]));
			diagonal = above;
		}
	}
	return row[n];
}

static int fail_unknown(struct options *o, const char *name, size_t len)
{
	const struct option_def *near = NULL;
	size_t d, best = 3;

	for (const struct option_def *def = o->defs; def->name; def++) {
		d = edit_distance(name, len, def->name);
		if (d >= best)
			continue;
		best = d;
		near = def;
	}
	if (near)
		return options_fail(o, -EINVAL,
				    "flag provided but not defined: -%.*s (did you mean --%s?)",
				    (int)MIN(len, 200u), name, near->name);
	return options_fail(o, -EINVAL,
			    "flag provided but not defined: -%.*s (--help lists those there are)",
			    (int)MIN(len, 200u), name);
}

/* True where the option may stand without a value, which then is true. */
static bool may_stand_bare(const struct option_def *def)
{
	if (def->type == OPTION_BOOL)
		return true;
	return (def->type == OPTION_UNSUPPORTED || def->type == OPTION_IGNORED) && !def->arg;
}

/* -h is --help, as in Go's flag package. */
static const struct option_def *find_argv(const struct options *o, const char *name, size_t len)
{
	if (len == 1 && *name == 'h')
		return options_find(o->defs, "help", 4);
	return options_find(o->defs, name, len);
}

static int parse_option(struct options *o, char **argv, int *i, int argc)
{
	const char *name = argv[*i] + (argv[*i][1] == '-' ? 2 : 1), *value;
	size_t len = strcspn(name, "=");
	const struct option_def *def = find_argv(o, name, len);
	char source[NAME_MAX_ + 3];
	int r;

	if (!def)
		return fail_unknown(o, name, len);
	snprintf(source, sizeof(source), "--%s", def->name);
	if (name[len] == '=')
		value = name + len + 1;
	else if (may_stand_bare(def))
		value = "true";
	else if (*i + 1 < argc)
		value = argv[++*i];
	else
		return options_fail(o, -EINVAL, "--%s needs a value: --%s=%s", def->name,
				    def->name, def->arg ? def->arg : "VALUE");
	r = option_set(o, def, source, value);
	if (r < 0)
		return r;
	o->given[def - o->defs] = true;
	return 0;
}

static int parse_argv(struct options *o, const struct options_args *args)
{
	bool only_operands = false;
	int r;

	for (int i = 1; i < args->argc; i++) {
		const char *arg = args->argv[i];

		if (!only_operands && !strcmp(arg, "--")) {
			only_operands = true;
			continue;
		}
		if (!only_operands && arg[0] == '-' && arg[1]) {
			r = parse_option(o, args->argv, &i, args->argc);
		} else if (args->operands) {
			r = list_append(o, &o->operands, arg);
		} else {
			r = options_fail(o, -EINVAL,
					 "'%.200s' is not a valid flag: options begin with --",
					 arg);
		}
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the environment ------------------------------------------------------------ */

void option_env_name(const char *prefix, const char *name, char out[OPTION_ENV_NAME_MAX])
{
	size_t n = (size_t)snprintf(out, OPTION_ENV_NAME_MAX, "%s%s", prefix, name);

	BUG_ON(n >= OPTION_ENV_NAME_MAX);
	for (char *p = out; *p; p++)
		*p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
}

/* The option that environment variable @name of @len bytes sets. */
static const struct option_def *find_env(const struct options *o, const char *name, size_t len)
{
	char env[OPTION_ENV_NAME_MAX];

	for (const struct option_def *def = o->defs; def->name; def++) {
		if (def->argv_only)
			continue;
		option_env_name(o->env_prefix, def->name, env);
		if (strlen(env) == len && !memcmp(env, name, len))
			return def;
	}
	return NULL;
}

/* One "NAME=value" that begins with the prefix. */
static int set_from_env(struct options *o, const char *entry, size_t name_len)
{
	const struct option_def *def = find_env(o, entry, name_len);
	char name[OPTION_ENV_NAME_MAX];
	int r;

	snprintf(name, sizeof(name), "%.*s", (int)MIN(name_len, sizeof(name) - 1), entry);
	if (!def)
		return list_append(o, &o->unknown_env, name);
	if (o->given[def - o->defs] || !entry[name_len + 1])
		return 0;
	r = option_set(o, def, name, entry + name_len + 1);
	if (r == 0)
		o->given[def - o->defs] = true;
	return r;
}

/* Takes all variables with the prefix; where @only is given, that option alone. */
static int parse_environ(struct options *o, const char *const *environ_,
			 const struct option_def *only)
{
	size_t len;
	int r;

	if (!o->env_prefix || !environ_)
		return 0;
	for (; *environ_; environ_++) {
		len = strcspn(*environ_, "=");
		if (!(*environ_)[len] || strncmp(*environ_, o->env_prefix, strlen(o->env_prefix)))
			continue;
		if (only && find_env(o, *environ_, len) != only)
			continue;
		r = set_from_env(o, *environ_, len);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- all together --------------------------------------------------------------- */

/* Sets every option to its default, except those that only the command line gives
 * and @keep. */
static int set_defaults(struct options *o, const struct option_def *keep)
{
	int r;

	for (const struct option_def *def = o->defs; def->name; def++) {
		if (keep && (def == keep || def->argv_only))
			continue;
		o->given[def - o->defs] = false;
		r = option_set_default(o, def);
		if (r < 0)
			return r;
	}
	return 0;
}

/* The file, where one is named; *@path is "" where none is. */
static int find_file(struct options *o, const struct options_args *args,
		     const struct option_def **out, const char **path)
{
	const struct option_def *def;
	int r;

	*path = "";
	if (!o->config_file_option)
		return 0;
	def = options_find(o->defs, o->config_file_option, strlen(o->config_file_option));
	BUG_ON(!def || def->type != OPTION_STRING);
	r = parse_environ(o, args->environ_, def);
	if (r < 0)
		return r;
	*out = def;
	*path = *(const char **)(void *)(o->config + def->offset);
	return 0;
}

static int parse_all(struct options *o, const struct options_args *args)
{
	const struct option_def *file_def;
	const char *path;
	int r;

	r = set_defaults(o, NULL);
	if (r == 0)
		r = parse_argv(o, args);
	if (r == 0)
		r = find_file(o, args, &file_def, &path);
	if (r < 0)
		return r;
	if (!*path)
		return parse_environ(o, args->environ_, NULL);
	r = set_defaults(o, file_def);
	if (r < 0)
		return r;
	return options_read_file(o, path);
}

int options_parse(const struct options_args *args, struct options **out,
		  char *why, size_t why_size)
{
	struct options *o = calloc(1, sizeof(*o));
	int r = -ENOMEM;

	snprintf(why, why_size, "out of memory");
	if (!o)
		return r;
	o->defs = args->defs;
	while (o->defs[o->n_defs].name)
		o->n_defs++;
	o->env_prefix = args->env_prefix;
	o->config_file_option = args->config_file_option;
	o->config = args->config;
	o->why = why;
	o->why_size = why_size;
	o->given = calloc(o->n_defs + 1, sizeof(*o->given));
	if (o->given)
		r = parse_all(o, args);
	if (r < 0) {
		options_free(o);
		return r;
	}
	o->why = NULL;
	*out = o;
	return 0;
}

void options_free(struct options *o)
{
	struct option_text *t, *next;

	if (!o)
		return;
	for (t = o->texts; t; t = next) {
		next = t->next;
		free(t);
	}
	list_free(&o->operands);
	list_free(&o->unknown_env);
	free(o->given);
	free(o);
}

static char *const no_items[] = { NULL };

char *const *options_operands(const struct options *o)
{
	return o->operands.items ? o->operands.items : no_items;
}

char *const *options_unknown_env(const struct options *o)
{
	return o->unknown_env.items ? o->unknown_env.items : no_items;
}

bool options_given(const struct options *o, const char *name)
{
	const struct option_def *def = options_find(o->defs, name, strlen(name));

	BUG_ON(!def);
	return o->given[def - o->defs];
}
