/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How answers are shown: one printer for each --write-out format. What a format cannot
 * show is NULL in its table, and an error of the command.
 */
#ifndef CTL_PRINT_H
#define CTL_PRINT_H

#include "ctl/ctl.h"

/* What is shown, with the type of the answer that goes with it. */
enum show {
	SHOW_PUT,		/* Etcdserverpb__PutResponse */
	SHOW_GET,		/* Etcdserverpb__RangeResponse */
	SHOW_DEL,		/* Etcdserverpb__DeleteRangeResponse */
	SHOW_TXN,		/* Etcdserverpb__TxnResponse */
	SHOW_WATCH,		/* Etcdserverpb__WatchResponse */
	SHOW_GRANT,		/* Etcdserverpb__LeaseGrantResponse */
	SHOW_REVOKE,		/* struct show_revoke */
	SHOW_KEEP_ALIVE,	/* Etcdserverpb__LeaseKeepAliveResponse */
	SHOW_TIME_TO_LIVE,	/* Etcdserverpb__LeaseTimeToLiveResponse */
	SHOW_LEASES,		/* Etcdserverpb__LeaseLeasesResponse */
	SHOW_MEMBERS,		/* Etcdserverpb__MemberListResponse */
	SHOW_STATUS,		/* struct show_statuses */
	SHOW_HEALTH,		/* struct show_healths */
	SHOW_HASHES,		/* struct show_hashes */
	SHOW_ALARMS,		/* Etcdserverpb__AlarmResponse */
	SHOW_MAX,
};

struct show_revoke {
	int64_t lease;
	const Etcdserverpb__LeaseRevokeResponse *response;
};

struct show_status {
	char *endpoint;
	const Etcdserverpb__StatusResponse *response;
};

struct show_statuses {
	struct show_status *at;
	size_t n;
};

struct show_health {
	char *endpoint;
	bool healthy;
	int64_t took;			/* ns */
	char error[256];		/* "": none */
};

struct show_healths {
	struct show_health *at;
	size_t n;
};

struct show_hash {
	char *endpoint;
	const Etcdserverpb__HashKVResponse *response;
};

struct show_hashes {
	struct show_hash *at;
	size_t n;
};

typedef void show_fn(struct ctl *ctl, const void *answer);

struct printer {
	const char *name;
	show_fn *show[SHOW_MAX];
};

extern const struct printer printer_simple, printer_fields, printer_json, printer_protobuf,
	printer_table;

/* NULL: there is no such format. */
const struct printer *printer_find(const char *name);
/* An exit status. */
int ctl_show(struct ctl *ctl, enum show what, const void *answer);

/* The rows that simple and table have in common. A cell is a C string. */
#define PRINT_COLUMNS_MAX 16
struct print_rows {
	size_t columns, n;
	char **cells;			/* n * columns */
	bool failed;			/* out of memory */
};
void print_rows_members(struct print_rows *rows, const Etcdserverpb__MemberListResponse *response);
void print_rows_statuses(struct print_rows *rows, const struct show_statuses *statuses);
void print_rows_healths(struct print_rows *rows, const struct show_healths *healths);
void print_rows_hashes(struct print_rows *rows, const struct show_hashes *hashes);
/* As etcd names it. */
const char *print_alarm_name(Etcdserverpb__AlarmType alarm);
void print_rows_release(struct print_rows *rows);

#endif
