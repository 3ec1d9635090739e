// SPDX-License-Identifier: Apache-2.0
/*
 * Members, statuses and healths as rows of text, for the formats simple and table; and
 * the choice of the format.
 */
#include "ctl/print.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>

const struct printer *printer_find(const char *name)
{
	static const struct printer *const printers[] = {
		&printer_simple, &printer_fields, &printer_json, &printer_protobuf, &printer_table,
	};

	for (size_t i = 0; i < ARRAY_SIZE(printers); i++)
		if (!strcmp(printers[i]->name, name))
			return printers[i];
	return NULL;
}

int ctl_show(struct ctl *ctl, enum show what, const void *answer)
{
	BUG_ON(what >= SHOW_MAX);
	if (!ctl->printer->show[what])
		return ctl_fail(ctl, CTL_BAD_FEATURE, "%s not supported as output format",
				ctl->printer->name);
	ctl->printer->show[what](ctl, answer);
	return ctl_flush(ctl);
}

static bool rows_make(struct print_rows *rows, size_t columns, size_t n)
{
	*rows = (struct print_rows){ .columns = columns, .n = n };
	rows->cells = calloc(columns * n + 1, sizeof(*rows->cells));
	rows->failed = !rows->cells;
	return !rows->failed;
}

void print_rows_release(struct print_rows *rows)
{
	for (size_t i = 0; rows->cells && i < rows->columns * rows->n; i++)
		free(rows->cells[i]);
	free(rows->cells);
}

static void __printf(3, 4) cell_set(struct print_rows *rows, char **cell, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	if (vasprintf(cell, fmt, args) < 0) {
		*cell = NULL;
		rows->failed = true;
	}
	va_end(args);
}

static void cell_join(struct print_rows *rows, char **cell, char *const *texts, size_t n,
		      const char *separator)
{
	size_t size;
	FILE *out = open_memstream(cell, &size);

	if (!out) {
		rows->failed = true;
		return;
	}
	for (size_t i = 0; i < n; i++)
		fprintf(out, "%s%s", i ? separator : "", texts[i]);
	fclose(out);
}

static const char *yes(bool value)
{
	return value ? "true" : "false";
}

void print_rows_members(struct print_rows *rows, const Etcdserverpb__MemberListResponse *response)
{
	if (!rows_make(rows, 6, response->n_members))
		return;
	for (size_t i = 0; i < rows->n; i++) {
		const Etcdserverpb__Member *member = response->members[i];
		char **cell = rows->cells + 6 * i;

		cell_set(rows, cell++, "%" PRIx64, member->id);
		cell_set(rows, cell++, "%s", *member->name ? "started" : "unstarted");
		cell_set(rows, cell++, "%s", member->name);
		cell_join(rows, cell++, member->peerurls, member->n_peerurls, ",");
		cell_join(rows, cell++, member->clienturls, member->n_clienturls, ",");
		cell_set(rows, cell++, "%s", yes(member->islearner));
	}
}

static void cell_size(struct print_rows *rows, char **cell, int64_t bytes)
{
	size_t size;
	FILE *out = open_memstream(cell, &size);

	if (!out) {
		rows->failed = true;
		return;
	}
	text_size(out, (uint64_t)bytes);
	fclose(out);
}

static void status_cells(struct print_rows *rows, char **cell, const struct show_status *status)
{
	const Etcdserverpb__StatusResponse *s = status->response;
	uint64_t member = s->header ? s->header->member_id : 0;
	const Etcdserverpb__DowngradeInfo *down = s->downgradeinfo;
	int64_t unused = s->dbsize ? 100 - s->dbsizeinuse * 100 / s->dbsize : 0;

	cell_set(rows, cell++, "%s", status->endpoint);
	cell_set(rows, cell++, "%" PRIx64, member);
	cell_set(rows, cell++, "%s", s->version);
	cell_set(rows, cell++, "%s", s->storageversion);
	cell_size(rows, cell++, s->dbsize);
	cell_size(rows, cell++, s->dbsizeinuse);
	cell_set(rows, cell++, "%" PRId64 "%%", unused);
	cell_size(rows, cell++, s->dbsizequota);
	cell_set(rows, cell++, "%s", yes(s->leader == member));
	cell_set(rows, cell++, "%s", yes(s->islearner));
	cell_set(rows, cell++, "%" PRIu64, s->raftterm);
	cell_set(rows, cell++, "%" PRIu64, s->raftindex);
	cell_set(rows, cell++, "%" PRIu64, s->raftappliedindex);
	cell_join(rows, cell++, s->errors, s->n_errors, ", ");
	cell_set(rows, cell++, "%s", down ? down->targetversion : "");
	cell_set(rows, cell++, "%s", yes(down && down->enabled));
}

void print_rows_statuses(struct print_rows *rows, const struct show_statuses *statuses)
{
	if (!rows_make(rows, 16, statuses->n))
		return;
	for (size_t i = 0; i < rows->n; i++)
		status_cells(rows, rows->cells + 16 * i, &statuses->at[i]);
}

void print_rows_healths(struct print_rows *rows, const struct show_healths *healths)
{
	if (!rows_make(rows, 4, healths->n))
		return;
	for (size_t i = 0; i < rows->n; i++) {
		const struct show_health *health = &healths->at[i];
		char **cell = rows->cells + 4 * i;
		size_t size;
		FILE *took;

		cell_set(rows, cell++, "%s", health->endpoint);
		cell_set(rows, cell++, "%s", yes(health->healthy));
		took = open_memstream(cell++, &size);
		if (took) {
			text_duration(took, health->took);
			fclose(took);
		} else {
			rows->failed = true;
		}
		cell_set(rows, cell++, "%s", health->error);
	}
}

void print_rows_hashes(struct print_rows *rows, const struct show_hashes *hashes)
{
	if (!rows_make(rows, 3, hashes->n))
		return;
	for (size_t i = 0; i < rows->n; i++) {
		const Etcdserverpb__HashKVResponse *response = hashes->at[i].response;
		char **cell = rows->cells + 3 * i;

		cell_set(rows, cell++, "%s", hashes->at[i].endpoint);
		cell_set(rows, cell++, "%" PRIu32, response->hash);
		cell_set(rows, cell++, "%" PRId64, response->hash_revision);
	}
}

const char *print_alarm_name(Etcdserverpb__AlarmType alarm)
{
	const ProtobufCEnumValue *value =
		protobuf_c_enum_descriptor_get_value(&etcdserverpb__alarm_type__descriptor,
						     (int)alarm);

	return value ? value->name : "UNKNOWN";
}
