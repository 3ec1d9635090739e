// SPDX-License-Identifier: Apache-2.0
/*
 * --write-out=table: boxes like etcdctl's: headings centered in capitals, cells to the
 * right. (libsmartcols has no centered heading over cells to the right in a box of
 * this shape.)
 */
#include "ctl/print.h"

#include <ctype.h>

struct rule {
	const char *left, *cross, *right;
};

static const struct rule top = { "┌", "┬", "┐" }, middle = { "├", "┼", "┤" },
	bottom = { "└", "┴", "┘" };

/* How many columns of a terminal @text takes; names and URLs have no wide letters. */
static size_t text_width(const char *text)
{
	struct slice s = slice_str(text);
	size_t width = 0, n;
	uint32_t rune;

	for (; s.len; s.data += n, s.len -= n, width++)
		n = MAX(text_rune(s, &rune), (size_t)1);
	return width;
}

static void put_many(FILE *out, const char *text, size_t n)
{
	while (n--)
		fputs(text, out);
}

static void put_rule(FILE *out, const struct rule *rule, const size_t *widths, size_t columns)
{
	for (size_t i = 0; i < columns; i++) {
		fputs(i ? rule->cross : rule->left, out);
		put_many(out, "─", widths[i] + 2);
	}
	fprintf(out, "%s\n", rule->right);
}

static void put_headings(FILE *out, const char *const *headings, const size_t *widths, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t pad = widths[i] - strlen(headings[i]);

		fputs("│ ", out);
		put_many(out, " ", pad / 2);
		for (const char *p = headings[i]; *p; p++)
			fputc(toupper((unsigned char)*p), out);
		put_many(out, " ", pad - pad / 2 + 1);
	}
	fputs("│\n", out);
}

static void put_cells(FILE *out, char *const *cells, const size_t *widths, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fputs("│ ", out);
		put_many(out, " ", widths[i] - text_width(cells[i]));
		fprintf(out, "%s ", cells[i]);
	}
	fputs("│\n", out);
}

static void put_table(struct ctl *ctl, const char *const *headings, struct print_rows *rows)
{
	size_t widths[PRINT_COLUMNS_MAX] = { 0 }, columns = rows->columns;

	if (rows->failed) {
		fputs("kvctl: out of memory\n", ctl->err);
		print_rows_release(rows);
		return;
	}
	BUG_ON(columns > PRINT_COLUMNS_MAX);
	for (size_t i = 0; i < columns; i++) {
		widths[i] = strlen(headings[i]);
		for (size_t j = 0; j < rows->n; j++)
			widths[i] = MAX(widths[i], text_width(rows->cells[j * columns + i]));
	}
	put_rule(ctl->out, &top, widths, columns);
	put_headings(ctl->out, headings, widths, columns);
	if (rows->n)
		put_rule(ctl->out, &middle, widths, columns);
	for (size_t j = 0; j < rows->n; j++)
		put_cells(ctl->out, rows->cells + j * columns, widths, columns);
	put_rule(ctl->out, &bottom, widths, columns);
	print_rows_release(rows);
}

static void table_members(struct ctl *ctl, const void *answer)
{
	static const char *const headings[] = {
		"ID", "Status", "Name", "Peer Addrs", "Client Addrs", "Is Learner",
	};
	struct print_rows rows;

	print_rows_members(&rows, answer);
	put_table(ctl, headings, &rows);
}

static void table_status(struct ctl *ctl, const void *answer)
{
	static const char *const headings[] = {
		"endpoint", "ID", "version", "storage version", "db size", "in use",
		"percentage not in use", "quota", "is leader", "is learner", "raft term",
		"raft index", "raft applied index", "errors", "downgrade target version",
		"downgrade enabled",
	};
	struct print_rows rows;

	print_rows_statuses(&rows, answer);
	put_table(ctl, headings, &rows);
}

static void table_health(struct ctl *ctl, const void *answer)
{
	static const char *const headings[] = { "endpoint", "health", "took", "error" };
	struct print_rows rows;

	print_rows_healths(&rows, answer);
	put_table(ctl, headings, &rows);
}

static void table_hashes(struct ctl *ctl, const void *answer)
{
	static const char *const headings[] = { "endpoint", "hash", "hash revision" };
	struct print_rows rows;

	print_rows_hashes(&rows, answer);
	put_table(ctl, headings, &rows);
}

const struct printer printer_table = {
	.name = "table",
	.show = {
		[SHOW_MEMBERS] = table_members,
		[SHOW_STATUS] = table_status,
		[SHOW_HEALTH] = table_health,
		[SHOW_HASHES] = table_hashes,
	},
};
