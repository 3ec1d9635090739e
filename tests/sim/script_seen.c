// SPDX-License-Identifier: Apache-2.0
/*
 * The messages that a script expects and those that were seen, compared link by link:
 * as sent and as received, each in its order.
 */
#include "tests/sim/script_group.h"

bool quiet;
struct script_case *now;

struct seen {
	bool received;
	char link[16];
	char text[2000];
};

static struct seen seen[4096], wanted[4096];
static size_t n_seen, n_wanted;

static void seen_add(struct seen *list, size_t *n, bool received, const char *text)
{
	const char *link = strncmp(text, "dropped: ", 9) ? text : text + 9;
	struct seen *s = &list[*n];

	SCRIPT_NEED(++*n < ARRAY_SIZE(seen));
	s->received = received;
	snprintf(s->link, sizeof(s->link), "%.*s", (int)strcspn(link, " "), link);
	snprintf(s->text, sizeof(s->text), "%s", text);
}

void see(bool received, const char *before, const struct raft_message *m)
{
	char text[1500], line[2000];

	raft_message_to_text(m, text, sizeof(text));
	/* One line, however many it has. */
	for (char *p = text; (p = strchr(p, '\n')); )
		*p = ' ';
	snprintf(line, sizeof(line), "%s%s", before, text);
	if (!quiet)
		seen_add(seen, &n_seen, received, line);
}

/* Between members, that is: etcd-io/raft also talks to itself and to its storage. */
static bool is_message(const char *line)
{
	size_t len;

	if (!strncmp(line, "dropped: ", 9))
		line += 9;
	len = strspn(line, "0123456789abcdef");
	return len && !strncmp(line + len, "->", 2) && strstr(line, " Msg") &&
	       strncmp(line, line + len + 2, len) && line[len + 2] != 'A';
}

/* Joins a message's continuation lines, at *@next, to @line, as see() does. */
static void join_lines(char *line, size_t size, char **next)
{
	size_t len = strlen(line);
	bool entries = len && line[len - 1] == '[';

	while (*next) {
		char *p = *next + strspn(*next, " ");

		if (!entries && strncmp(p, "Snapshot: ", 10))
			return;
		*next = strchr(p, '\n');
		if (*next)
			*(*next)++ = 0;
		entries = entries && *p != ']';
		len += (size_t)snprintf(line + len, size - len, "%s%s",
					*p == ']' ? " " : "   ", p);
	}
}

static int brackets(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += (*s == '[') - (*s == ']');
	return n;
}

static void parse_expected(char *text)
{
	bool received = true;
	int depth = 0;	/* within a message to the storage, which may have many lines */
	char *next, line[2000];

	for (char *p = text; p && *p; p = next) {
		next = strchr(p, '\n');
		if (next)
			*next++ = 0;
		p += strspn(p, " ");
		if (depth || strstr(p, "Thread Msg")) {
			depth += brackets(p);
			continue;
		}
		if (*p == '>')
			received = true;
		else if (!strncmp(p, "Messages:", 9) || !strncmp(p, "Responses:", 10))
			received = false;
		if (!is_message(p))
			continue;
		snprintf(line, sizeof(line), "%s", p);
		join_lines(line, sizeof(line), &next);
		seen_add(wanted, &n_wanted, received, line);
	}
}

static const struct seen *next_on(const struct seen *list, size_t n, size_t *from,
				  const struct seen *like)
{
	for (; *from < n; ++*from)
		if (list[*from].received == like->received && !strcmp(list[*from].link, like->link))
			return &list[(*from)++];
	return NULL;
}

static void compare_link(const struct seen *like)
{
	size_t i = 0, k = 0;

	for (;;) {
		const struct seen *w = next_on(wanted, n_wanted, &i, like);
		const struct seen *s = next_on(seen, n_seen, &k, like);

		if (!w && !s)
			return;
		if (!w || !s || strcmp(w->text, s->text))
			script_fail(now, "%s %s\n  expected: %s\n  found:    %s", like->link,
				    like->received ? "received" : "sent",
				    w ? w->text : "nothing", s ? s->text : "nothing");
		if (now->failed)
			return;
	}
}

void compare_messages(void)
{
	parse_expected(now->expected);
	for (size_t i = 0; i < n_wanted; i++)
		compare_link(&wanted[i]);
	for (size_t i = 0; i < n_seen; i++)
		compare_link(&seen[i]);
}

void seen_clear(void)
{
	n_seen = n_wanted = 0;
}
