/* SPDX-License-Identifier: Apache-2.0 */
/* The table of options as --help and as a section of the man page. */
#include "lib/options_i.h"

#include <string.h>

static bool has_default(const struct option_def *def)
{
	return def->def && *def->def;
}

static void help_option(const struct option_def *def, FILE *out)
{
	fprintf(out, "  --%s", def->name);
	if (def->arg)
		fprintf(out, "=%s", def->arg);
	fprintf(out, "\n        %s", def->help ? def->help : "");
	if (def->type == OPTION_IGNORED)
		fprintf(out, "%saccepted, without effect", def->help ? "; " : "");
	if (has_default(def) && strcmp(def->def, "false"))
		fprintf(out, " [%s]", def->def);
	fputc('\n', out);
}

static void help_unsupported(const struct option_def *defs, FILE *out)
{
	bool any = false;

	for (const struct option_def *def = defs; def->name; def++) {
		if (def->type != OPTION_UNSUPPORTED)
			continue;
		if (!any)
			fprintf(out, "\nNot supported yet (taken only with the value shown, "
				"where one is shown):\n");
		any = true;
		fprintf(out, "  --%s", def->name);
		if (def->def)
			fprintf(out, "=%s", def->def);
		fputc('\n', out);
	}
}

void options_print_help(const struct option_def *defs, const char *env_prefix, FILE *out)
{
	char env[OPTION_ENV_NAME_MAX];

	fprintf(out, "Options, with their defaults in brackets:\n");
	for (const struct option_def *def = defs; def->name; def++)
		if (def->type != OPTION_UNSUPPORTED)
			help_option(def, out);
	help_unsupported(defs, out);
	if (!env_prefix)
		return;
	option_env_name(env_prefix, defs->name, env);
	fprintf(out, "\nEach can be set in the environment too: --%s as %s.\n", defs->name, env);
}

/* --- roff ----------------------------------------------------------------------- */

/* Text that roff takes literally, wherever in a line it stands. */
static void roff_text(const char *text, FILE *out)
{
	if (*text == '.' || *text == '\'')
		fputs("\\&", out);
	for (; *text; text++) {
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else
			fputc(*text, out);
	}
}

static void man_option(const struct option_def *def, const char *env_prefix, FILE *out)
{
	char env[OPTION_ENV_NAME_MAX];

	fputs(".TP\n\\fB\\-\\-", out);
	roff_text(def->name, out);
	fputs("\\fR", out);
	if (def->arg) {
		fputs("=\\fI", out);
		roff_text(def->arg, out);
		fputs("\\fR", out);
	}
	fputc('\n', out);
	if (def->help) {
		roff_text(def->help, out);
		fputs(".\n", out);
	}
	if (def->type == OPTION_IGNORED)
		fputs("Accepted, without effect.\n", out);
	if (has_default(def)) {
		fputs("Default: \\fB", out);
		roff_text(def->def, out);
		fputs("\\fR.\n", out);
	}
	if (!env_prefix || def->argv_only)
		return;
	option_env_name(env_prefix, def->name, env);
	fprintf(out, "Environment: \\fB%s\\fR.\n", env);
}

void options_print_man(const struct option_def *defs, const char *env_prefix, FILE *out)
{
	const char *separator = "";

	fputs(".SH OPTIONS\n", out);
	for (const struct option_def *def = defs; def->name; def++)
		if (def->type != OPTION_UNSUPPORTED)
			man_option(def, env_prefix, out);
	for (const struct option_def *def = defs; def->name; def++) {
		if (def->type != OPTION_UNSUPPORTED)
			continue;
		if (!*separator)
			fputs(".PP\nNot supported yet, and refused by name unless given with the "
			      "default shown:\n", out);
		else
			fputs(separator, out);
		separator = ",\n";
		fputs("\\fB\\-\\-", out);
		roff_text(def->name, out);
		fputs("\\fR", out);
		if (def->def) {
			fputc('=', out);
			roff_text(def->def, out);
		}
	}
	if (*separator)
		fputs(".\n", out);
}
