// SPDX-License-Identifier: Apache-2.0
/*
 * --help and the manual page, both from the tables of commands and options.
 */
#include "ctl/ctl.h"

#define WIDTH 80

/* @text in lines of at most WIDTH columns; "\n\n" divides paragraphs. */
static void put_paragraphs(const char *text, FILE *out)
{
	size_t column = 0;

	while (*text) {
		size_t word = strcspn(text, " \n");

		if (column && column + 1 + word > WIDTH) {
			fputc('\n', out);
			column = 0;
		}
		if (column && word)
			column += (size_t)fprintf(out, " ");
		column += word;
		fwrite(text, 1, word, out);
		text += word;
		if (!strncmp(text, "\n\n", 2)) {
			fputs("\n\n", out);
			column = 0;
			text++;
		}
		text += *text != '\0';
	}
	fputc('\n', out);
}

static const char *space_before(const char *text)
{
	return *text ? " " : "";
}

static void put_option(const struct option_def *option, FILE *out)
{
	fprintf(out, "  --%s%s%s\n        %s", option->name, option->arg ? "=" : "",
		option->arg ?: "", option->help);
	if (option->def && *option->def && strcmp(option->def, "false"))
		fprintf(out, " [%s]", option->def);
	fputc('\n', out);
}

void ctl_help(const struct ctl *ctl, const struct ctl_command *command, FILE *out)
{
	fprintf(out, "%s\n\n", command->brief);
	if (command->help) {
		put_paragraphs(command->help, out);
		fputc('\n', out);
	}
	fprintf(out, "Usage:\n  kvctl %s [options]%s%s\n", command->name,
		space_before(command->operands), command->operands);
	if (command->options)
		fputs("\nOptions:\n", out);
	for (const struct option_def *o = command->options; o && o->name; o++)
		put_option(o, out);
	fputs("\nUse \"kvctl help\" for the options that every command has.\n", out);
}

static void put_command(const struct ctl_command *command, FILE *out)
{
	fprintf(out, "  %-18s %s\n", command->name, command->brief);
}

void ctl_help_group(const struct ctl *ctl, const char *group, FILE *out)
{
	size_t n = strlen(group);

	fprintf(out, "Usage:\n  kvctl %s <command> [options]\n\nCommands:\n", group);
	for (const struct ctl_command *c = ctl_commands; c->name; c++)
		if (!strncmp(c->name, group, n) && c->name[n] == ' ')
			put_command(c, out);
	fprintf(out, "\nUse \"kvctl %s <command> --help\" for more about a command.\n", group);
}

void ctl_help_all(const struct ctl *ctl, FILE *out)
{
	fputs("kvctl administers a cluster of kvd or etcd.\n\n"
	      "Usage:\n  kvctl <command> [options]\n\nCommands:\n", out);
	for (const struct ctl_command *c = ctl_commands; c->name; c++)
		put_command(c, out);
	fputc('\n', out);
	options_print_help(ctl_common_options, "ETCDCTL_", out);
	fputs("KVCTL_ instead of ETCDCTL_ works as well, and comes first.\n\n"
	      "Use \"kvctl <command> --help\" for more about a command.\n", out);
}

/* --- the manual page ------------------------------------------------------------ */

/* Text that roff takes literally; paragraphs are divided by .PP. */
static void man_text(const char *text, FILE *out)
{
	bool line_start = true;

	for (; *text; text++) {
		if (!strncmp(text, "\n\n", 2)) {
			fputs("\n.PP\n", out);
			text++;
			line_start = true;
			continue;
		}
		if (line_start && (*text == '.' || *text == '\''))
			fputs("\\&", out);
		line_start = false;
		if (*text == '\\')
			fputs("\\e", out);
		else if (*text == '-')
			fputs("\\-", out);
		else if (*text == '\'')
			fputs("\\(aq", out);
		else
			fputc(*text, out);
	}
}

static void man_option(const struct option_def *option, FILE *out)
{
	fputs(".TP\n\\fB\\-\\-", out);
	man_text(option->name, out);
	fputs("\\fR", out);
	if (option->arg)
		fprintf(out, "=\\fI%s\\fR", option->arg);
	fputc('\n', out);
	man_text(option->help, out);
	fputs(".\n", out);
	if (option->def && *option->def && strcmp(option->def, "false")) {
		fputs("Default: \\fB", out);
		man_text(option->def, out);
		fputs("\\fR.\n", out);
	}
}

static void man_command(const struct ctl_command *command, FILE *out)
{
	fputs(".SS \"kvctl ", out);
	man_text(command->name, out);
	fputs(space_before(command->operands), out);
	man_text(command->operands, out);
	fputs("\"\n", out);
	man_text(command->brief, out);
	fputs(".\n", out);
	if (command->help) {
		fputs(".PP\n", out);
		man_text(command->help, out);
		fputc('\n', out);
	}
	for (const struct option_def *o = command->options; o && o->name; o++)
		man_option(o, out);
}

void ctl_man(FILE *out)
{
	fputs(".\\\" Made by \"kvctl help --man\" from the tables of ctl/.\n"
	      ".TH KVCTL 1 \"\" \"kvd\" \"User Commands\"\n"
	      ".SH NAME\nkvctl \\- administer a cluster of kvd or etcd\n"
	      ".SH SYNOPSIS\n.B kvctl\n\\fIcommand\\fR [\\fIoptions\\fR]\n"
	      ".SH DESCRIPTION\n", out);
	man_text("kvctl reads and writes the keys of a cluster, watches them, and looks after "
		 "its leases, members and endpoints. It speaks the v3 API of etcd and works "
		 "against kvd and against etcd; commands, options, output and exit status are "
		 "those of etcdctl.\n\n"
		 "A command may be shortened as long as it stays the only one that fits.", out);
	fputs("\n.SH COMMANDS\n", out);
	for (const struct ctl_command *c = ctl_commands; c->name; c++)
		man_command(c, out);
	options_print_man(ctl_common_options, "ETCDCTL_", out);
	fputs(".SH ENVIRONMENT\n", out);
	man_text("Each option that every command has can be set as ETCDCTL_NAME, or as "
		 "KVCTL_NAME, which comes first; the command line comes before both.", out);
	fputs("\n.SH EXIT STATUS\n", out);
	man_text("0: done. 1: the command failed. 2: the cluster could not be reached, or a "
		 "lease command failed. 3: the input of txn or watch was not understood. 4: a "
		 "value of an option is not supported. 5: the server cancelled the watch. "
		 "6: the output could not be written. 128: wrong arguments.", out);
	fputs("\n.SH SEE ALSO\n.BR kvd (8),\n.BR etcfs (8)\n", out);
}

/* --- help and version ----------------------------------------------------------- */

int ctl_run_help(struct ctl *ctl)
{
	const struct ctl_args *args = &ctl->line.args;
	char name[64];

	if (ctl->line.opt.man) {
		ctl_man(ctl->out);
		return CTL_OK;
	}
	if (!args->n) {
		ctl_help_all(ctl, ctl->out);
		return CTL_OK;
	}
	snprintf(name, sizeof(name), "%s%s%s", args->at[0].data, args->n > 1 ? " " : "",
		 args->n > 1 ? (const char *)args->at[1].data : "");
	if (ctl_is_group(name)) {
		ctl_help_group(ctl, name, ctl->out);
		return CTL_OK;
	}
	for (const struct ctl_command *c = ctl_commands; c->name; c++) {
		if (strcmp(c->name, name))
			continue;
		ctl_help(ctl, c, ctl->out);
		return CTL_OK;
	}
	ctl_fail(ctl, CTL_ERROR, "unknown command \"%s\" for \"kvctl\"", name);
	fputs("Run 'kvctl --help' for usage.\n", ctl->err);
	return CTL_ERROR;
}

int ctl_run_version(struct ctl *ctl)
{
	fprintf(ctl->out, "kvctl version: %s\nAPI version: 3.7\n", KVD_VERSION);
	return CTL_OK;
}
