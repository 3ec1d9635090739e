// SPDX-License-Identifier: Apache-2.0
/*
 * txn: comparisons and requests, a line each, in three groups that an empty line ends.
 */
#include "ctl/ctl.h"
#include "ctl/print.h"

#include <errno.h>
#include <stdlib.h>

#define TXN_LINES_MAX 1024	/* of one group; etcd takes 128 unless told otherwise */

/* One line as it was parsed; it owns what the request points into. */
struct txn_op {
	Etcdserverpb__RequestOp op;
	union {
		Etcdserverpb__RangeRequest range;
		Etcdserverpb__PutRequest put;
		Etcdserverpb__DeleteRangeRequest del;
	};
	struct ctl_args words;
	struct ctl_line line;
	struct slice owned;
};

struct txn {
	Etcdserverpb__Compare *compares[TXN_LINES_MAX];
	size_t n_compares;
	Etcdserverpb__RequestOp *ops[2][TXN_LINES_MAX];		/* success, failure */
	size_t n_ops[2];
};

/* --- comparisons ---------------------------------------------------------------- */

static const struct target {
	const char *name;
	Etcdserverpb__Compare__CompareTarget target;
	Etcdserverpb__Compare__TargetUnionCase field;
} targets[] = {
#define TARGET(name, what, field) { name, ETCDSERVERPB__COMPARE__COMPARE_TARGET__##what,	\
				    ETCDSERVERPB__COMPARE__TARGET_UNION_##field }
	TARGET("ver", VERSION, VERSION), TARGET("version", VERSION, VERSION),
	TARGET("c", CREATE, CREATE_REVISION), TARGET("create", CREATE, CREATE_REVISION),
	TARGET("m", MOD, MOD_REVISION), TARGET("mod", MOD, MOD_REVISION),
	TARGET("val", VALUE, VALUE), TARGET("value", VALUE, VALUE),
	TARGET("lease", LEASE, LEASE),
#undef TARGET
};

static const struct target *find_target(struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(targets); i++)
		if (slice_eq(slice_str(targets[i].name), name))
			return &targets[i];
	return NULL;
}

static int find_result(struct slice op, Etcdserverpb__Compare__CompareResult *out)
{
	static const char *const operators[] = { "=", ">", "<", "!=" };

	for (size_t i = 0; i < ARRAY_SIZE(operators); i++) {
		if (!slice_eq(slice_str(operators[i]), op))
			continue;
		*out = (Etcdserverpb__Compare__CompareResult)i;
		return 0;
	}
	return -EINVAL;
}

static void skip_spaces(struct slice *s)
{
	while (s->len && (*s->data == ' ' || *s->data == '\t')) {
		s->data++;
		s->len--;
	}
}

/* The parts of TARGET("key") OPERATOR "value". */
struct compare_parts {
	struct slice target, key, op, value;	/* key and value are malloc'ed */
};

/* Reads as far as the line is well-formed; -EINVAL where it is not all the way. */
static int split_compare(struct slice line, struct compare_parts *out)
{
	const uint8_t *paren = memchr(line.data, '(', line.len);
	struct slice rest;
	int err;

	*out = (struct compare_parts){ 0 };
	if (!paren)
		return -EINVAL;
	out->target = slice_of(line.data, (size_t)(paren - line.data));
	rest = slice_of(paren + 1, line.len - out->target.len - 1);
	skip_spaces(&rest);
	err = ctl_unquote(&rest, &out->key);
	if (err)
		return err;
	/* A space has to follow, as in etcdctl. */
	if (rest.len < 2 || rest.data[0] != ')' || rest.data[1] != ' ')
		return -EINVAL;
	rest = slice_of(rest.data + 1, rest.len - 1);
	skip_spaces(&rest);
	out->op.data = rest.data;
	while (rest.len && *rest.data != ' ' && *rest.data != '\t') {
		rest.data++;
		rest.len--;
		out->op.len++;
	}
	if (!out->op.len)
		return -EINVAL;
	skip_spaces(&rest);
	return ctl_unquote(&rest, &out->value);
}

static int compare_malformed(struct ctl *ctl, struct slice line, const struct compare_parts *parts)
{
	fprintf(ctl->err, "Error: malformed comparison: %.*s", (int)line.len, line.data);
	if (parts->target.data) {
		fprintf(ctl->err, "; got %.*s(", (int)parts->target.len, parts->target.data);
		text_quote(ctl->err, parts->key);
		fprintf(ctl->err, ") %.*s ", (int)parts->op.len,
			(const char *)parts->op.data ?: "");
		text_quote(ctl->err, parts->value);
	}
	fputc('\n', ctl->err);
	return CTL_INVALID_INPUT;
}

/* Sets the field of @out that @target compares with; the value is decimal but for a
 * lease, which is written in hexadecimal everywhere. */
static int set_compared(const struct target *target, struct slice value, Etcdserverpb__Compare *out)
{
	bool is_lease = target->field == ETCDSERVERPB__COMPARE__TARGET_UNION_LEASE;
	char why[128];

	out->target = target->target;
	out->target_union_case = target->field;
	if (target->field == ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE) {
		out->value = ctl_bytes(value);
		return 0;
	}
	/* They are one union of int64_t. */
	return ctl_parse_int(value, is_lease ? 16 : 10, &out->version, why, sizeof(why));
}

static int make_compare(struct ctl *ctl, struct slice line, const struct compare_parts *parts,
			Etcdserverpb__Compare *out)
{
	const struct target *target = find_target(parts->target);

	if (!target)
		return ctl_fail(ctl, CTL_INVALID_INPUT,
				"malformed comparison: %.*s (unknown target %.*s)", (int)line.len,
				line.data, (int)parts->target.len, parts->target.data);
	if (find_result(parts->op, &out->result))
		return ctl_fail(ctl, CTL_INVALID_INPUT,
				"malformed comparison: %.*s (unknown operator %.*s)",
				(int)line.len, line.data, (int)parts->op.len, parts->op.data);
	if (set_compared(target, parts->value, out))
		return ctl_fail(ctl, CTL_INVALID_INPUT, "invalid txn compare request: %.*s",
				(int)line.len, line.data);
	out->key = ctl_bytes(parts->key);
	return 0;
}

/* @out owns its key, and its value where it compares with one; see compare_release(). */
int ctl_parse_compare(struct ctl *ctl, struct slice line, Etcdserverpb__Compare *out)
{
	struct compare_parts parts;
	int status;

	etcdserverpb__compare__init(out);
	if (split_compare(line, &parts))
		status = compare_malformed(ctl, line, &parts);
	else
		status = make_compare(ctl, line, &parts, out);
	if (status)
		free((void *)parts.key.data);
	if (status || out->target_union_case != ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE)
		free((void *)parts.value.data);
	return status;
}

void ctl_compare_release(Etcdserverpb__Compare *compare)
{
	free(compare->key.data);
	if (compare->target_union_case == ETCDSERVERPB__COMPARE__TARGET_UNION_VALUE)
		free(compare->value.data);
}

/* --- requests ------------------------------------------------------------------- */

static void op_free(struct txn_op *op)
{
	free((void *)op->owned.data);
	ctl_line_release(&op->line);
	ctl_args_release(&op->words);
	free(op);
}

static const struct ctl_command *find_op(struct slice name)
{
	for (const struct ctl_command *c = ctl_commands; c->name; c++)
		if (slice_eq(slice_str(c->name), name) &&
		    (c->run == ctl_run_get || c->run == ctl_run_put || c->run == ctl_run_del))
			return c;
	return NULL;
}

static int make_request(struct ctl *ctl, const struct ctl_command *command, struct txn_op *op)
{
	if (command->run == ctl_run_get) {
		op->op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_RANGE;
		op->op.request_range = &op->range;
		return ctl_make_get(ctl, &op->line, &op->owned, &op->range);
	}
	if (command->run == ctl_run_put) {
		op->op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_PUT;
		op->op.request_put = &op->put;
		return ctl_make_put(ctl, &op->line, &op->owned, &op->put);
	}
	op->op.request_case = ETCDSERVERPB__REQUEST_OP__REQUEST_REQUEST_DELETE_RANGE;
	op->op.request_delete_range = &op->del;
	return ctl_make_del(ctl, &op->line, &op->owned, &op->del);
}

static int parse_op(struct ctl *ctl, struct slice line, struct txn_op *op)
{
	struct ctl_parse_args args = { 0 };
	struct ctl_args rest;
	char why[256];

	etcdserverpb__request_op__init(&op->op);
	if (ctl_split(line, &op->words))
		return ctl_fail(ctl, CTL_INVALID_INPUT, "invalid syntax");
	if (op->words.n < 2)
		return ctl_fail(ctl, CTL_INVALID_INPUT, "invalid txn compare request: %.*s",
				(int)line.len, line.data);
	rest = (struct ctl_args){ .at = op->words.at + 1, .n = op->words.n - 1 };
	args.command = find_op(op->words.at[0]);
	args.words = &rest;
	if (!args.command || ctl_parse(&args, &op->line, why, sizeof(why)))
		return ctl_fail(ctl, CTL_INVALID_INPUT, "invalid txn request: %.*s",
				(int)line.len, line.data);
	return make_request(ctl, args.command, op);
}

/* --- lines ---------------------------------------------------------------------- */

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* The next line without the space around it; it points into *@buf. */
static int read_line(struct ctl *ctl, char **buf, size_t *size, struct slice *out)
{
	ssize_t n = getline(buf, size, ctl->in);
	struct slice line;

	if (n <= 0 || (*buf)[n - 1] != '\n')
		return ctl_fail(ctl, CTL_INVALID_INPUT, "EOF");
	line = slice_of(*buf, (size_t)n);
	while (line.len && is_space(line.data[line.len - 1]))
		line.len--;
	while (line.len && is_space(*line.data)) {
		line.data++;
		line.len--;
	}
	*out = line;
	return 0;
}

static int add_compare(struct ctl *ctl, struct txn *txn, struct slice line)
{
	Etcdserverpb__Compare *compare;
	int status;

	if (txn->n_compares == TXN_LINES_MAX)
		return ctl_fail(ctl, CTL_INVALID_INPUT, "more than %d comparisons", TXN_LINES_MAX);
	compare = malloc(sizeof(*compare));
	if (!compare)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	status = ctl_parse_compare(ctl, line, compare);
	if (status)
		free(compare);
	else
		txn->compares[txn->n_compares++] = compare;
	return status;
}

static int add_op(struct ctl *ctl, struct txn *txn, int group, struct slice line)
{
	struct txn_op *op;
	int status;

	if (txn->n_ops[group] == TXN_LINES_MAX)
		return ctl_fail(ctl, CTL_INVALID_INPUT, "more than %d requests", TXN_LINES_MAX);
	op = calloc(1, sizeof(*op));
	if (!op)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	status = parse_op(ctl, line, op);
	if (status)
		op_free(op);
	else
		txn->ops[group][txn->n_ops[group]++] = &op->op;
	return status;
}

/* One group of lines: comparisons (-1), or the requests for success (0) or failure (1). */
static int read_group(struct ctl *ctl, struct txn *txn, int group)
{
	static const char *const prompts[] = {
		"compares:", "success requests (get, put, del):",
		"failure requests (get, put, del):",
	};
	char *buf = NULL;
	size_t size = 0;
	struct slice line;
	int status;

	if (ctl->line.opt.interactive) {
		fprintf(ctl->out, "%s\n", prompts[group + 1]);
		fflush(ctl->out);
	}
	do {
		status = read_line(ctl, &buf, &size, &line);
		if (status || !line.len)
			break;
		status = group < 0 ? add_compare(ctl, txn, line) : add_op(ctl, txn, group, line);
	} while (!status);
	free(buf);
	return status;
}

static void txn_release(struct txn *txn)
{
	for (size_t i = 0; i < txn->n_compares; i++) {
		ctl_compare_release(txn->compares[i]);
		free(txn->compares[i]);
	}
	for (int group = 0; group < 2; group++)
		for (size_t i = 0; i < txn->n_ops[group]; i++)
			op_free(container_of(txn->ops[group][i], struct txn_op, op));
	free(txn);
}

static int show_txn(struct ctl *ctl, const void *response, void *arg)
{
	return ctl_show(ctl, SHOW_TXN, response);
}

static int send_txn(struct ctl *ctl, struct txn *txn)
{
	Etcdserverpb__TxnRequest request = ETCDSERVERPB__TXN_REQUEST__INIT;
	const struct ctl_call call = {
		.method = &client_kv_txn, .request = &request.base, .answer = show_txn,
	};

	request.compare = txn->compares;
	request.n_compare = txn->n_compares;
	request.success = txn->ops[0];
	request.n_success = txn->n_ops[0];
	request.failure = txn->ops[1];
	request.n_failure = txn->n_ops[1];
	return ctl_call(ctl, &call);
}

int ctl_run_txn(struct ctl *ctl)
{
	struct txn *txn;
	int status = 0;

	if (ctl->line.args.n)
		return ctl_fail(ctl, CTL_BAD_ARGS, "txn command does not accept argument");
	txn = calloc(1, sizeof(*txn));
	if (!txn)
		return ctl_fail(ctl, CTL_ERROR, "out of memory");
	for (int group = -1; !status && group < 2; group++)
		status = read_group(ctl, txn, group);
	if (!status)
		status = send_txn(ctl, txn);
	txn_release(txn);
	return status;
}
