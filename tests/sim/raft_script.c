// SPDX-License-Identifier: Apache-2.0
/* Runs scripts, see script.h:  raft_script [--semantic | --rewrite] FILE|DIR... */
#include <dirent.h>
#include <stdarg.h>
#include <sys/stat.h>

#include "tests/sim/script.h"

static const struct script_runner *const runners[] = {
	&script_quorum, &script_conf, &script_group,
};

struct script {
	FILE *in;
	FILE *copy;		/* of --rewrite */
	struct script_case c;
};

const struct script_arg *script_arg(const struct script_case *c, const char *key)
{
	for (size_t i = 0; i < c->n_args; i++)
		if (!strcmp(c->args[i].key, key))
			return &c->args[i];
	return NULL;
}

uint64_t script_number(const struct script_case *c, const char *key, uint64_t none)
{
	const struct script_arg *a = script_arg(c, key);

	return a && a->n_values ? strtoull(a->values[0], NULL, 10) : none;
}

void script_print(struct script_case *c, const char *format, ...)
{
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(c->output + c->n_output, SCRIPT_TEXT - c->n_output, format, args);
	va_end(args);
	SCRIPT_NEED(n >= 0 && (size_t)n < SCRIPT_TEXT - c->n_output);
	c->n_output += (size_t)n;
}

void script_fail(struct script_case *c, const char *format, ...)
{
	va_list args;

	if (c->failed)
		return;
	c->failed = true;
	printf("%s:%zu: ", c->path, c->line);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
}

static void add_value(struct script_arg *a, const char *from, size_t len)
{
	SCRIPT_NEED(a->n_values < ARRAY_SIZE(a->values) && len < sizeof(a->values[0]));
	memcpy(a->values[a->n_values], from, len);
	a->values[a->n_values++][len] = 0;
}

/* One argument at @s; returns what follows it. */
static const char *parse_arg(struct script_case *c, const char *s)
{
	struct script_arg *a = &c->args[c->n_args];
	size_t len = strcspn(s, "= ");

	SCRIPT_NEED(c->n_args++ < SCRIPT_ARGS && len < sizeof(a->key));
	memset(a, 0, sizeof(*a));
	memcpy(a->key, s, len);
	s += len;
	if (*s != '=')
		return s;
	s++;
	if (*s != '(') {
		len = strcspn(s, " ");
		add_value(a, s, len);
		return s + len;
	}
	for (s++; *s && *s != ')'; s += strspn(s, ", ")) {
		len = strcspn(s, ",) ");
		add_value(a, s, len);
		s += len;
	}
	return *s ? s + 1 : s;
}

static void parse_command(struct script_case *c, const char *s)
{
	size_t len = strcspn(s, " ");

	SCRIPT_NEED(len < sizeof(c->command));
	memcpy(c->command, s, len);
	c->command[len] = 0;
	for (s += len; *(s += strspn(s, " ")); )
		s = parse_arg(c, s);
}

static void append(char *text, size_t size, const char *line)
{
	size_t len = strlen(text);
	int n = snprintf(text + len, size - len, "%s\n", line);

	SCRIPT_NEED(n >= 0 && (size_t)n < size - len);
}

/* A line without its end; false at the end of the file. */
static bool next_line(struct script *s, char *line, size_t size, bool copy)
{
	if (!fgets(line, (int)size, s->in))
		return false;
	line[strcspn(line, "\n")] = 0;
	s->c.line++;
	if (copy && s->copy)
		fprintf(s->copy, "%s\n", line);
	return true;
}

static bool next_case(struct script *s)
{
	struct script_case *c = &s->c;
	char line[1024];

	c->command[0] = c->input[0] = c->expected[0] = c->output[0] = 0;
	c->n_args = c->n_output = 0;
	do {
		if (!next_line(s, line, sizeof(line), true))
			return false;
	} while (!line[0] || line[0] == '#');
	parse_command(c, line);
	while (next_line(s, line, sizeof(line), true) && strcmp(line, "----"))
		append(c->input, sizeof(c->input), line);
	while (next_line(s, line, sizeof(line), false) && line[0])
		append(c->expected, sizeof(c->expected), line);
	return true;
}

static bool is_log_line(const char *line)
{
	static const char *const levels[] = { "DEBUG ", "INFO ", "WARN ", "ERROR " };

	line += strspn(line, " ");
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++)
		if (!strncmp(line, levels[i], strlen(levels[i])))
			return true;
	return false;
}

/* Leaves out what is not compared: log lines, and "ok" for nothing. */
static void normalize(char *text)
{
	char *to = text, *next;

	for (char *line = text; *line; line = next) {
		next = line + strcspn(line, "\n");
		next += *next == '\n';
		if (is_log_line(line))
			continue;
		memmove(to, line, (size_t)(next - line));
		to += next - line;
	}
	*to = 0;
	if (!strcmp(text, "ok\n"))
		*text = 0;
}

static bool is_same(struct script_case *c)
{
	normalize(c->expected);
	return !strcmp(c->output, c->expected);
}

static const struct script_runner *runner_of(const char *command)
{
	for (size_t i = 0; i < ARRAY_SIZE(runners); i++)
		for (const char *const *p = runners[i]->commands; *p; p++)
			if (!strcmp(*p, command))
				return runners[i];
	return NULL;
}

static void run_case(struct script *s, const struct script_runner *runner)
{
	struct script_case *c = &s->c;

	runner->run(c);
	if (s->copy)
		fprintf(s->copy, "%s\n", c->n_output ? c->output : "ok\n");
	else if (!c->failed && !(c->mode == SCRIPT_SEMANTIC ? runner->is_same : is_same)(c))
		script_fail(c, "found:\n%sinstead of:\n%s", c->output, c->expected);
}

static void run_cases(struct script *s)
{
	const struct script_runner *runner = NULL;

	while (!s->c.failed && next_case(s)) {
		if (!runner) {
			runner = runner_of(s->c.command);
			if (runner)
				runner->begin();
		}
		if (!runner || runner_of(s->c.command) != runner)
			script_fail(&s->c, "unknown command %s", s->c.command);
		else
			run_case(s, runner);
	}
	if (runner)
		runner->end();
	else
		script_fail(&s->c, "no command");
}

static void write_back(const char *path, const char *text, size_t len)
{
	FILE *f = fopen(path, "w");

	SCRIPT_NEED(f);
	while (len > 1 && text[len - 1] == '\n' && text[len - 2] == '\n')
		len--;
	SCRIPT_NEED(fwrite(text, 1, len, f) == len && !fclose(f));
}

/* True: everything was as expected. */
static bool run_file(const char *path, enum script_mode mode)
{
	static struct script s;
	char *text = NULL;
	size_t len;

	s.in = fopen(path, "r");
	if (!s.in) {
		perror(path);
		return false;
	}
	s.c.mode = mode;
	s.c.path = path;
	s.c.line = 0;
	s.c.failed = false;
	s.copy = mode == SCRIPT_REWRITE ? open_memstream(&text, &len) : NULL;
	run_cases(&s);
	fclose(s.in);
	if (s.copy) {
		fclose(s.copy);
		if (!s.c.failed)
			write_back(path, text, len);
		free(text);
	}
	return !s.c.failed;
}

static size_t passed, failed;

static int is_visible(const struct dirent *d)
{
	return d->d_name[0] != '.';
}

/* A file, or all files below a directory in the order of their names. */
static void run_path(const char *path, enum script_mode mode)
{
	struct dirent **list;
	struct stat st;
	char below[4096];
	int n;

	if (stat(path, &st) || !S_ISDIR(st.st_mode)) {
		*(run_file(path, mode) ? &passed : &failed) += 1;
		return;
	}
	n = scandir(path, &list, is_visible, alphasort);
	SCRIPT_NEED(n >= 0);
	for (int i = 0; i < n; i++) {
		snprintf(below, sizeof(below), "%s/%s", path, list[i]->d_name);
		run_path(below, mode);
		free(list[i]);
	}
	free(list);
}

int main(int argc, char **argv)
{
	enum script_mode mode = SCRIPT_EXACT;
	int i = 1;

	if (i < argc && !strcmp(argv[i], "--semantic"))
		mode = SCRIPT_SEMANTIC;
	else if (i < argc && !strcmp(argv[i], "--rewrite"))
		mode = SCRIPT_REWRITE;
	i += mode != SCRIPT_EXACT;
	if (i == argc || argv[i][0] == '-') {
		fprintf(stderr, "usage: raft_script [--semantic | --rewrite] FILE|DIR...\n");
		return 2;
	}
	for (; i < argc; i++)
		run_path(argv[i], mode);
	printf("%zu passed, %zu failed\n", passed, failed);
	return failed != 0;
}
