// SPDX-License-Identifier: Apache-2.0
/* get, put, del and compaction. */
#include "ctl/ctl.h"
#include "ctl/print.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#define ALL_KEYS slice_of("", 1)	/* one zero byte: the first key, and no end */

/* At most this much is read from standard input; etcd takes 1.5 MiB a request. */
#define STDIN_MAX (64u << 20)

int ctl_make_range(const struct ctl_line *line, struct slice *owned, struct ctl_range *out)
{
	struct ctl_range range = { .key = ctl_arg(&line->args, 0) };

	*owned = slice_of(NULL, 0);
	if (line->args.n > 1)
		range.end = ctl_arg(&line->args, 1);
	if ((line->opt.prefix || line->opt.from_key) && !range.key.len) {
		range.key = ALL_KEYS;
		range.end = ALL_KEYS;
	} else if (line->opt.from_key) {
		range.end = ALL_KEYS;
	} else if (line->opt.prefix) {
		if (ctl_prefix_end(range.key, owned))
			return -ENOMEM;
		range.end = *owned;
	}
	*out = range;
	return 0;
}

/* What get and del have in common; @need says how many arguments there may be. */
static int check_range(struct ctl *ctl, const struct ctl_line *line)
{
	if (line->opt.prefix && line->opt.from_key)
		return ctl_fail(ctl, CTL_BAD_ARGS, "`--prefix` and `--from-key` cannot be set at "
				"the same time, choose one");
	return 0;
}

static int check_end(struct ctl *ctl, const struct ctl_line *line)
{
	if (line->args.n > 1 && (line->opt.prefix || line->opt.from_key))
		return ctl_fail(ctl, CTL_BAD_ARGS, "too many arguments, only accept one argument "
				"when `--prefix` or `--from-key` is set");
	return 0;
}

/* --- get ------------------------------------------------------------------------ */

/* A word of @names (NULL at the end), in any case: its index; -1: it is none. */
static int find_name(const char *const *names, const char *text)
{
	for (int i = 0; names[i]; i++)
		if (!strcasecmp(names[i], text))
			return i;
	return -1;
}

static int set_sort(struct ctl *ctl, const struct ctl_options *opt, Etcdserverpb__RangeRequest *out)
{
	static const char *const orders[] = { "", "ASCEND", "DESCEND", NULL };
	static const char *const targets[] = {
		"KEY", "VERSION", "CREATE", "MODIFY", "VALUE", "", NULL,
	};
	int order = find_name(orders, opt->order), target = find_name(targets, opt->sort_by);

	if (order < 0)
		return ctl_fail(ctl, CTL_BAD_FEATURE, "bad sort order %s", opt->order);
	if (target < 0)
		return ctl_fail(ctl, CTL_BAD_FEATURE, "bad sort target %s", opt->sort_by);
	out->sort_order = (Etcdserverpb__RangeRequest__SortOrder)order;
	if (*opt->sort_by)
		out->sort_target = (Etcdserverpb__RangeRequest__SortTarget)target;
	/* As clientv3: a range comes in the order of its keys anyway. */
	if (out->sort_target == ETCDSERVERPB__RANGE_REQUEST__SORT_TARGET__KEY &&
	    out->sort_order == ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__ASCEND)
		out->sort_order = ETCDSERVERPB__RANGE_REQUEST__SORT_ORDER__NONE;
	return 0;
}

static int set_revisions(struct ctl *ctl, const struct ctl_options *opt,
			 Etcdserverpb__RangeRequest *out)
{
	if (opt->max_create_rev > 0 && opt->min_create_rev > opt->max_create_rev)
		return ctl_fail(ctl, CTL_BAD_FEATURE, "getMinCreateRev(=%" PRId64
				") > getMaxCreateRev(=%" PRId64 ")", opt->min_create_rev,
				opt->max_create_rev);
	if (opt->max_mod_rev > 0 && opt->min_mod_rev > opt->max_mod_rev)
		return ctl_fail(ctl, CTL_BAD_FEATURE, "getMinModRev(=%" PRId64
				") > getMaxModRev(=%" PRId64 ")", opt->min_mod_rev,
				opt->max_mod_rev);
	out->revision = MAX(opt->rev, (int64_t)0);
	out->min_create_revision = MAX(opt->min_create_rev, (int64_t)0);
	out->max_create_revision = MAX(opt->max_create_rev, (int64_t)0);
	out->min_mod_revision = MAX(opt->min_mod_rev, (int64_t)0);
	out->max_mod_revision = MAX(opt->max_mod_rev, (int64_t)0);
	return 0;
}

static int check_get(struct ctl *ctl, const struct ctl_line *line)
{
	const struct ctl_options *opt = &line->opt;
	int status;

	if (!line->args.n)
		return ctl_fail(ctl, CTL_BAD_ARGS, "get command needs one argument as key and an "
				"optional argument as range_end");
	status = check_range(ctl, line);
	if (status)
		return status;
	if (opt->keys_only && opt->count_only)
		return ctl_fail(ctl, CTL_BAD_ARGS, "`--keys-only` and `--count-only` cannot be set "
				"at the same time, choose one");
	if (strcmp(opt->consistency, "l") && strcmp(opt->consistency, "s"))
		return ctl_fail(ctl, CTL_BAD_FEATURE, "unknown consistency flag \"%s\"",
				opt->consistency);
	return check_end(ctl, line);
}

int ctl_make_get(struct ctl *ctl, const struct ctl_line *line, struct slice *owned,
		 Etcdserverpb__RangeRequest *out)
{
	struct ctl_range range;
	int status;

	*owned = slice_of(NULL, 0);
	etcdserverpb__range_request__init(out);
	status = check_get(ctl, line);
	if (!status)
		status = set_sort(ctl, &line->opt, out);
	if (!status)
		status = set_revisions(ctl, &line->opt, out);
	if (status)
		return status;
	if (ctl_make_range(line, owned, &range))
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	out->key = ctl_bytes(range.key);
	out->range_end = ctl_bytes(range.end);
	out->limit = line->opt.limit;
	out->serializable = !strcmp(line->opt.consistency, "s");
	out->keys_only = line->opt.keys_only;
	out->count_only = line->opt.count_only;
	return 0;
}

static int show_get(struct ctl *ctl, const void *response, void *arg)
{
	if (ctl->line.opt.count_only && ctl->printer != &printer_fields)
		return ctl_fail(ctl, CTL_BAD_ARGS,
				"--count-only is only for `--write-out=fields`");
	if (ctl->line.opt.print_value_only && ctl->printer != &printer_simple)
		return ctl_fail(ctl, CTL_BAD_ARGS,
				"print-value-only is only for `--write-out=simple`");
	ctl->value_only = ctl->line.opt.print_value_only;
	return ctl_show(ctl, SHOW_GET, response);
}

int ctl_run_get(struct ctl *ctl)
{
	Etcdserverpb__RangeRequest request;
	const struct ctl_call call = {
		.method = &client_kv_range, .request = &request.base, .answer = show_get,
	};
	struct slice owned;
	int status = ctl_make_get(ctl, &ctl->line, &owned, &request);

	if (!status)
		status = ctl_call(ctl, &call);
	free((void *)owned.data);
	return status;
}

/* --- put ------------------------------------------------------------------------ */

/* All of standard input; -ENODATA: it was empty. */
static int read_value(FILE *in, struct slice *out)
{
	size_t size = 0, room = 0;
	uint8_t *bytes = NULL;

	while (!feof(in) && !ferror(in) && size < STDIN_MAX) {
		uint8_t *more;

		if (size == room) {
			room = room ? 2 * room : 4096;
			more = realloc(bytes, room);
			if (!more) {
				free(bytes);
				return -ENOMEM;
			}
			bytes = more;
		}
		size += fread(bytes + size, 1, room - size, in);
	}
	if (!size || ferror(in)) {
		free(bytes);
		return -ENODATA;
	}
	*out = slice_of(bytes, size);
	return 0;
}

static int make_value(struct ctl *ctl, const struct ctl_line *line, struct slice *owned,
		      Etcdserverpb__PutRequest *out)
{
	static const char needs[] =
		"put command needs 1 argument and input from stdin or 2 arguments";

	if (!line->args.n)
		return ctl_fail(ctl, CTL_BAD_ARGS, "%s", needs);
	if (line->opt.ignore_value && line->args.n > 1)
		return ctl_fail(ctl, CTL_BAD_ARGS,
				"put command needs only 1 argument when 'ignore-value' is set");
	if (line->args.n > 1) {
		out->value = ctl_bytes(ctl_arg(&line->args, 1));
	} else if (!line->opt.ignore_value) {
		if (read_value(ctl->in, owned))
			return ctl_fail(ctl, CTL_BAD_ARGS, "%s", needs);
		out->value = ctl_bytes(*owned);
	}
	return 0;
}

int ctl_make_put(struct ctl *ctl, const struct ctl_line *line, struct slice *owned,
		 Etcdserverpb__PutRequest *out)
{
	char why[256];
	int status;

	*owned = slice_of(NULL, 0);
	etcdserverpb__put_request__init(out);
	status = make_value(ctl, line, owned, out);
	if (status)
		return status;
	if (ctl_parse_int(slice_str(line->opt.lease), 16, &out->lease, why, sizeof(why)))
		return ctl_fail(ctl, CTL_BAD_ARGS, "bad lease ID (%s), expecting ID in Hex", why);
	out->key = ctl_bytes(ctl_arg(&line->args, 0));
	out->prev_kv = line->opt.prev_kv;
	out->ignore_value = line->opt.ignore_value;
	out->ignore_lease = line->opt.ignore_lease;
	return 0;
}

static int show_put(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_PUT, response);
}

int ctl_run_put(struct ctl *ctl)
{
	Etcdserverpb__PutRequest request;
	const struct ctl_call call = {
		.method = &client_kv_put, .request = &request.base, .answer = show_put,
	};
	struct slice owned;
	int status = ctl_make_put(ctl, &ctl->line, &owned, &request);

	if (!status)
		status = ctl_call(ctl, &call);
	free((void *)owned.data);
	return status;
}

/* --- del ------------------------------------------------------------------------ */

/* A range is quickly typed by mistake: two seconds to think it over. */
static void warn_of_range(struct ctl *ctl, const struct ctl_line *line)
{
	fputs("Warning: Keys between ", ctl->err);
	text_quote(ctl->err, ctl_arg(&line->args, 0));
	fputs(" and ", ctl->err);
	text_quote(ctl->err, ctl_arg(&line->args, 1));
	fputs(" will be deleted. Please interrupt the command within next 2 seconds to cancel. "
	      "You can provide `--range` flag to avoid the delay.\n", ctl->err);
	fflush(ctl->err);
	uv_sleep(2000);
}

int ctl_make_del(struct ctl *ctl, const struct ctl_line *line, struct slice *owned,
		 Etcdserverpb__DeleteRangeRequest *out)
{
	struct ctl_range range;
	int status;

	*owned = slice_of(NULL, 0);
	etcdserverpb__delete_range_request__init(out);
	if (!line->args.n || line->args.n > 2)
		return ctl_fail(ctl, CTL_BAD_ARGS, "del command needs one argument as key and an "
				"optional argument as range_end");
	status = check_range(ctl, line);
	if (!status)
		status = check_end(ctl, line);
	if (status)
		return status;
	if (ctl_make_range(line, owned, &range))
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	if (line->args.n > 1 && !line->opt.range)
		warn_of_range(ctl, line);
	out->key = ctl_bytes(range.key);
	out->range_end = ctl_bytes(range.end);
	out->prev_kv = line->opt.prev_kv;
	return 0;
}

static int show_del(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_DEL, response);
}

int ctl_run_del(struct ctl *ctl)
{
	Etcdserverpb__DeleteRangeRequest request;
	const struct ctl_call call = {
		.method = &client_kv_delete_range, .request = &request.base, .answer = show_del,
	};
	struct slice owned;
	int status = ctl_make_del(ctl, &ctl->line, &owned, &request);

	if (!status)
		status = ctl_call(ctl, &call);
	free((void *)owned.data);
	return status;
}

/* --- compaction ------------------------------------------------------------------- */

static int show_compaction(struct ctl *ctl, const void *response, void *arg)
{
	fprintf(ctl->out, "compacted revision %" PRId64 "\n", *(const int64_t *)arg);
	return CTL_OK;
}

int ctl_run_compaction(struct ctl *ctl)
{
	Etcdserverpb__CompactionRequest request = ETCDSERVERPB__COMPACTION_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_kv_compact, .request = &request.base,
		.answer = show_compaction, .arg = &request.revision,
	};
	char why[256];

	if (ctl->line.args.n != 1)
		return ctl_fail(ctl, CTL_BAD_ARGS, "compaction command needs 1 argument");
	if (ctl_parse_int(ctl_arg(&ctl->line.args, 0), 10, &request.revision, why, sizeof(why)))
		return ctl_fail(ctl, CTL_ERROR, "%s", why);
	request.physical = ctl->line.opt.physical;
	return ctl_call(ctl, &call);
}
